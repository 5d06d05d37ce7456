import { type RawFrame, writeFrameHead, writeTextFrame } from "./v1.ts";

/** A frame as a peer may write it: with bytes a binary one, its head and then the segments one after the other. */
export function writeFrame(sequence: number, ack: number, messages: readonly string[], segments: readonly Uint8Array[]): RawFrame {
  if (segments.length === 0) return writeTextFrame(sequence, ack, messages);
  const lengths = segments.map((segment) => segment.byteLength);
  return new Uint8Array(Buffer.concat([writeFrameHead(sequence, ack, messages, lengths), ...segments]));
}
