import { expect, test } from "vitest";
import { LIMITS } from "../limits.ts";
import type { Transport } from "../transport/transport.ts";
import type { RawFrame } from "../wire/v1.ts";
import { isReusable, returnFrameBytes, takeFrameBytes } from "./frame-buffers.ts";
import { Outbox } from "./outbox.ts";

test("bytes that were returned serve the next frame of about that size", () => {
  const first = takeFrameBytes(64 * 1024);
  returnFrameBytes(first);

  const next = takeFrameBytes(40 * 1024);

  expect(next.buffer).toBe(first.buffer);
  expect(next.byteLength).toBe(40 * 1024);
});

test.each([1_000, 100 * 1024])("a frame of %i bytes gets bytes of exactly its size, and keeps them", (size) => {
  const frame = takeFrameBytes(size);

  expect(frame.buffer.byteLength).toBe(size);
  expect(isReusable(frame)).toBe(false);
});

test("a frame's bytes are kept until its peer has acknowledged it", () => {
  const outbox = newOutbox();
  const transport = recorded();
  outbox.attach(transport, 0);
  const frame = push(outbox, transport);

  transport.takeAll();
  expect(takeFrameBytes(64 * 1024).buffer).not.toBe(frame.buffer);
  outbox.accept(0, 1, 0);

  expect(takeFrameBytes(64 * 1024).buffer).toBe(frame.buffer);
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
  expect(takeFrameBytes(64 * 1024).buffer).not.toBe(frame.buffer);
  before.takeAll();

  expect(takeFrameBytes(64 * 1024).buffer).toBe(frame.buffer);
});

test("what was passed is what is sent, also if its owner fills the same bytes again", () => {
  const outbox = newOutbox();
  const transport = recorded();
  outbox.attach(transport, 0);
  const bytes = new Uint8Array(64 * 1024).fill(1);

  outbox.push(`[7,1,["b",${outbox.addSegment(bytes)}]]`);
  bytes.fill(2);

  expect((transport.frames[0] as Uint8Array).at(-1)).toBe(1);
});

function push(outbox: Outbox, { frames }: { frames: RawFrame[] }): Uint8Array {
  outbox.push(`[7,1,["b",${outbox.addSegment(new Uint8Array(64 * 1024))}]]`);
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
