import { expect, test } from "vitest";
import { LIMITS } from "../limits.ts";
import { DnodeFunctions } from "./functions.ts";

const none: ReadonlySet<number> = new Set();

test("a function that takes an answer is there for one, and not kept after it", () => {
  const functions = new DnodeFunctions(LIMITS);
  const answer = () => {};

  const id = functions.addOnce(answer);

  expect(functions.take(id)).toBe(answer);
  expect(functions.take(id)).toBeUndefined();
});

test("ids begin with 0 and go on by one, whatever they are for, and the same function keeps its own", () => {
  const functions = new DnodeFunctions(LIMITS);
  const print = () => {};

  const ids = [functions.addOnce(() => {}), functions.add(print, none), functions.add(print, none), functions.addOnce(() => {})];

  expect(ids).toEqual([0, 1, 1, 2]);
  expect([functions.take(1), functions.take(1)]).toEqual([print, print]);
  expect(functions.size).toBe(1);
});

test("a function that was removed gets a new id when it is sent again", () => {
  const functions = new DnodeFunctions(LIMITS);
  const print = () => {};
  const first = functions.add(print, none);

  functions.remove(first);

  expect(functions.take(first)).toBeUndefined();
  expect(functions.add(print, none)).toBe(first + 1);
});

test("functions beyond the limit are refused by its name, and those that take an answer are not counted", () => {
  const functions = new DnodeFunctions({ ...LIMITS, callbacks: 2 });
  for (let index = 0; index < 10; index++) functions.addOnce(() => {});
  functions.add(() => {}, none);
  functions.add(() => {}, none);

  expect(() => functions.add(() => {}, none)).toThrow(/the limit callbacks is 2/);
});
