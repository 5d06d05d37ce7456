import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kite, type Logger, method } from "@kite-mesh/kite";
import { createKontrol, type Kontrol } from "@kite-mesh/kontrol";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { CHECKOUT, KITE_COMMAND } from "../mesh.ts";
import { freshDatabase } from "../postgres.ts";

// Alice shares a kite with a team by the `kite` command, and bob comes and goes: each test goes on where the one before stopped.

// Every command is a process that loads the library, on a core that others use too.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };
let homes: string;
let kontrol: Kontrol;
let desk: Kite;

beforeAll(async () => {
  kontrol = await createKontrol({ databaseUrl: await freshDatabase(), log: silent });
  homes = await mkdtemp(join(tmpdir(), "kite-teams-"));
  for (const username of ["alice", "bob"]) {
    await kontrol.ensureAccount({ username, kind: "person", admin: false });
    await mkdir(join(homes, username));
    await writeFile(join(homes, username, "kite.key"), await kontrol.issueKey(username));
  }
  const who = method({ role: "viewer" }, ({ caller }) => `${caller.username} is ${caller.role}`);
  desk = new Kite({ name: "desk", version: "1.0.0", methods: { who }, kiteKey: await kontrol.issueKey("alice"), log: silent });
  await desk.listen();
  await desk.register();
});

afterAll(async () => {
  await desk?.close();
  await kontrol?.close();
  await rm(homes, { recursive: true, force: true });
});

test("a team is made, filled and shown", async () => {
  expect(await as("alice", "team", "list")).toEqual(done("you are in no team; kite team create makes one"));
  expect(await as("alice", "team", "create", "ops")).toEqual(done("you look after ops; kite team add ops <username> adds others"));
  expect(await as("alice", "team", "add", "ops", "bob")).toEqual(done("bob was added to ops, as a member"));

  expect((await as("bob", "team", "list")).stdout).toMatch(/^NAME +MEMBERS +YOU ARE\nops +2 +member\n$/);
  expect((await as("bob", "team", "show", "ops")).stdout).toMatch(/^USERNAME +ROLE\nalice +maintainer\nbob +member\n$/);
});

test("what is given to the team whoever is in it has, until he leaves", async () => {
  expect((await as("bob", "list", "desk")).stdout).toBe("no kites\n");
  const given = await as("alice", "grant", "add", "desk", "--team", "ops", "--role", "operator", "--until", "8h", "--json");
  expect(JSON.parse(given.stdout)).toMatchObject({ team: "ops", role: "operator", query: { username: "alice", name: "desk" } });
  expect((await as("bob", "call", "desk", "who")).stdout).toBe('"bob is operator"\n');
  expect((await as("bob", "team", "show", "ops")).stdout).toMatch(/\nKITES +TO +ROLE +UNTIL +ID\n\/alice\/\/desk +team ops +operator/);

  expect(await as("bob", "team", "leave", "ops")).toEqual(done("you are not in ops any more"));

  expect((await as("bob", "list", "desk")).stdout).toBe("no kites\n");
  expect(await as("bob", "team", "show", "ops")).toMatchObject({
    status: 1,
    stderr: 'kite: there is no team "ops", or you are not in it\n',
  });
});

test("a grant is listed and taken back, and a team is removed for good", async () => {
  const grants = JSON.parse((await as("alice", "grant", "list", "--json")).stdout) as { id: string }[];
  const id = grants[0]?.id ?? "";
  expect((await as("alice", "grant", "list")).stdout).toContain(id);

  expect(await as("alice", "grant", "remove", id)).toEqual(done(`${id} is taken back`));
  expect(await as("alice", "grant", "remove", id)).toMatchObject({ status: 1, stderr: expect.stringContaining("you gave no grant") });
  expect(await as("alice", "team", "leave", "ops")).toMatchObject({ status: 1, stderr: expect.stringContaining("nobody else maintains") });
  expect(await as("alice", "team", "remove", "ops")).toEqual(done("ops is no team any more, and nobody has anything by it"));
  expect(await as("alice", "team", "create", "ops")).toMatchObject({ status: 1, stderr: expect.stringContaining("never given twice") });
});

function done(line: string) {
  return { status: 0, stdout: `${line}\n`, stderr: "" };
}

async function as(username: string, ...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const { KITE_KONTROL_URL: _url, ...outer } = process.env;
  const child = spawn(process.execPath, [KITE_COMMAND, ...args], {
    cwd: CHECKOUT,
    env: { ...outer, KITE_HOME: join(homes, username) },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 100_000,
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString()));
  const [status] = (await once(child, "close")) as [number | null];
  return { status, ...output };
}
