import type { Writable } from "node:stream";
import fc from "fast-check";
import { expect, test } from "vitest";
import * as ws from "ws";
import { MaskedFrames } from "./early-unmask.ts";
import { maskedFrame, textFrame } from "./socket-frame.ts";

// Its types leave out what reads and writes frames.
const { Receiver, Sender } = ws as unknown as {
  Receiver: new (options: { isServer: boolean }) => Writable;
  Sender: { frame(data: Buffer, options: Record<string, unknown>): Buffer[] };
};

const lengths = fc.oneof({ weight: 4, arbitrary: fc.nat(300) }, fc.constantFrom(0, 125, 126, 127, 65_535, 65_536, 70_000));
const payload = lengths.chain((length) => fc.nat().map((seed) => Uint8Array.from({ length }, (_, at) => (at * 31 + seed) % 251)));
const text = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 200 }),
  lengths.map((length) => "k".repeat(length)),
);
const message = fc.oneof(payload, text);
const cuts = fc.array(fc.nat(), { maxLength: 12 });

test("however the network cuts frames into chunks, what is in them arrives as it was sent", () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 6 }), cuts, (messages, places) => {
      const sent = Buffer.concat(
        messages.map((each) => (typeof each === "string" ? textFrame(each, { masked: true }) : maskedFrame(each))),
      );

      const { received } = read(unmasked(chunksOf(sent, places)));

      expect(received.length).toBe(messages.length);
      for (const [index, each] of messages.entries()) expect(isSame(received[index], each)).toBe(true);
    }),
  );
});

test("it is of no matter who masked them, and pings between them are unmasked as well", () => {
  fc.assert(
    fc.property(fc.array(payload, { minLength: 1, maxLength: 4 }), cuts, (messages, places) => {
      const mask = { mask: true, readOnly: true, rsv1: false };
      const frames = messages.flatMap((each) => [
        ...Sender.frame(Buffer.from("still there?"), { ...mask, fin: true, opcode: 9 }),
        ...Sender.frame(Buffer.from(each), { ...mask, fin: false, opcode: 2 }),
        ...Sender.frame(Buffer.from(each), { ...mask, fin: true, opcode: 0 }),
      ]);

      const { received, pings } = read(unmasked(chunksOf(Buffer.concat(frames), places)));

      expect(received.length).toBe(messages.length);
      for (const [index, each] of messages.entries()) expect(isSame(received[index], Buffer.concat([each, each]))).toBe(true);
      expect(pings).toEqual(messages.map(() => "still there?"));
    }),
  );
});

test("a payload is plain, and its key zero, before anybody else sees it; also one that comes in several chunks", () => {
  const chunks = chunksOf(Buffer.from(maskedFrame(new Uint8Array(1_000).fill(7))), [508]);

  const [first, second] = unmasked(chunks);

  expect(first?.subarray(4, 8)).toEqual(Buffer.alloc(4));
  expect(first?.subarray(8)).toEqual(Buffer.alloc(500, 7));
  expect(second).toEqual(Buffer.alloc(500, 7));
});

test("a frame that is not masked, which no client may send, is left as it is for `ws` to refuse", () => {
  const frame = Buffer.from(textFrame("hello", { masked: false }));

  const [after] = unmasked([Buffer.from(frame)]);

  expect(after).toEqual(frame);
});

test("whatever bytes come, reading them ends", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => void unmasked(chunks.map((chunk) => Buffer.from(chunk)))));
});

/** A frame of whatever a client may make up: any bits and kinds, masked or not, longer or shorter than it says. */
const strange = fc.record({
  first: fc.oneof({ weight: 6, arbitrary: fc.constantFrom(0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8a) }, fc.nat(255)),
  masked: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, fc.boolean()),
  key: fc.uint8Array({ minLength: 4, maxLength: 4 }),
  payload: fc.oneof(fc.uint8Array({ maxLength: 12 }), fc.uint8Array({ minLength: 120, maxLength: 130 })),
  form: fc.constantFrom("shortest", "two bytes", "eight bytes"),
  said: fc.oneof(
    { weight: 6, arbitrary: fc.constant(undefined) },
    fc.constantFrom(0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n),
  ),
});

type Strange = typeof strange extends fc.Arbitrary<infer T> ? T : never;

test("whatever frames come, also those that are none, `ws` makes of them what it would have made by itself", () => {
  fc.assert(
    fc.property(fc.array(strange, { minLength: 1, maxLength: 5 }), fc.uint8Array({ maxLength: 20 }), cuts, (frames, rest, places) => {
      const sent = Buffer.concat([...frames.map(strangeFrame), rest]);

      const [alone, helped] = [read(chunksOf(sent, places)), read(unmasked(chunksOf(sent, places)))];

      expect(helped).toEqual(alone);
    }),
  );
});

test("of two frames in a row, cut at any byte, both arrive", () => {
  const sent = Buffer.concat([
    maskedFrame(new Uint8Array(300).fill(7)),
    textFrame("and", { masked: true }),
    maskedFrame(new Uint8Array(0)),
  ]);

  for (let at = 0; at <= sent.byteLength; at++) {
    const { received } = read(unmasked(chunksOf(sent, [at])));

    expect([received.length, received[0], received[1]]).toEqual([3, Buffer.alloc(300, 7), "and"]);
  }
});

function strangeFrame({ first, masked, key, payload, form, said }: Strange): Buffer {
  const length = said ?? BigInt(payload.byteLength);
  const bytes = form === "eight bytes" || length > 0xffffn ? 8 : form === "two bytes" || length > 125n ? 2 : 0;
  const head = Buffer.alloc(2 + bytes);
  head[0] = first;
  head[1] = (masked ? 0x80 : 0) | (bytes === 0 ? Number(length) : bytes === 2 ? 126 : 127);
  if (bytes === 2) head.writeUInt16BE(Number(length), 2);
  if (bytes === 8) head.writeBigUInt64BE(length, 2);
  return Buffer.concat([head, ...(masked ? [key] : []), payload.map((byte, at) => (masked ? byte ^ (key[at % 4] as number) : byte))]);
}

function chunksOf(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => place % (bytes.byteLength + 1)), bytes.byteLength].sort((a, b) => a - b);
  // Each in memory of its own, at every distance from a word.
  return ends.map((end, index) => Buffer.concat([Buffer.alloc(index % 4), bytes.subarray(ends[index - 1] ?? 0, end)]).subarray(index % 4));
}

function unmasked(chunks: readonly Buffer[]): readonly Buffer[] {
  const frames = new MaskedFrames();
  for (const chunk of chunks) frames.unmask(chunk);
  return chunks;
}

/** As the server's end of `ws` reads it. */
function read(chunks: readonly Buffer[]) {
  const receiver = new Receiver({ isServer: true });
  const received: (string | Buffer)[] = [];
  const pings: string[] = [];
  receiver.on("message", (data: Buffer, isBinary: boolean) => received.push(isBinary ? Buffer.from(data) : data.toString()));
  receiver.on("ping", (data: Buffer) => pings.push(data.toString()));
  const ends: unknown[] = [];
  receiver.on("conclude", (code: number, reason: Buffer) => ends.push([code, reason.toString()]));
  receiver.on("error", () => {});
  for (const chunk of chunks) receiver.write(chunk);
  return { received, pings, ends };
}

function isSame(received: string | Buffer | undefined, sent: string | Uint8Array): boolean {
  return typeof sent === "string" ? received === sent : received instanceof Buffer && received.equals(sent);
}
