import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { testCaller } from "../testing.ts";
import type { Transport } from "../transport/transport.ts";
import * as MESSAGE from "../wire/message.ts";
import { type RawFrame, readFrame } from "../wire/v1.ts";
import { Session } from "./session.ts";

const KiB = 1024;
/** What one frame with a piece takes on the link, in milliseconds. */
const CARRY_MS = 50;

beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
afterEach(() => void vi.useRealTimers());

/** A session over a link that carries one frame after the other, each when the test says so, to a peer that only acknowledges. */
function slowLink() {
  const frames: RawFrame[] = [];
  const transport: Transport = { start: () => {}, send: (frame) => void frames.push(frame), close: () => {}, bufferedBytes: 0 };
  const session = new Session({ id: "slow", limits: LIMITS, serve: () => undefined, caller: testCaller() });
  session.agree(LIMITS);
  session.attach(transport, 0);
  onTestFinished(() => session.end(new KiteError("disconnected", "the test is over")));
  let carried = 0;
  const call = (method: string, args: readonly unknown[]) =>
    void session.call(method, args, { timeoutMs: Number.POSITIVE_INFINITY }).catch(() => {});
  return {
    call,
    session,
    /** The frames that wait for the link, read. */
    waiting: () => frames.slice(carried).map((raw) => readFrame(raw)),
    sent: () => frames.map((raw) => readFrame(raw)),
    /** The link carries the next frame, or more of them, and its peer acknowledges what it got. */
    async carry(takesMs = CARRY_MS, count = 1): Promise<void> {
      vi.advanceTimersByTime(takesMs);
      carried += count;
      session.receive(transport, `[0,${carried}]`);
      await turn();
    },
  };
}

/** Whatever was to leave at the end of the tick has left. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function bytesOf(frames: ReturnType<typeof readFrame>[]): number {
  return frames.reduce((sum, { segments }) => sum + segments.reduce((bytes, segment) => bytes + segment.byteLength, 0), 0);
}

test("a small call waits behind no more than 128 KiB of a transfer of 100 MiB that has just begun", async () => {
  const link = slowLink();

  link.call("take", [new Uint8Array(100 * KiB * KiB)]);
  link.call("ping", []);
  await turn();

  const frames = link.waiting();
  expect(frames.at(-1)?.messages).toEqual([[MESSAGE.call, 2, "ping", []]]);
  expect(bytesOf(frames)).toBeLessThanOrEqual(128 * KiB);
});

test("a transfer has 16 KiB more on its way for each piece that came in time, and half as much when one comes later", async () => {
  const link = slowLink();
  const underWay = () => bytesOf(link.waiting()) / KiB;

  link.call("take", [new Uint8Array(100 * KiB * KiB)]);
  await turn();
  const grown = [underWay()];
  // 2 ms later than the fastest is still in time.
  for (const takesMs of [0, 0, 2]) {
    await link.carry(takesMs);
    grown.push(underWay());
  }
  await link.carry(1, 6);

  expect(grown).toEqual([128, 144, 160, 176]);
  // Of 176 KiB, 96 came late: half is 88, which the next piece reaches.
  expect(underWay()).toBe(96);
});

test("on a link that is never slow, no more than 4 MiB of a transfer are on their way", async () => {
  const link = slowLink();

  link.call("take", [new Uint8Array(16 * KiB * KiB)]);
  await turn();
  for (let count = 0; count < 400; count++) await link.carry(0);

  expect(bytesOf(link.waiting())).toBe(4 * KiB * KiB);
});

test("on a link that has shown to be slow, each small call waits behind a few pieces, and the transfer arrives whole all the same", async () => {
  const link = slowLink();
  const size = 4 * KiB * KiB;
  const before: number[] = [];

  link.call("take", [new Uint8Array(size)]);
  await turn();
  while (link.waiting().length > 0) {
    await link.carry();
    // One call for every 16 frames, so that there are far fewer of them than pieces.
    if (link.sent().length % 16 !== 0) continue;
    link.call("ping", []);
    await turn();
    expect(link.waiting().at(-1)?.messages).toMatchObject([[MESSAGE.call, expect.any(Number), "ping", []]]);
    before.push(bytesOf(link.waiting()));
  }

  expect(bytesOf(link.sent())).toBeGreaterThanOrEqual(size);
  expect(before.length).toBeGreaterThan(5);
  expect(Math.max(...before.slice(1))).toBeLessThanOrEqual(64 * KiB);
});

test("what is small and waits for the end of the tick goes before the pieces, in a frame of its own", async () => {
  const link = slowLink();

  link.call("ping", []);
  link.call("take", [new Uint8Array(KiB * KiB)]);
  await turn();

  const [first, second] = link.waiting();
  expect([first?.messages, first?.segments]).toEqual([[[MESSAGE.call, 1, "ping", []]], []]);
  expect(second?.messages).toEqual([[MESSAGE.piece, 1, 0, expect.any(Number)]]);
});

test("two transfers take turns", async () => {
  const link = slowLink();

  link.call("take", [new Uint8Array(KiB * KiB)]);
  link.call("take", [new Uint8Array(KiB * KiB)]);
  await turn();
  for (let count = 0; count < 40; count++) await link.carry();

  const pieces = link.sent().flatMap(({ messages }) => messages.filter(([type]) => type === MESSAGE.piece).map(([, id]) => id));
  // Once the second has begun, neither sends twice in a row.
  const both = pieces.slice(pieces.indexOf(2));
  expect(both.length).toBeGreaterThan(10);
  expect(both.every((id, index) => index === 0 || id !== both[index - 1])).toBe(true);
});
