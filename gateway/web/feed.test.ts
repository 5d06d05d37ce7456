import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { followFeed } from "./feed.ts";
import type { Watcher } from "./mesh.ts";
import { retryDelayMs } from "./retry.ts";

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
});
afterEach(() => {
  vi.useRealTimers();
});

test("a feed is live from its first event", async () => {
  await using feed = openFeed();

  expect(feed.link.value).toEqual({ state: "connecting" });
  feed.watch(0).event("snapshot");

  expect(feed.link.value).toEqual({ state: "live" });
  expect(feed.events).toEqual(["snapshot"]);
});

test("a lost watch is opened again, and the picture is stale since the loss until the next event", async () => {
  await using feed = openFeed();
  feed.watch(0).event("first");

  feed.watch(0).fail(new Error("socket closed."));
  await vi.advanceTimersByTimeAsync(100);
  expect(feed.link.value).toEqual({ state: "stale", since: 1_000_000, reason: "socket closed" });

  await vi.advanceTimersByTimeAsync(400);
  feed.watch(1).fail(new Error("refused"));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(feed.link.value).toEqual({ state: "stale", since: 1_000_000, reason: "refused" });

  feed.watch(2).event("second");
  expect(feed.link.value).toEqual({ state: "live" });
});

test("a service that was never reached is stale since never", async () => {
  await using feed = openFeed();

  feed.watch(0).connected(false);
  expect(feed.link.value).toEqual({ state: "connecting" });
  feed.watch(0).fail(new Error("refused"));
  await vi.advanceTimersByTimeAsync(1);

  expect(feed.link.value).toEqual({ state: "stale", since: null, reason: "refused" });
});

test("a connection that comes back makes the picture live without an event", async () => {
  await using feed = openFeed();
  feed.watch(0).event("first");

  feed.watch(0).connected(false);
  expect(feed.link.value).toMatchObject({ state: "stale", since: 1_000_000 });
  feed.watch(0).connected(true);

  expect(feed.link.value).toEqual({ state: "live" });
  expect(feed.watches).toHaveLength(1);
});

test("waking ends the pause before the next try", async () => {
  await using feed = openFeed();
  feed.watch(0).fail(new Error("offline"));
  await vi.advanceTimersByTimeAsync(0);

  feed.wake.dispatchEvent(new Event("wake"));
  await vi.advanceTimersByTimeAsync(0);

  expect(feed.watches).toHaveLength(2);
});

test("a feed whose signal aborts tries no more and leaves no timer", async () => {
  const feed = openFeed();
  feed.watch(0).fail(new Error("offline"));
  await vi.advanceTimersByTimeAsync(0);

  await feed[Symbol.asyncDispose]();
  await vi.advanceTimersByTimeAsync(60_000);

  expect(feed.watches).toHaveLength(1);
  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  [0, 0, 500],
  [0, 1, 250],
  [1, 0, 1_000],
  [3, 0, 4_000],
  [20, 0, 10_000],
])("after %i failures and with chance %d the pause is %i ms", (failures, random, delayMs) => {
  expect(retryDelayMs(failures, () => random)).toBe(delayMs);
});

interface OpenWatch extends Watcher<string> {
  fail: (error: unknown) => void;
}

function openFeed() {
  const watches: OpenWatch[] = [];
  const events: string[] = [];
  const end = new AbortController();
  const wake = new EventTarget();
  const link = followFeed<string>({
    watch: (watcher) => new Promise((_, fail) => watches.push({ ...watcher, fail })),
    onEvent: (event) => events.push(event),
    signal: end.signal,
    wake,
    random: () => 0,
  });
  return {
    link,
    events,
    watches,
    wake,
    watch(at: number): OpenWatch {
      const watch = watches[at];
      if (watch === undefined) throw new Error(`the watch was opened ${watches.length} times, expected more than ${at}`);
      return watch;
    },
    async [Symbol.asyncDispose]() {
      end.abort();
      await vi.advanceTimersByTimeAsync(0);
    },
  };
}
