import { randomFillSync } from "node:crypto";
import { KEY_BYTES, mask } from "./mask.ts";

/**
 * A text message as it is written to the connection of a WebSocket (RFC 6455, 5.2), in one frame and one piece of memory. `ws` writes
 * its head and its text apart, which costs a call of the system more for most of the frames there are. A client's are masked.
 *
 * @example connection.write(textFrame("[0,1]", { masked: false }));
 */
export function textFrame(text: string, { masked }: { masked: boolean }): Uint8Array {
  const length = Buffer.byteLength(text);
  const start = headBytes(length, masked);
  const frame = Buffer.allocUnsafe(start + length);
  frame.write(text, start, length, "utf8");
  return finished(frame, start, FINAL_TEXT, masked);
}

/**
 * A binary message as a WebSocket client writes it, in one frame.
 *
 * @example connection.write(maskedFrame(bytes));
 */
export function maskedFrame(payload: Uint8Array): Uint8Array {
  const start = headBytes(payload.byteLength, true);
  const frame = Buffer.allocUnsafe(start + payload.byteLength);
  frame.set(payload, start);
  return finished(frame, start, FINAL_BINARY, true);
}

function headBytes(length: number, masked: boolean): number {
  const lengthBytes = length <= MOST_IN_HEAD ? 0 : length <= 0xffff ? 2 : 8;
  return 2 + lengthBytes + (masked ? KEY_BYTES : 0);
}

/** Puts the head before a payload that is in its place, and masks that. */
function finished(frame: Buffer, start: number, kind: number, masked: boolean): Uint8Array {
  const length = frame.byteLength - start;
  const maskBit = masked ? MASKED : 0;
  frame[0] = kind;
  if (length <= MOST_IN_HEAD) frame[1] = maskBit | length;
  else if (length <= 0xffff) {
    frame[1] = maskBit | LENGTH_16;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = maskBit | LENGTH_64;
    frame.writeUInt32BE(Math.floor(length / 2 ** 32), 2);
    frame.writeUInt32BE(length % 2 ** 32, 6);
  }
  if (masked) {
    const key = nextKey();
    frame.writeUInt32BE(key, start - KEY_BYTES);
    mask(frame, start, frame.byteLength, key);
  }
  return frame;
}

/** Nobody can foresee it, which is what masking is for (RFC 6455, 10.3). */
function nextKey(): number {
  if (keysUsed === keys.length) {
    randomFillSync(keys);
    keysUsed = 0;
  }
  return keys[keysUsed++] as number;
}

// Random numbers are drawn for many keys at once: the draw costs more than the frame.
const keys = new Uint32Array(1024);
let keysUsed = keys.length;

const FINAL_TEXT = 0x81;
const FINAL_BINARY = 0x82;
const MASKED = 0x80;
const MOST_IN_HEAD = 125;
const LENGTH_16 = 126;
const LENGTH_64 = 127;
