import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Kite, readKiteKey } from "@kite-mesh/kite";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { program } from "../../test/programs.ts";
import type { KontrolContract } from "./contract.ts";

// Each command is a process that loads kontrol, a second of work on a core that others use too.
vi.setConfig({ testTimeout: 90_000 });

const databaseUrl = await freshDatabase();
const BIN = new URL("../bin/kontrol.js", import.meta.url).pathname;
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kontrol-"));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

test("init makes an administrator with a kite.key, and serve answers until it is told to stop", async () => {
  const settings = { KONTROL_DATABASE_URL: databaseUrl, KONTROL_URL: "http://127.0.0.1:4000", KITE_HOME: join(root, "alice") };

  // The command itself, which runs from its sources in a checkout.
  expect(await ended(run(["init", "alice"], settings, BIN))).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("alice is an administrator"),
  });
  expect((await stat(join(root, "alice", "kite.key"))).mode & 0o777).toBe(0o400);
  expect(await ended(run(["init", "alice"], settings))).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("there is a kite.key at"),
  });

  await using serving = await serve(databaseUrl);
  await using kite = await kiteOf("alice", serving.url);
  expect(await kite.kontrol<KontrolContract>().whoami()).toEqual({ username: "alice", admin: true, kind: "person" });

  serving.child.kill("SIGTERM");
  expect(await serving.exit).toMatchObject({ code: 0 });
});

test("beside a kontrol that serves, init and person leave its address alone and take effect there at once", async () => {
  const url = await freshDatabase();
  await using serving = await serve(url);
  const commanded = (args: string[], home = "root") => ended(run([...args, "--database-url", url], { KITE_HOME: join(root, home) }));

  expect(await commanded(["init", "root"])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`sends its bearer to ${serving.url}`),
  });
  await using kite = await kiteOf("root", serving.url);
  const mesh = kite.kontrol<KontrolContract>();
  const before = await mesh.getKites({ query: { name: "kontrol" } });
  expect(await commanded(["person", "add", "bob", "--json"])).toMatchObject({ code: 0 });
  const out = join(root, "bob.key");
  expect(await commanded(["key", "issue", "bob", "--out", out])).toMatchObject({ code: 0, stdout: expect.not.stringContaining("eyJ") });

  // The kontrol that serves knows bob and his key without having been told by anybody but the log.
  expect((await stat(out)).mode & 0o777).toBe(0o400);
  await using his = new Kite({ name: "bob", version: "1.0.0", kiteKey: (await readFile(out, "utf8")).trim(), kontrolUrl: serving.url });
  expect(await his.kontrol<KontrolContract>().whoami()).toMatchObject({ username: "bob" });
  const ends = vi.waitFor(() => expect(his.kontrol<KontrolContract>().whoami()).rejects.toMatchObject({ code: "unauthenticated" }), {
    timeout: 60_000,
  });
  expect(await commanded(["person", "remove", "bob"])).toMatchObject({ code: 0, stdout: "bob has no access any more\n" });
  await ends;

  const after = await mesh.getKites({ query: { name: "kontrol" } });
  expect(after.kites.map((found) => [found.url, found.registeredAt])).toEqual(before.kites.map((found) => [found.url, found.registeredAt]));
  expect(after.kites.map((found) => found.url)).toEqual([serving.url]);
});

test.each<[string, string[], Record<string, string>, number, RegExp]>([
  ["no database", ["serve"], {}, 2, /^kontrol: KONTROL_DATABASE_URL is not set/],
  [
    "an address that is missing",
    ["serve", "--host", "0.0.0.0"],
    { KONTROL_DATABASE_URL: databaseUrl },
    2,
    /^kontrol: KONTROL_URL is not set, and KONTROL_HOST is 0\.0\.0\.0/,
  ],
  [
    "a database that is away",
    ["audit"],
    { KONTROL_DATABASE_URL: "postgres://me:secret@127.0.0.1:1/x" },
    3,
    /^kontrol: no PostgreSQL at 127\.0\.0\.1:1\/x/,
  ],
])("%s is answered with one line and a status", async (_title, args, settings, code, line) => {
  const answer = await ended(run(args, settings));

  expect(answer).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(line) });
  expect(answer.stderr).not.toContain("secret");
});

/** A kontrol that is killed at the end if it did not end by itself. */
async function serve(url: string) {
  const child = run(["serve", "--port", "0"], { KONTROL_DATABASE_URL: url });
  const exit = ended(child);
  return {
    child,
    exit,
    url: await urlOf(child),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await exit;
    },
  };
}

async function kiteOf(home: string, kontrolUrl: string): Promise<Kite> {
  const { jwt } = await readKiteKey(join(root, home));
  return new Kite({ name: "test", version: "1.0.0", kiteKey: jwt, kontrolUrl });
}

function run(args: string[], settings: Record<string, string>, file = program("kontrol")): ChildProcess {
  const env = { PATH: process.env.PATH, HOME: root, ...settings };
  return spawn(process.execPath, [file, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
}

async function ended(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const said = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) child[name]?.on("data", (chunk: Buffer) => (said[name] += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...said };
}

async function urlOf(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the child has no output");
  for await (const line of createInterface({ input: child.stdout })) {
    const { msg, url } = JSON.parse(line) as { msg: string; url?: string };
    if (msg === "kontrol is up" && url !== undefined) return url;
  }
  throw new Error("kontrol ended before it was up");
}
