import { frameHead, frameJson, HEADER_BYTES, writeLength } from "../wire/v1.ts";
import { composer } from "./composer.ts";
import { type Drafting, FRAME_BYTES, type FrameDraft } from "./frame-buffers.ts";
import { framePool, HEAD_BYTES, SMALLEST_BYTES } from "./frame-pool.ts";

/** Drafts in buffers that earlier frames have left; of no use where no transport tells when it has sent them, as in a browser. */
export const pooledDrafts: Drafting = {
  draft: () => new PooledDraft(),
  lease: (frame) => (typeof frame === "string" ? undefined : framePool.lease(frame)),
  composer,
};

/** Copies each segment once, into the bytes that the frame is sent from; its JSON comes into the room before them. */
export class PooledDraft implements FrameDraft {
  #bytes: Uint8Array = NONE;
  #end = HEAD_BYTES;
  #lengths: number[] = [];

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

  finish(sequence: number, ack: number, messages: string[]): Uint8Array {
    composer.settle(messages);
    const json = frameJson(sequence, ack, messages.splice(0), this.#lengths);
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
    this.#bytes = new Uint8Array(framePool.take(Math.max(size, likely)).buffer);
    this.#bytes.set(before.subarray(0, this.#end));
    framePool.give(before);
  }
}

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
  const frame = framePool.take(head.byteLength + end - HEAD_BYTES);
  frame.set(head);
  frame.set(bytes.subarray(HEAD_BYTES, end), head.byteLength);
  framePool.give(bytes);
  return frame;
}

const NONE = new Uint8Array(0);
// From here on a segment looks like one of many.
const BULKY_BYTES = 32 * 1024;
