import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kite, writeKiteKey } from "@kite-mesh/kite";
import { createKontrol, type Kontrol } from "@kite-mesh/kontrol";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../postgres.ts";
import { program } from "../programs.ts";
import { TerminalProgram } from "../terminal-program.ts";

const KITE_BIN = program("kite");

// Against a real kontrol: a person alice who is signed in at `desk`, and a machine without a key.

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
let root: string;
let desk: string;
let kontrol: Kontrol;
let next = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-login-"));
  desk = join(root, "desk");
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  kontrol = await createKontrol({ databaseUrl: await freshDatabase(), log: silent });
  await kontrol.ensureAccount({ username: "alice", kind: "person", admin: false });
  await writeKiteKey(desk, await kontrol.issueKey("alice"));
});
afterAll(async () => {
  await kontrol?.close();
  await rm(root, { recursive: true, force: true });
});

test("a machine that shows its code is let in by kite approve, and has a kite.key that only its owner reads", async () => {
  const home = newHome();
  const login = start(home, ["login", "--kontrol", kontrol.url]);
  const code = await shown(login, /kite approve ([A-Z]{4}-[A-Z]{4})/);

  const approved = await kite(desk, ["approve", code, "--yes"]);
  const ended = await login.ended;

  expect(approved).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/asks from 127\.0\.0\.1 since .*\nit has a kite\.key of alice now/),
  });
  expect(ended).toMatchObject({ status: 0, stdout: expect.stringContaining("you are alice on this machine now") });
  expect((await stat(join(home, "kite.key"))).mode & 0o777).toBe(0o400);
  expect((await kite(home, ["whoami"])).stdout).toBe("alice (person)\n");
});

test("a machine that is denied says so, and has no key", async () => {
  const home = newHome();
  const login = start(home, ["login", "--kontrol", kontrol.url, "--json"]);
  const code = await shown(login, /"userCode":"([A-Z]{4}-[A-Z]{4})"/);

  expect(await kite(desk, ["approve", code, "--deny"])).toMatchObject({ status: 0 });

  expect(await login.ended).toMatchObject({ status: 1, stderr: expect.stringContaining("alice has denied this login") });
  await expect(readFile(join(home, "kite.key"))).rejects.toMatchObject({ code: "ENOENT" });
});

test("without a terminal nothing is approved that nobody agreed to, and the machine still waits", async () => {
  const login = start(newHome(), ["login", "--kontrol", kontrol.url]);
  const code = await shown(login, /kite approve ([A-Z]{4}-[A-Z]{4})/);

  const asked = await kite(desk, ["approve", code]);

  expect(asked).toMatchObject({ status: 2, stderr: expect.stringContaining("add --yes to agree") });
  expect(login.child.exitCode).toBe(null);
  login.child.kill("SIGINT");
  expect(await login.ended).toMatchObject({ status: 130, stderr: expect.not.stringContaining("kite:") });
});

test("a password is set, gives a key to a machine, and neither stands on the screen nor in the arguments", async () => {
  expect(await kite(desk, ["password"], "correct horse battery\n")).toMatchObject({ status: 0, stdout: "your password was set\n" });
  const home = newHome();

  using terminal = new TerminalProgram(process.execPath, [KITE_BIN, "login", "--kontrol", kontrol.url, "--password"], {
    cwd: root,
    env: { ...process.env, KITE_HOME: home },
  });
  await terminal.shows(/Username: /);
  terminal.type("alice\r");
  await terminal.shows(/Password of alice: /);
  terminal.type("correct horse battery\r");
  await terminal.shows(/^(?!.*horse)[\s\S]*you are alice on this machine now/);

  expect(await terminal.exited()).toBe(0);
  expect((await kite(home, ["whoami"])).stdout).toBe("alice (person)\n");
});

test("a wrong password gives nothing, and a changed one needs the one before", async () => {
  await kite(desk, ["password"], "correct horse battery\ncorrect horse battery\n");

  const wrong = await kite(newHome(), ["login", "--kontrol", kontrol.url, "--password", "--username", "alice"], "wrong\n");
  const unchanged = await kite(desk, ["password"], "wrong\nanother horse battery\n");
  const removed = await kite(desk, ["password", "--remove"], "correct horse battery\n");

  expect(wrong).toMatchObject({ status: 1, stderr: expect.stringContaining("the username or the password is wrong") });
  expect(wrong.stderr).not.toContain("KITE_HOME");
  expect(unchanged).toMatchObject({ status: 1, stderr: expect.stringContaining("the current password is wrong") });
  expect(removed).toMatchObject({ status: 0, stdout: "your password was removed\n" });
});

test("a key that is there is not overwritten, logout revokes it everywhere, and then there is nobody to sign out", async () => {
  const home = newHome();
  await writeKiteKey(home, await kontrol.issueKey("alice"));
  const copy = await readFile(join(home, "kite.key"), "utf8");

  const again = await kite(home, ["login"]);
  const out = await kite(home, ["logout", "--json"]);
  const nobody = await kite(home, ["logout"]);

  expect(again).toMatchObject({ status: 1, stderr: expect.stringContaining("there is a kite.key at") });
  expect(out.stderr).toBe("");
  expect([out.status, JSON.parse(out.stdout)]).toEqual([0, { revoked: true, path: join(home, "kite.key") }]);
  expect(nobody).toMatchObject({ status: 3, stderr: expect.stringContaining("nobody is signed in here") });
  await using thief = new Kite({ name: "thief", version: "1.0.0", kiteKey: copy.trim(), kontrolUrl: kontrol.url });
  await expect(thief.find({})).rejects.toMatchObject({ code: "unauthenticated" });
});

test("without an address of a mesh it says how to name one", async () => {
  const asked = await kite(newHome(), ["login"]);

  expect(asked).toMatchObject({ status: 2, stderr: expect.stringContaining("kite login --kontrol") });
});

function newHome(): string {
  return join(root, `machine-${next++}`);
}

function start(home: string, args: readonly string[], input?: string) {
  const env = { ...process.env, KITE_HOME: home, KITE_KONTROL_URL: "" };
  const child = spawn(process.execPath, [KITE_BIN, ...args], { cwd: root, env });
  const heard = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (heard.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (heard.stderr += chunk.toString()));
  if (input !== undefined) child.stdin.end(input);
  const ended = once(child, "close").then(([code]) => ({ status: Number(code), ...heard }));
  return { child, heard, ended };
}

function kite(home: string, args: readonly string[], input = "") {
  return start(home, args, input).ended;
}

async function shown({ heard }: ReturnType<typeof start>, pattern: RegExp): Promise<string> {
  return vi.waitFor(
    () => {
      const found = pattern.exec(heard.stdout + heard.stderr)?.[1];
      if (found === undefined) throw new Error(`nothing like ${pattern} yet: ${heard.stdout}${heard.stderr}`);
      return found;
    },
    { timeout: 60_000, interval: 50 },
  );
}
