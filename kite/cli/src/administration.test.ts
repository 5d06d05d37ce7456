import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { KiteError, type Methods, method } from "@kite-mesh/kite";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { z } from "zod";
import { openTestMesh, type TestMesh } from "./test-mesh.ts";

// Every command is a process that loads the library, on a core that others use too.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const any = z.any();
const at = "2026-01-02T03:04:05.000Z";
let asked: unknown[];
let mesh: TestMesh;
beforeAll(async () => {
  mesh = await openTestMesh({}, process.env, kontrolMethods());
});
beforeEach(() => {
  asked = [];
});
afterAll(() => mesh[Symbol.asyncDispose]());

/** Answers as kontrol does, and remembers what was asked. */
function kontrolMethods(): Methods {
  const answers = <T>(result: T) =>
    method({ role: "viewer", input: any }, (input) => {
      asked.push(input);
      return result;
    });
  const removal = (known: string) =>
    method({ role: "viewer", input: any }, (input) => ({ removed: Object.values(input as object).includes(known) }));
  const key = { kid: "k2", alg: "EdDSA", state: "active", createdAt: Date.parse(at), retiredAt: null };
  return {
    keys: {
      list: answers([key, { ...key, kid: "k1", state: "retired", retiredAt: Date.parse(at) }]),
      add: answers(key),
      retire: answers({ retired: true, refusedAfter: Date.parse(at) }),
      issue: method({ role: "viewer", input: any }, (input) => {
        if (input.username === "nobody") throw new KiteError("not_found", 'there is no active account "nobody"');
        return { kiteKey: `credential of ${input.username}` };
      }),
      issued: answers([{ jti: "j1", username: "bob", machine: true, issuedAt: at, revokedAt: null }]),
      revoke: method({ role: "viewer", input: any }, ({ jti }) => ({ revoked: jti === "j1" })),
    },
    audit: { list: answers({ entries: [{ id: 7, at, actor: "alice", action: "people.create", subject: "bob", details: {} }], next: 7 }) },
    teams: { remove: removal("ops"), removeMember: removal("ops") },
    grants: { remove: removal("g1") },
    people: {
      remove: removal("bob"),
      list: answers([{ username: "bob", name: "Bob", kind: "person", admin: false, state: "active", external: [] }]),
    },
  };
}

test.each<[string[], RegExp, unknown]>([
  [["key", "list"], /^KEY +ALGORITHM +STATE +MADE +RETIRED\nk2 +EdDSA +active .* -\nk1 +EdDSA +retired /, undefined],
  [["key", "retire", "k1"], /^k1 signs no more; what it signed is believed until /, { kid: "k1" }],
  [
    ["key", "issued", "bob", "--limit", "5"],
    /^ID +USERNAME +FOR +ISSUED +REVOKED\nj1 +bob +a machine +.* -\n$/,
    { username: "bob", limit: 5 },
  ],
  [["key", "revoke", "j1"], /^the kite\.key j1 opens nothing any more\n$/, undefined],
  [["key", "issue", "bob", "--print"], /^credential of bob\n$/, undefined],
  [
    ["audit", "--actor", "alice", "--before", "9"],
    /^WHEN +WHO +DID +TO +DETAILS\n.* alice +people\.create +bob +\{\}\n$/,
    { actor: "alice", before: 9 },
  ],
  [["person", "list"], /^USERNAME +NAME +KIND +RANK +STATE +FROM\nbob +Bob +person +member +active +here\n$/, undefined],
  [["people", "list"], /^USERNAME .*\nbob /, undefined],
])("%j asks kontrol, and shows a table", async (args, shown, question) => {
  const { status, stdout, stderr } = await mesh.run(...args);

  expect([status, stderr.replace(/^there is more: --before 7\n$/, "")]).toEqual([0, ""]);
  expect(stdout).toMatch(shown);
  if (question !== undefined) expect(asked).toEqual([question]);
});

test.each<[string[], string, string]>([
  [["person", "remove"], "bob", "there is nobody called x; kite person list shows everybody"],
  [["team", "remove"], "ops", "there is no team x, or you are not in it; kite team list shows yours"],
  [["team", "leave"], "ops", "you are in no team x; kite team list shows yours"],
  [["grant", "remove"], "g1", "you gave no grant x; kite grant list shows those that you did"],
  [["key", "revoke"], "j1", "there is no kite.key x that you could revoke; kite key issued shows those that were issued"],
])("%j says whether it did anything, to people, to programs and by its status", async (command, known, nothing) => {
  const [done, told, failed] = await Promise.all([
    mesh.run(...command, known),
    mesh.run(...command, known, "--json"),
    mesh.run(...command, "x", "--json"),
  ]);

  expect([done.status, done.stderr, told.status]).toEqual([0, "", 0]);
  expect(JSON.parse(told.stdout)).toEqual({ [command[1] === "revoke" ? "revoked" : "removed"]: true });
  expect(failed).toEqual({ status: 1, stdout: "", stderr: `kite: ${nothing}\n` });
});

test("a kite.key goes into a file for its owner alone, and not over another one", async () => {
  const first = await mesh.run("key", "issue", "bob");
  const second = await mesh.run("key", "issue", "bob", "-o", "bob.kite.key");
  const nobody = await mesh.run("key", "issue", "nobody");

  const path = join(mesh.home, "bob.kite.key");
  expect(first).toMatchObject({ status: 0, stdout: expect.stringMatching(/^the kite\.key of bob is at .*bob\.kite\.key\n$/) });
  expect(first.stdout + first.stderr).not.toContain("credential");
  expect([await readFile(path, "utf8"), (await stat(path)).mode & 0o777]).toEqual(["credential of bob\n", 0o400]);
  expect(second).toMatchObject({ status: 1, stderr: expect.stringContaining("there is a file") });
  expect(nobody).toMatchObject({ status: 1, stderr: 'kite: there is no active account "nobody"\n' });
  await expect(stat(join(mesh.home, "nobody.kite.key"))).rejects.toMatchObject({ code: "ENOENT" });
});

test("two places for one key are one too many", async () => {
  expect(await mesh.run("key", "issue", "bob", "--print", "-o", "x")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("--print and --out"),
  });
});
