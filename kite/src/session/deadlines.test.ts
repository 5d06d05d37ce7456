import { afterEach, expect, test, vi } from "vitest";
import { deadlines } from "./deadlines.ts";

afterEach(() => {
  vi.useRealTimers();
});

test("what was taken out in time, in whatever order, does not expire; the rest does, once", () => {
  vi.useFakeTimers();
  const expired: number[] = [];
  const waiting = Array.from({ length: 10 }, (_, index) => deadlines.add({ expire: () => expired.push(index) }, 1000));

  for (const index of [9, 0, 4, 4, 5]) deadlines.remove(waiting[index]);
  vi.advanceTimersByTime(3000);

  expect(expired.sort((a, b) => a - b)).toEqual([1, 2, 3, 6, 7, 8]);
});

test("what lasts longer than anybody waits has no timer", () => {
  vi.useFakeTimers();

  const kept = [2 ** 41, Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.NaN].map((ms) => deadlines.add({ expire: () => {} }, ms));

  expect(kept).toEqual(kept.map(() => undefined));
  expect(vi.getTimerCount()).toBe(0);
});

test("a long wait that was given up has no second timer", () => {
  vi.useFakeTimers();
  deadlines.remove(deadlines.add({ expire: () => {} }, 2 ** 33));

  vi.advanceTimersByTime(2 ** 31);

  expect(vi.getTimerCount()).toBe(0);
});

test("an entry that is taken out by the end of another one does not expire", () => {
  vi.useFakeTimers();
  const expire = vi.fn(() => deadlines.remove(other));
  deadlines.add({ expire }, 1000);
  const late = vi.fn();
  const other = deadlines.add({ expire: late }, 1000);

  vi.advanceTimersByTime(3000);

  expect(expire).toHaveBeenCalledOnce();
  expect(late).not.toHaveBeenCalled();
});
