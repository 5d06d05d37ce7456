import { frameHead, frameJson, HEADER_BYTES, type RawFrame, writeLength } from "../wire/v1.ts";

/**
 * The segments of the next frame, in the bytes that it is sent from: each is copied once, when it is passed, so that its owner
 * may fill it again. The frame's JSON, which is known last, comes into the room before them. The outbox owns it.
 */
export class FrameDraft {
  #bytes: Uint8Array = NONE;
  #end = HEAD_BYTES;
  #lengths: number[] = [];

  /** How many segments there are. */
  get count(): number {
    return this.#lengths.length;
  }

  add(segment: Uint8Array): void {
    const end = this.#end + segment.byteLength;
    if (end > this.#bytes.byteLength) this.#grow(end, segment.byteLength);
    this.#bytes.set(segment, this.#end);
    this.#end = end;
    this.#lengths.push(segment.byteLength);
  }

  /** The frame with these messages; the draft is empty again. */
  finish(sequence: number, ack: number, messages: readonly string[]): Uint8Array {
    const json = frameJson(sequence, ack, messages, this.#lengths);
    const [bytes, end] = [this.#bytes, this.#end];
    this.#bytes = NONE;
    this.#end = HEAD_BYTES;
    this.#lengths = [];
    const begin = HEAD_BYTES - HEADER_BYTES - json.length;
    // A small frame would keep all of these bytes until it is acknowledged.
    if (end < Math.max(SMALLEST_BYTES, bytes.byteLength / 4) || begin < 0 || !writeAscii(json, bytes, HEAD_BYTES - json.length))
      return copied(frameHead(json), bytes, end);
    writeLength(json.length, bytes, begin);
    return bytes.subarray(begin, end);
  }

  #grow(size: number, segment: number): void {
    const before = this.#bytes;
    // More of what a stream reads of a file or a socket follows, and would have to be moved.
    const likely = segment < BULKY_BYTES ? 2 * before.byteLength : HEAD_BYTES + FRAME_BYTES;
    this.#bytes = new Uint8Array(take(Math.max(size, likely)).buffer);
    this.#bytes.set(before.subarray(0, this.#end));
    pool?.give(before);
  }
}

/** Keeps the bytes of frames for further ones. */
export interface FramePool {
  /** The bytes of a new frame. */
  take(size: number): Uint8Array;
  /** Lets the bytes of a frame serve another one. Nobody may read them any more, a socket that has yet to send them included. */
  give(frame: Uint8Array): void;
  /** Returns a frame's bytes when nobody needs them; undefined for those that serve no other one. */
  lease(frame: Uint8Array): Lease | undefined;
}

/** Who still needs a frame's bytes: its peer, until `end` is called, and every transport to which it is given. */
export interface Lease {
  /** One transport more; it calls the answer when it is done. */
  begin(): () => void;
  end(): void;
}

let pool: FramePool | undefined;

/** From now on, frames get bytes that earlier ones have left. Of no use where no transport tells when it has sent them, as in a browser. */
export function reuseFrames(made: FramePool): void {
  pool ??= made;
}

export function leaseOf(frame: RawFrame): Lease | undefined {
  return typeof frame === "string" ? undefined : pool?.lease(frame);
}

function take(size: number): Uint8Array {
  return pool?.take(size) ?? new Uint8Array(size);
}

/**
 * How much of messages goes into one frame, if it can be chosen: four chunks of a file or a socket in Node. A reader that waits is
 * woken by every frame, which costs both sides more than the frame itself; more would let the first chunk wait for long.
 */
export const FRAME_BYTES = 257 * 1024;

/**
 * How much of a large message goes into one frame. Node reads 64 KiB of a socket at a time; most frames of a quarter of that are
 * whole in what was read, where larger ones are gathered in fresh memory, which more than doubles the work of whoever reads them.
 */
export const PIECE_BYTES = 16 * 1024;

/** What is asked of most frames: short texts, which cross into native code and back for more than it takes to write them. */
function writeAscii(text: string, bytes: Uint8Array, offset: number): boolean {
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit > 0x7f) return false;
    bytes[offset + at] = unit;
  }
  return true;
}

function copied(head: Uint8Array, bytes: Uint8Array, end: number): Uint8Array {
  const frame = take(head.byteLength + end - HEAD_BYTES);
  frame.set(head);
  frame.set(bytes.subarray(HEAD_BYTES, end), head.byteLength);
  pool?.give(bytes);
  return frame;
}

const NONE = new Uint8Array(0);
// The JSON of a few chunks and of what was called beside them; a longer one costs one more copy.
export const HEAD_BYTES = 1024;
// Smaller frames would waste most of a buffer while they wait to be acknowledged.
export const SMALLEST_BYTES = 8 * 1024;

// From here on a segment looks like one of many.
const BULKY_BYTES = 32 * 1024;
