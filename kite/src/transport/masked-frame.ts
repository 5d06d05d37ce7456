import { randomFillSync } from "node:crypto";

/** Smaller payloads cost as much here as in `ws`: what is done once for each frame outweighs them. */
export const BULKY_BYTES = 4 * 1024;

/**
 * A binary message as a WebSocket client writes it (RFC 6455, 5.2), in one frame. It masks four bytes at a time: `ws`, without a native
 * addon, takes them one by one, which is most of the work of sending a large value.
 *
 * @example socket.write(maskedFrame(bytes));
 */
export function maskedFrame(payload: Uint8Array): Uint8Array {
  const { byteLength, byteOffset } = payload;
  const key = randomFillSync(new Uint8Array(KEY_BYTES));
  // The same place within a word as in the payload, so that whole words can be read and written.
  const start = LONGEST_HEAD_BYTES + (byteOffset % WORD_BYTES);
  const frame = Buffer.allocUnsafeSlow(start + byteLength);
  mask(payload, key, frame, start);
  const headBytes = byteLength > 0xffff ? LONGEST_HEAD_BYTES - 2 : SHORT_HEAD_BYTES;
  const head = start - headBytes;
  frame[head] = FINAL_BINARY;
  if (byteLength > 0xffff) {
    frame[head + 1] = MASKED | LENGTH_64;
    frame.writeBigUInt64BE(BigInt(byteLength), head + 2);
  } else {
    frame[head + 1] = MASKED | LENGTH_16;
    frame.writeUInt16BE(byteLength, head + 2);
  }
  frame.set(key, start - KEY_BYTES);
  return frame.subarray(head);
}

function mask(payload: Uint8Array, key: Uint8Array, frame: Uint8Array, start: number): void {
  const { buffer, byteOffset, byteLength } = payload;
  const maskByte = (at: number) => {
    frame[start + at] = (payload[at] as number) ^ (key[at % KEY_BYTES] as number);
  };
  const first = Math.min((WORD_BYTES - (byteOffset % WORD_BYTES)) % WORD_BYTES, byteLength);
  for (let at = 0; at < first; at++) maskByte(at);
  const count = Math.floor((byteLength - first) / WORD_BYTES);
  const words = new Int32Array(buffer, byteOffset + first, count);
  const masked = new Int32Array(frame.buffer, frame.byteOffset + start + first, count);
  const word = new Int32Array(
    Uint8Array.from({ length: WORD_BYTES }, (_, at) => key[(first + at) % KEY_BYTES] as number).buffer,
  )[0] as number;
  for (let at = 0; at < count; at++) masked[at] = (words[at] as number) ^ word;
  for (let at = first + count * WORD_BYTES; at < byteLength; at++) maskByte(at);
}

const WORD_BYTES = 4;
const KEY_BYTES = 4;
// Two bytes, the length in two or eight more, the key; of the longest two are left over, so that the payload begins at a word.
const SHORT_HEAD_BYTES = 8;
const LONGEST_HEAD_BYTES = 16;
const FINAL_BINARY = 0x82;
const MASKED = 0x80;
const LENGTH_16 = 126;
const LENGTH_64 = 127;
