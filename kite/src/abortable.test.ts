import { afterEach, expect, test, vi } from "vitest";
import { Endable, itemsUntil, sleep, waitUntil } from "./abortable.ts";

afterEach(() => {
  vi.useRealTimers();
});

test("items end with the signal while the source is silent, and the source is told", async () => {
  const ending = new AbortController();
  const { source, ended } = silentAfter(1, 2);
  const seen: number[] = [];

  for await (const item of itemsUntil(source, ending.signal)) if (seen.push(item) === 2) setImmediate(() => ending.abort());

  expect(seen).toEqual([1, 2]);
  expect(ended()).toBe(true);
});

test("items end when the reader stops, and the source is told", async () => {
  const { source, ended } = silentAfter(1, 2);

  for await (const item of itemsUntil(source, new AbortController().signal)) if (item === 1) break;

  expect(ended()).toBe(true);
});

test("what the source throws reaches the reader", async () => {
  const failing = (async function* () {
    yield 1;
    throw new Error("the link broke");
  })();
  const items = itemsUntil(failing, new AbortController().signal);
  await items.next();

  await expect(items.next()).rejects.toThrow("the link broke");
});

test("a waiting generator ends when its reader returns", async () => {
  let cleaned = false;
  const items = new Endable(async function* (signal) {
    try {
      yield 1;
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    } finally {
      cleaned = true;
    }
  });
  await items.next();
  const waiting = items.next();

  await items.return();

  expect(await waiting).toEqual({ done: true, value: undefined });
  expect(cleaned).toBe(true);
});

test("a wait ends with its signal, and what was waited for goes on", async () => {
  const ending = new AbortController();
  let finish = (_: string) => {};
  const work = new Promise<string>((resolve) => {
    finish = resolve;
  });
  const waits = Promise.allSettled([waitUntil(work, ending.signal), waitUntil(work, undefined), waitUntil(work, AbortSignal.abort())]);

  ending.abort();
  await Promise.resolve();
  finish("done");

  const cancelled = { status: "rejected", reason: { code: "cancelled" } };
  expect(await waits).toMatchObject([cancelled, { status: "fulfilled", value: "done" }, cancelled]);
});

test("a sleep that is longer than a timer can hold does not end at once", async () => {
  vi.useFakeTimers();
  const ending = new AbortController();
  let over = false;
  const wait = sleep(2 ** 40, { signal: ending.signal }).then(
    () => (over = true),
    () => {},
  );

  await vi.advanceTimersByTimeAsync(60_000);

  expect(over).toBe(false);
  ending.abort();
  await wait;
});

test("a sleep ends with its time or with its signal, and leaves no timer behind", async () => {
  vi.useFakeTimers();
  const ending = new AbortController();
  const waits = Promise.allSettled([
    sleep(1_000),
    sleep(60_000, { signal: ending.signal }),
    sleep(60_000, { signal: AbortSignal.abort() }),
  ]);

  ending.abort();
  await vi.advanceTimersByTimeAsync(1_000);

  const cancelled = { status: "rejected", reason: { code: "cancelled" } };
  expect(await waits).toMatchObject([{ status: "fulfilled" }, cancelled, cancelled]);
  expect(vi.getTimerCount()).toBe(0);
});

/** Gives the items, then nothing until it is ended. */
function silentAfter(...items: number[]) {
  let ended = false;
  const source: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next: () => {
        const value = items.shift();
        return value === undefined ? new Promise(() => {}) : Promise.resolve({ done: false, value });
      },
      return: async () => {
        ended = true;
        return { done: true, value: undefined };
      },
    }),
  };
  return { source, ended: () => ended };
}
