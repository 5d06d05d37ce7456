import { expect, test } from "vitest";
import type { Change } from "../database/record.ts";
import { Answers } from "./answers.ts";
import { Directory } from "./directory.ts";

const NOW = 1_700_000_000_000;
const ALICE = { username: "alice", kind: "person", admin: false, state: "active" } as const;
const BOB = { ...ALICE, username: "bob" } as const;
const MATH = { texts: ["math"], tag: "one" };

test("an answer is given again while the directory stays as it is", () => {
  const { directory, answers } = opened();

  answers.keep("asked", MATH, { revision: directory.revision, endsAt: NOW + 60_000 });

  expect(answers.get("asked", NOW + 999)).toBe(MATH);
  expect(answers.get("other", NOW + 999)).toBeUndefined();
});

test("an answer ends with every change to the directory", () => {
  const { directory, answers, change } = opened();
  answers.keep("asked", MATH, { revision: directory.revision, endsAt: NOW + 60_000 });

  change({ kind: "account.changed", account: BOB });

  expect(answers.get("asked", NOW)).toBeUndefined();
});

test("an answer that was begun before a change is not kept after it", () => {
  const { directory, answers, change } = opened();
  const before = directory.revision;
  change({ kind: "account.changed", account: BOB });
  answers.get("asked", NOW);

  answers.keep("asked", MATH, { revision: before, endsAt: NOW + 60_000 });

  expect(answers.get("asked", NOW)).toBeUndefined();
});

test("what is kept is bounded by its length, that of the questions included", () => {
  const { directory, answers } = opened();
  const question = (n: number) => `${n} ${"q".repeat(10_000)}`;

  for (let n = 0; n < 3_000; n++)
    answers.keep(question(n), { texts: [], tag: "none" }, { revision: directory.revision, endsAt: NOW + 60_000 });

  expect(answers.get(question(0), NOW)).toEqual({ texts: [], tag: "none" });
  expect(answers.get(question(2_999), NOW)).toBeUndefined();
});

test.each([
  ["after a second", NOW + 1_000],
  ["with the first of its tokens", NOW + 500],
  ["when the clock is set back", NOW - 3_600_000],
])("an answer ends %s", (_, later) => {
  const { directory, answers } = opened();

  answers.keep("asked", MATH, { revision: directory.revision, endsAt: NOW + 500 });

  expect(answers.get("asked", NOW + 499)).toBe(MATH);
  expect(answers.get("asked", later)).toBeUndefined();
});

function opened() {
  const directory = new Directory({ revocationsMs: 60_000 });
  const answers = new Answers(directory);
  const change = (change: Change) => directory.apply({ revision: directory.revision + 1, change });
  change({ kind: "account.changed", account: ALICE });
  answers.get("", NOW);
  return { directory, answers, change };
}
