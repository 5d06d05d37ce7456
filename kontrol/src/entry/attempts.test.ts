import { expect, test } from "vitest";
import { Attempts } from "./attempts.ts";

test("so many tries are free, and each that is used up comes back in its time", () => {
  let now = 1_000;
  const attempts = new Attempts({ tries: 3, perMs: 30_000 }, () => now);

  for (let tried = 0; tried < 3; tried++) attempts.take("eve");

  expect(attempts.waitMs("eve")).toBe(10_000);
  expect(attempts.waitMs("alice")).toBe(0);
  now += 10_000;
  expect(attempts.waitMs("eve")).toBe(0);
});

test("whoever goes on trying waits no longer than the time of one try", () => {
  const attempts = new Attempts({ tries: 3, perMs: 30_000 }, () => 0);

  for (let tried = 0; tried < 1_000; tried++) attempts.take("eve");

  expect(attempts.waitMs("eve")).toBe(10_000);
});

test("a try that is given back does not count, and a name without any is forgotten", () => {
  const attempts = new Attempts({ tries: 1, perMs: 30_000 }, () => 0);
  attempts.take("alice");

  attempts.giveBack("alice");

  expect([attempts.waitMs("alice"), attempts.size]).toEqual([0, 0]);
});

test("a flood from ever new names fills no memory, and forgets the oldest first", () => {
  const attempts = new Attempts({ tries: 1, perMs: 30_000 }, () => 0);

  for (let name = 0; name < 50_000; name++) attempts.take(`source ${name}`);

  expect(attempts.size).toBe(10_000);
  expect([attempts.waitMs("source 0"), attempts.waitMs("source 49999")]).toEqual([0, 30_000]);
});
