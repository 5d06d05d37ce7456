import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { readSeconds, TimeLimit } from "./time-limit.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("what happens in time is passed on, as is what goes wrong in time", async () => {
  using limit = new TimeLimit(1_000);

  expect(await limit.within(Promise.resolve(7), "nothing came")).toBe(7);
  await expect(limit.within(Promise.reject(new Error("mine")), "nothing came")).rejects.toThrow("mine");
  expect([limit.passed, limit.leftMs]).toEqual([false, 1_000]);
});

test("what does not happen in time fails with a sentence and the status of timeout(1), also when it is asked for too late", async () => {
  using limit = new TimeLimit(1_500);
  const late = limit.within(new Promise(() => {}), "math was not reached").catch((failure: unknown) => failure);

  await vi.advanceTimersByTimeAsync(1_500);

  const failure = { message: "math was not reached within 1.5 s; --timeout gives it more", exitCode: 124 };
  expect(await late).toMatchObject(failure);
  await expect(limit.within(new Promise(() => {}), "math was not reached")).rejects.toMatchObject(failure);
  expect([limit.passed, limit.leftMs]).toEqual([true, 1]);
});

test("one without an end has no timer, and one that was disposed of has none any more", () => {
  new TimeLimit(Number.POSITIVE_INFINITY);
  new TimeLimit(1_000)[Symbol.dispose]();

  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  ["2", 2_000],
  ["0.05", 50],
  ["1728000", 1_728_000_000],
])("%s seconds can be given", (text, ms) => {
  expect(readSeconds("--timeout", text)).toBe(ms);
});

test.each(["", "0", "-1", "1e3", "0x10", "Infinity", "soon", "1728001", "5s"])("%j is no time that can be given", (text) => {
  expect(() => readSeconds("--timeout", text)).toThrow(`--timeout is a number of seconds above 0, at most 1728000, got "${text}"`);
});
