import { describe, expect, test } from "vitest";
import { LIMITS } from "../limits.ts";
import type { Transport } from "../transport/transport.ts";
import { type RawFrame, readFrame } from "../wire/v1.ts";
import { draftFrames, PlainDraft } from "./frame-buffers.ts";
import { framePool } from "./frame-pool.ts";
import { Outbox } from "./outbox.ts";
import { PooledDraft, pooledDrafts } from "./pooled-draft.ts";

draftFrames(pooledDrafts);

test("bytes that were returned serve the next frame of about that size", () => {
  const first = framePool.take(64 * 1024);
  framePool.give(first);

  const next = framePool.take(40 * 1024);

  expect(next.buffer).toBe(first.buffer);
  expect(next.byteLength).toBe(40 * 1024);
});

test.each([1_000, 300 * 1024])("a frame of %i bytes gets bytes of exactly its size, and keeps them", (size) => {
  const frame = framePool.take(size);

  expect(frame.buffer.byteLength).toBe(size);
  expect(framePool.lease(frame)).toBeUndefined();
});

test("a frame's bytes are kept until its peer has acknowledged it", () => {
  const outbox = newOutbox();
  const transport = recorded();
  outbox.attach(transport, 0);
  const frame = push(outbox, transport);

  transport.takeAll();
  expect(framePool.take(200 * 1024).buffer).not.toBe(frame.buffer);
  outbox.accept(0, 1, 0);

  expect(framePool.take(200 * 1024).buffer).toBe(frame.buffer);
});

test("a frame's bytes are kept while any transport has yet to send them, also after a peer claims to have them", () => {
  const outbox = newOutbox();
  const [before, after] = [recorded(), recorded()];
  outbox.attach(before, 0);
  const frame = push(outbox, before);
  outbox.detach();
  outbox.attach(after, 0);

  outbox.accept(0, 1, 0);
  after.takeAll();
  expect(framePool.take(200 * 1024).buffer).not.toBe(frame.buffer);
  before.takeAll();

  expect(framePool.take(200 * 1024).buffer).toBe(frame.buffer);
});

test("what was passed is what is sent, also if its owner fills the same bytes again", () => {
  const outbox = newOutbox();
  const transport = recorded();
  outbox.attach(transport, 0);
  const bytes = new Uint8Array(64 * 1024).fill(1);

  outbox.push(`[7,1,["b",${outbox.addSegment(bytes)}]]`);
  bytes.fill(2);
  outbox.flush();

  expect((transport.frames[0] as Uint8Array).at(-1)).toBe(1);
});

test.each([9, 20, 33, 40, 64, 100, 200].map((kib) => kib * 1024))(
  "a frame of %i bytes keeps no more than about four times as many",
  (length) => {
    const draft = new PooledDraft();

    draft.add(new Uint8Array(length));

    const frame = draft.finish(1, 2, ["[]"]);
    expect(frame.buffer.byteLength).toBeLessThan(4.1 * frame.byteLength);
    expect(readFrame(frame).segments[0]?.byteLength).toBe(length);
  },
);

test("chunks of 64 KiB leave four in a frame, without waiting for the tick's end", () => {
  const outbox = newOutbox();
  const transport = recorded();
  outbox.attach(transport, 0);

  for (let chunk = 0; chunk < 9; chunk++) outbox.push(`[7,1,["b",${outbox.addSegment(new Uint8Array(64 * 1024).fill(chunk))}]]`);

  const sent = transport.frames.map((frame) => readFrame(frame).segments.map((segment) => segment[0]));
  expect(sent).toEqual([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
  ]);
});

test("a full frame is no message too large for a frame of the session that relays it", () => {
  const [inner, outer] = [newOutbox(), newOutbox()];
  const transport = recorded();
  inner.attach(transport, 0);
  for (let chunk = 0; chunk < 4; chunk++) inner.push(`[7,1,["b",${inner.addSegment(new Uint8Array(64 * 1024))}]]`);

  const segment = outer.addSegment(transport.frames[0] as Uint8Array);

  expect(outer.fits(`[7,1,["b",${segment}]]`.length)).toBe(true);
});

describe.each([
  ["as a page makes them", () => new PlainDraft()],
  ["in buffers that are used again", () => new PooledDraft()],
] as const)("frames %s", (_name, newDraft) => {
  test.each([
    ["of a few bytes", 1, 10],
    ["of a few bytes behind a long text", 1, 10, 2_000],
    ["of 64 KiB", 2, 64 * 1024 - 10],
    ["of 64 KiB behind a long text", 1, 64 * 1024, 2_000],
    ["larger than any other", 1, 250 * 1024],
    ["that have grown", 12, 20 * 1024],
  ])("segments %s arrive as they were passed", (_, count, length, textLength = 0) => {
    const draft = newDraft();
    const segments = Array.from({ length: count }, (_, at) => new Uint8Array(length).fill(at + 1));
    const text = JSON.stringify([4, "x".repeat(textLength)]);

    for (const segment of segments) draft.add(segment);
    const { segments: arrived, ...rest } = readFrame(draft.finish(1, 2, [text]));

    expect(rest).toEqual({ sequence: 1, ack: 2, messages: [JSON.parse(text)], marked: true });
    expect(arrived.map((segment) => segment.byteLength)).toEqual(segments.map((segment) => segment.byteLength));
    expect(Buffer.concat(arrived).equals(Buffer.concat(segments))).toBe(true);
    expect(draft.count).toBe(0);
  });

  test("a segment that its owner fills again arrives as it was passed", () => {
    const draft = newDraft();
    const segment = Buffer.alloc(1_000, 1);

    draft.add(segment);
    segment.fill(2);

    expect(readFrame(draft.finish(1, 2, ["[]"])).segments).toEqual([new Uint8Array(1_000).fill(1)]);
  });
});

function push(outbox: Outbox, { frames }: { frames: RawFrame[] }): Uint8Array {
  outbox.push(`[7,1,["b",${outbox.addSegment(new Uint8Array(64 * 1024))}]]`);
  outbox.flush();
  return frames[0] as Uint8Array;
}

function newOutbox(): Outbox {
  return new Outbox({ limits: LIMITS, onRoom: () => {}, onAcknowledged: () => {}, onOverflow: () => {} });
}

/** A transport that tells when it was told to. */
function recorded(): Transport & { frames: RawFrame[]; takeAll(): void } {
  const frames: RawFrame[] = [];
  const waiting: (() => void)[] = [];
  return {
    frames,
    takeAll: () => {
      for (const taken of waiting.splice(0)) taken();
    },
    start: () => {},
    send: (frame, taken) => {
      frames.push(frame);
      if (taken !== undefined) waiting.push(taken);
    },
    close: () => {},
    bufferedBytes: 0,
  };
}
