import { expect, test, vi } from "vitest";
import { Feed } from "./feed.ts";

test("a feed gives what was pushed, in order, and then ends", async () => {
  const feed = new Feed<number>();
  feed.push(1);
  feed.push(2);
  feed.end();

  const read: number[] = [];
  for await (const item of feed) read.push(item);

  expect(read).toEqual([1, 2]);
});

test("a reader that waits gets the next item, and its error after what was queued", async () => {
  const feed = new Feed<number>();
  const waiting = feed.next();
  feed.push(1);
  feed.push(2);
  feed.end(new Error("over"));

  expect(await waiting).toEqual({ done: false, value: 1 });
  expect(await feed.next()).toEqual({ done: false, value: 2 });
  await expect(feed.next()).rejects.toThrow("over");
  expect(await feed.next()).toEqual({ done: true, value: undefined });
});

test("a reader that stops ends the feed, also while it waits", async () => {
  const onStop = vi.fn();
  const feed = new Feed<number>({ onStop });
  const waiting = feed.next();

  await feed.return();
  feed.push(1);

  expect(await waiting).toEqual({ done: true, value: undefined });
  expect(feed.size).toBe(0);
  expect(onStop).toHaveBeenCalledTimes(1);
});
