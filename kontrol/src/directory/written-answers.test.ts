import { randomUUID } from "node:crypto";
import type { Call, FoundKites, Query } from "@kite-mesh/kite";
import { expect, test } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { Directory } from "./directory.ts";
import type { QueryOptions } from "./query.ts";
import { keptKites, writeKites } from "./written-answers.ts";

const NOW = 1_700_000_000_000;
const ALICE = { username: "alice", kind: "person", admin: false, state: "active" } as const;
const BOB = { ...ALICE, username: "bob" } as const;
const MATH = { name: "math" };

test("who asks again is told the same kites, and nobody is told what was found for somebody else", async () => {
  const mesh = openMesh(["a", "b", "c"]);

  const answers = [await mesh.ask("alice", MATH), await mesh.ask("alice", MATH), await mesh.ask("bob", MATH)];

  expect(answers.map(idsOf)).toEqual([["a", "b", "c"], ["a", "b", "c"], []]);
  expect(mesh.signed).toHaveLength(3);
});

test("a grant that was taken back is not in the next answer", async () => {
  const mesh = openMesh(["a"]);
  mesh.change({
    kind: "grant.added",
    grant: { id: "g", owner: "alice", username: "bob", role: "viewer", query: { username: "alice" }, expiresAt: null },
  });
  const before = await mesh.ask("bob", MATH);

  mesh.change({ kind: "grant.removed", id: "g", username: "bob" });

  expect(idsOf(before)).toEqual(["a"]);
  expect(await mesh.ask("bob", MATH, before.tag)).toMatchObject({ kites: [] });
  expect(await mesh.ask("bob", MATH, before.tag)).not.toHaveProperty("unchanged");
});

test("who names the answer that he still has is told that it is unchanged, also after changes elsewhere in the mesh", async () => {
  const mesh = openMesh(["a", "b"]);
  const { tag } = await mesh.ask("alice", MATH);

  const again = await mesh.ask("alice", MATH, tag);
  mesh.change({ kind: "kite.registered", record: recordOf("c", { generation: mesh.revision + 1, name: "disk" }) });
  const later = await mesh.ask("alice", MATH, tag);

  expect(again).toEqual({ kites: [], revision: expect.any(String), unchanged: true });
  expect(later).toEqual({ kites: [], revision: String(mesh.revision), unchanged: true });
});

const CHANGES: readonly (readonly [string, (mesh: Mesh) => unknown])[] = [
  ["a kite came", (mesh) => mesh.change({ kind: "kite.registered", record: recordOf("c", { generation: mesh.revision + 1 }) })],
  ["a kite left", (mesh) => mesh.change({ kind: "kite.gone", id: "a", generation: mesh.generationOf("a"), reason: "it left" })],
  ["a label changed", (mesh) => mesh.change({ kind: "kite.labelled", id: "a", generation: mesh.generationOf("a"), labels: { load: "1" } })],
  ["a token was replaced", (mesh) => mesh.forget()],
];

test.each(CHANGES)("an answer is given in full again when %s, and has another tag", async (_, change) => {
  const mesh = openMesh(["a", "b"]);
  const { tag } = await mesh.ask("alice", MATH);

  change(mesh);
  mesh.change({ kind: "account.changed", account: BOB });
  const answer = await mesh.ask("alice", MATH, tag);

  expect(answer).not.toHaveProperty("unchanged");
  expect(answer.kites).not.toEqual([]);
  expect(answer.tag).not.toBe(tag);
});

test("the tag of another kontrol, or of somebody else, is not known", async () => {
  const mesh = openMesh(["a", "b"]);
  const { tag } = await mesh.ask("alice", MATH);

  expect(await openMesh(["a", "b"]).ask("alice", MATH, tag)).not.toHaveProperty("unchanged");
  expect(await mesh.ask("bob", MATH, tag)).not.toHaveProperty("unchanged");
});

test("an answer to a kite that reads RS256 has no tag: after a revocation the next one has to be another", async () => {
  const mesh = openMesh(["a"], { alg: "RS256" });

  expect(await mesh.ask("alice", MATH)).not.toHaveProperty("tag");
});

test("an answer that is there already is given at once, but for an id that nobody has yet", async () => {
  const mesh = openMesh(["a"]);
  const [found, unknown] = [{ id: "a" }, { id: "z" }];
  expect(mesh.kept("alice", found)).toBeUndefined();

  await mesh.ask("alice", found);
  await mesh.ask("alice", unknown);

  expect(idsOf(mesh.kept("alice", found))).toEqual(["a"]);
  expect(mesh.kept("alice", unknown)).toBeUndefined();
  expect(mesh.kept("bob", found)).toBeUndefined();
});

type Mesh = ReturnType<typeof openMesh>;

function openMesh(ids: readonly string[], { alg = "EdDSA" }: { alg?: string } = {}) {
  const directory = new Directory({ revocationsMs: 60_000 });
  const change = (change: Change) => directory.apply({ revision: directory.revision + 1, change });
  for (const account of [ALICE, BOB]) change({ kind: "account.changed", account });
  for (const id of ids) change({ kind: "kite.registered", record: recordOf(id, { generation: directory.revision + 1 }) });
  const tokens = new Map<string, { token: string; expiresAt: number }>();
  const signed: string[] = [];
  const issue = ({ username, audience: { id } }: { username: string; audience: { id: string } }) => {
    const kept = tokens.get(`${username} ${id}`);
    if (kept !== undefined) return kept;
    signed.push(id);
    const token = { token: randomUUID(), expiresAt: NOW + 60_000 };
    tokens.set(`${username} ${id}`, token);
    return token;
  };
  const options = {
    directory,
    tokens: { issue },
    keys: { current: { kid: "now", alg }, get: () => undefined, currentOf: () => undefined },
    now: () => NOW,
    random: Math.random,
  } as unknown as QueryOptions;
  const callOf = (username: string) => ({ caller: { username, credential: { type: "kiteKey", jti: username } } }) as unknown as Call;
  return {
    signed,
    change,
    get revision() {
      return directory.revision;
    },
    generationOf: (id: string) => directory.kite(id)?.generation ?? 0,
    forget: () => tokens.clear(),
    ask: async (username: string, query: Query, known?: string) => read(await writeKites({ query, known }, callOf(username), options)),
    kept: (username: string, query: Query) => read(keptKites({ query }, callOf(username), options)),
  };
}

/** As it is read at the other end of the wire. */
function read<T extends FoundKites | undefined>(answer: T): T {
  return answer && JSON.parse(JSON.stringify(answer));
}

function idsOf(answer: FoundKites | undefined): string[] | undefined {
  return answer?.kites.map(({ kite }) => kite.id).toSorted();
}

function recordOf(id: string, { generation, name = "math" }: { generation: number; name?: string }): KiteRecord {
  return {
    kite: { username: "alice", environment: "dev", name, version: "1.0.0", region: "eu", hostname: "h", id },
    url: "http://127.0.0.1:9",
    visibility: "private",
    labels: {},
    jti: null,
    generation,
    holder: "h",
    registeredAt: 0,
  };
}
