import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Logger } from "@kite-mesh/kite";
import { createKontrol, type Kontrol } from "@kite-mesh/kontrol";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { freshDatabase } from "../postgres.ts";
import { program } from "../programs.ts";

// What `kontrol` does on the database an administrator does with `kite` over the network: the same nouns and verbs, on the same mesh.

// Every command is a process that loads the library, on a core that others use too.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };
const databaseUrl = await freshDatabase();
let home: string;
let kontrol: Kontrol;

beforeAll(async () => {
  kontrol = await createKontrol({ databaseUrl, log: silent });
  home = await mkdtemp(join(tmpdir(), "kite-administration-"));
  await kontrol.ensureAccount({ username: "root", kind: "person", admin: true });
  await writeFile(join(home, "kite.key"), await kontrol.issueKey("root"));
});
afterAll(async () => {
  await kontrol?.close();
  await rm(home, { recursive: true, force: true });
});

describe.each(["key", "person", "team", "grant"])("kontrol %s", (noun) => {
  test("has no verb that kite has not", async () => {
    const [local, remote] = [await verbs("kontrol", noun), await verbs("kite", noun)];

    expect(local.length).toBeGreaterThan(2);
    expect(remote).toEqual(expect.arrayContaining(local));
  });
});

test("what an administrator does over the network is what whoever runs kontrol reads, and the other way round", async () => {
  await did("kite", "person", "add", "zoe", "--name", "Zoë");
  await did("kontrol", "person", "add", "yan");
  expect(await read("kontrol", "person", "show", "zoe")).toMatchObject({ username: "zoe", name: "Zoë", state: "active" });
  expect(await read("kite", "person", "show", "yan")).toMatchObject({ username: "yan", state: "active" });
  expect(await read("kite", "person", "list")).toEqual(await read("kontrol", "person", "list"));

  await did("kite", "team", "create", "ops", "--maintainer", "zoe");
  await did("kite", "team", "add", "ops", "yan");
  await did("kontrol", "team", "add", "ops", "root");
  expect(await read("kite", "team", "show", "ops")).toMatchObject(await read<object>("kontrol", "team", "show", "ops"));
  await did("kite", "team", "remove-member", "ops", "yan");
  expect(await read("kontrol", "team", "show", "ops")).toMatchObject({ members: [{ username: "root" }, { username: "zoe" }] });

  await did("kite", "grant", "add", "math", "yan", "--role", "operator");
  const [grant] = await read<{ id: string }[]>("kontrol", "grant", "list", "--owner", "root");
  expect(await read("kite", "grant", "list")).toEqual([grant]);
  await did("kite", "grant", "remove", String(grant?.id));
  expect(await read("kontrol", "grant", "list")).toEqual([]);

  await did("kite", "key", "issue", "zoe", "--print");
  const [issued] = await read<{ jti: string }[]>("kontrol", "key", "issued", "zoe");
  expect(await read("kite", "key", "issued", "zoe")).toEqual([issued]);
  await did("kite", "key", "revoke", String(issued?.jti));
  expect(await read("kontrol", "key", "issued", "zoe")).toMatchObject([{ revokedAt: expect.any(String) }]);

  const [first] = await read<{ kid: string }[]>("kontrol", "key", "list");
  await did("kite", "key", "add");
  await did("kite", "key", "retire", String(first?.kid));
  const keys = await read<{ kid: string; state: string }[]>("kontrol", "key", "list");
  expect(keys.map(({ state }) => state)).toEqual(["active", "retired"]);
  expect(await read("kite", "key", "list")).toEqual(keys);

  await did("kite", "team", "remove", "ops");
  await did("kite", "person", "remove", "yan");
  expect(await read("kontrol", "team", "list")).toEqual([]);
  expect(await read("kontrol", "person", "show", "yan")).toMatchObject({ state: "removed" });

  const audited = await read<{ entries: { actor: string; action: string }[] }>("kite", "audit", "--limit", "100");
  expect(audited).toEqual(await read("kontrol", "audit", "--limit", "100"));
  const byRoot = audited.entries.filter(({ actor }) => actor === "root").map(({ action }) => action);
  expect(byRoot.toReversed()).toEqual([
    ...["people.create", "teams.create", "teams.add", "teams.removeMember", "grants.add", "grants.remove"],
    ...["keys.issue", "keys.revoke", "keys.add", "keys.retire", "teams.remove", "people.remove"],
  ]);
});

/** What a noun's help lists. */
async function verbs(command: "kite" | "kontrol", noun: string): Promise<string[]> {
  const { stdout } = await run(command, noun, "--help");
  const [, listed = ""] = stdout.split(/^Commands:\n/m);
  return [...listed.matchAll(/^ {2}([a-z-]+)/gm)].map(([, verb]) => String(verb)).filter((verb) => verb !== "help");
}

async function did(command: "kite" | "kontrol", ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await run(command, ...args);
  expect([args, status, status === 0 ? "" : stderr]).toEqual([args, 0, ""]);
  return stdout;
}

async function read<T>(command: "kite" | "kontrol", ...args: string[]): Promise<T> {
  return JSON.parse(await did(command, ...args, "--json")) as T;
}

async function run(command: "kite" | "kontrol", ...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const { PATH } = process.env;
  const child = spawn(process.execPath, [program(command), ...args], {
    cwd: home,
    env: { PATH, KITE_HOME: home, KONTROL_DATABASE_URL: databaseUrl },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) child[name].setEncoding("utf8").on("data", (text: string) => (said[name] += text));
  const [status] = (await once(child, "close")) as [number];
  return { status, ...said };
}
