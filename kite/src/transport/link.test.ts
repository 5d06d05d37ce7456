import { expect, test, vi } from "vitest";
import type { RawFrame } from "../wire/v1.ts";
import { linkTransport } from "./link.ts";

test("frames pass in both directions, in order", async () => {
  const { transport, outgoing } = linkTransport(from(["a", "b"]));
  const frames: RawFrame[] = [];
  const closed = new Promise((resolve) => transport.start({ frame: (raw) => frames.push(raw), closed: resolve }));

  transport.send("1");
  transport.send("2");
  const sent = [await outgoing[Symbol.asyncIterator]().next(), await outgoing[Symbol.asyncIterator]().next()];
  await closed;

  expect(frames).toEqual(["a", "b"]);
  expect(sent.map(({ value }) => value)).toEqual(["1", "2"]);
});

test("a reader that leaves closes the link at once, also while it waits for a frame", async () => {
  const ended = vi.fn(async () => ({ done: true, value: undefined }) as const);
  const { transport, outgoing } = linkTransport(parked(ended));
  const closed = new Promise((resolve) => transport.start({ frame: () => {}, closed: resolve }));
  const reader = outgoing[Symbol.asyncIterator]();
  const waiting = reader.next();

  await reader.return?.();

  expect(await waiting).toEqual({ done: true, value: undefined });
  expect(await closed).toMatchObject({ code: 1006 });
  expect(ended).toHaveBeenCalledOnce();
});

test("closing ends the stream that goes out behind its last frame", async () => {
  const { transport, outgoing } = linkTransport(parked());
  transport.start({ frame: () => {}, closed: () => {} });

  transport.send("goodbye");
  transport.close(4000, "done");
  transport.send("too late");

  const sent: RawFrame[] = [];
  for await (const frame of outgoing) sent.push(frame);
  expect(sent).toEqual(["goodbye"]);
  expect(transport.bufferedBytes).toBe(0);
});

test("a link that has closed before it was started says so", async () => {
  const { transport } = linkTransport(parked());
  const closed = vi.fn();

  transport.close(4000, "done");
  transport.start({ frame: () => {}, closed });

  expect(closed).toHaveBeenCalledExactlyOnceWith({ code: 4000, reason: "done" });
});

async function* from(frames: RawFrame[]): AsyncGenerator<RawFrame> {
  yield* frames;
}

function parked(ended = async () => ({ done: true, value: undefined }) as const): AsyncIterable<RawFrame> {
  return { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}), return: ended }) };
}
