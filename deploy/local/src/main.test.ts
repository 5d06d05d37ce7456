import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { program } from "../../../test/programs.ts";
import { CHECKOUT } from "./options.ts";

// Every test starts a process that loads the services, on cores that others use too. That a good start works is told in test/.
vi.setConfig({ testTimeout: 30_000 });

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-main-"));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

test("help says which settings there are", async () => {
  const { status, stdout } = await start({}, ["--help"]);

  expect(status).toBe(0);
  for (const name of ["KITE_HOME", "KONTROL_PORT", "GATEWAY_PORT", "GITLAB_HOOK_TOKEN", "KITE_POSTGRES_URL"])
    expect(stdout).toContain(name);
});

test("a reader of the help that has seen enough is no failure", async () => {
  const piped = ["-o", "pipefail", "-c", '"$@" | true', "bash", process.execPath, program("mesh"), "--help"];

  const outcome = await new Promise<unknown>((resolve) => {
    execFile("bash", piped, { cwd: CHECKOUT, timeout: 25_000 }, (error, stdout, stderr) =>
      resolve({ failed: error !== null, stdout, stderr }),
    );
  });

  expect(outcome).toEqual({ failed: false, stdout: "", stderr: "" });
});

test("arguments are refused: settings are variables", async () => {
  expect(await start({}, ["--port", "80"])).toMatchObject({ status: 2, stderr: expect.stringContaining("got --port 80") });
});

test("a port that is taken ends the start before anything was started", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const { port } = taken.address() as { port: number };
  const home = join(root, "taken");

  const outcome = await start({ KITE_HOME: home, KONTROL_PORT: String(port) });

  expect(outcome).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^npm start: port \d+ on 127\.0\.0\.1 is taken.*KONTROL_PORT.*\n$/),
  });
  expect(await readdir(home)).toEqual(["version"]);
  taken.close();
});

test("one port for both services is refused by the names of its settings", async () => {
  const home = join(root, "both");

  const outcome = await start({ KITE_HOME: home, KONTROL_PORT: "4100", GATEWAY_PORT: "4100" });

  expect(outcome).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^npm start: KONTROL_PORT and GATEWAY_PORT should be two ports, and both are 4100/),
  });
  expect(await readdir(home)).toEqual(["version"]);
});

test("a home of a newer version is left alone", async () => {
  const home = join(root, "newer");
  await mkdir(home);
  await writeFile(join(home, "version"), "99\n");

  expect(await start({ KITE_HOME: home })).toMatchObject({ status: 1, stderr: expect.stringContaining("written by a newer version") });

  expect(await readdir(home)).toEqual(["version"]);
});

test("a database that does not answer is named without its password, and nothing stays locked", async () => {
  const home = join(root, "database");
  const settings = { KITE_HOME: home, KITE_POSTGRES_URL: "postgresql://mesh:planted-secret@127.0.0.1:1/mesh" };

  const { status, stdout, stderr } = await start(settings);

  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(/^npm start: KITE_POSTGRES_URL names a PostgreSQL at 127\.0\.0\.1:1 that does not answer/),
  ]);
  expect(stdout + stderr).not.toContain("planted-secret");
  expect(await readdir(home)).not.toContain("mesh.lock");
});

function start(settings: Record<string, string>, args: string[] = []) {
  const env = { ...process.env, KITE_HOME: join(root, "unused"), KONTROL_PORT: "0", GATEWAY_PORT: "0", ...settings };
  return new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [program("mesh"), ...args], { cwd: CHECKOUT, env, timeout: 25_000 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}
