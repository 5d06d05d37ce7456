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
  for (const chunk of chunks) receiver.write(chunk);
  return { received, pings };
}

function isSame(received: string | Buffer | undefined, sent: string | Uint8Array): boolean {
  return typeof sent === "string" ? received === sent : received instanceof Buffer && received.equals(sent);
}
