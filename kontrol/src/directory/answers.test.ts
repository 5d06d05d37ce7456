import type { Call, Query } from "@kite-mesh/kite";
import { expect, test } from "vitest";
import type { Change } from "../database/record.ts";
import { Answers } from "./answers.ts";
import { Directory } from "./directory.ts";
import type { QueryOptions } from "./query.ts";
import { writeKites } from "./written-answers.ts";

const NOW = 1_700_000_000_000;
const ALICE = { username: "alice", kind: "person", admin: false, state: "active" } as const;
const BOB = { ...ALICE, username: "bob" } as const;

test("an answer is given again while the directory stays as it is", () => {
  const { directory, answers } = opened();

  answers.keep("asked", ["math"], { revision: directory.revision, endsAt: NOW + 60_000 });

  expect(answers.get("asked", NOW + 999)).toEqual(["math"]);
  expect(answers.get("other", NOW + 999)).toBeUndefined();
});

test("an answer ends with every change to the directory", () => {
  const { directory, answers, change } = opened();
  answers.keep("asked", ["math"], { revision: directory.revision, endsAt: NOW + 60_000 });

  change({ kind: "account.changed", account: BOB });

  expect(answers.get("asked", NOW)).toBeUndefined();
});

test("an answer that was begun before a change is not kept after it", () => {
  const { directory, answers, change } = opened();
  const before = directory.revision;
  change({ kind: "account.changed", account: BOB });
  answers.get("asked", NOW);

  answers.keep("asked", ["math"], { revision: before, endsAt: NOW + 60_000 });

  expect(answers.get("asked", NOW)).toBeUndefined();
});

test("what is kept is bounded by its length, that of the questions included", () => {
  const { directory, answers } = opened();
  const question = (n: number) => `${n} ${"q".repeat(10_000)}`;

  for (let n = 0; n < 3_000; n++) answers.keep(question(n), [], { revision: directory.revision, endsAt: NOW + 60_000 });

  expect(answers.get(question(0), NOW)).toEqual([]);
  expect(answers.get(question(2_999), NOW)).toBeUndefined();
});

test.each([
  ["after a second", NOW + 1_000],
  ["with the first of its tokens", NOW + 500],
  ["when the clock is set back", NOW - 3_600_000],
])("an answer ends %s", (_, later) => {
  const { directory, answers } = opened();

  answers.keep("asked", ["math"], { revision: directory.revision, endsAt: NOW + 500 });

  expect(answers.get("asked", NOW + 499)).toEqual(["math"]);
  expect(answers.get("asked", later)).toBeUndefined();
});

test("who asks again is told the same kites, and nobody is told what was found for somebody else", async () => {
  const { directory, change } = opened();
  change({ kind: "account.changed", account: ALICE });
  change({ kind: "account.changed", account: BOB });
  for (const id of ["a", "b", "c"]) change({ kind: "kite.registered", record: recordOf(id, directory.revision + 1) });
  const signed: string[] = [];
  const ask = asking(directory, signed);

  const answers = [await ask("alice", { name: "math" }), await ask("alice", { name: "math" }), await ask("bob", { name: "math" })];

  expect(answers).toEqual([["a", "b", "c"], ["a", "b", "c"], []]);
  expect(signed).toHaveLength(3);
});

test("a grant that was taken back is not in the next answer", async () => {
  const { directory, change } = opened();
  change({ kind: "account.changed", account: ALICE });
  change({ kind: "account.changed", account: BOB });
  change({ kind: "kite.registered", record: recordOf("a", directory.revision + 1) });
  change({
    kind: "grant.added",
    grant: { id: "g", owner: "alice", username: "bob", role: "viewer", query: { username: "alice" }, expiresAt: null },
  });
  const ask = asking(directory, []);
  const before = await ask("bob", { name: "math" });

  change({ kind: "grant.removed", id: "g", username: "bob" });

  expect(before).toEqual(["a"]);
  expect(await ask("bob", { name: "math" })).toEqual([]);
});

function opened() {
  const directory = new Directory({ revocationsMs: 60_000 });
  const answers = new Answers(directory);
  const change = (change: Change) => directory.apply({ revision: directory.revision + 1, change });
  change({ kind: "account.changed", account: ALICE });
  answers.get("", NOW);
  return { directory, answers, change };
}

/** Asks as the wire does; answers with the ids in their order. */
function asking(directory: Directory, signed: string[]) {
  const issue = ({ username, audience }: { username: string; audience: { id: string } }) => {
    signed.push(audience.id);
    return { token: `${username} ${audience.id}`, expiresAt: NOW + 60_000 };
  };
  const key = { kid: "now", alg: "EdDSA" };
  const options = {
    directory,
    tokens: { issue },
    keys: { current: key, get: () => undefined, currentOf: () => undefined },
    now: () => NOW,
    random: Math.random,
  } as unknown as QueryOptions;
  return async (username: string, query: Query) => {
    const caller = { username, credential: { type: "kiteKey", jti: username } };
    const answer = JSON.parse(JSON.stringify(await writeKites(query, { caller } as unknown as Call, options)));
    return (answer.kites as { kite: { id: string } }[]).map(({ kite }) => kite.id).toSorted();
  };
}

function recordOf(id: string, generation: number) {
  const kite = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id };
  return {
    kite,
    url: "http://127.0.0.1:9",
    visibility: "private",
    labels: {},
    jti: null,
    generation,
    holder: "h",
    registeredAt: 0,
  } as const;
}
