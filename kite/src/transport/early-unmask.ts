import type { Duplex } from "node:stream";
import { KEY_BYTES, mask } from "./mask.ts";

/**
 * Unmasks what a client sends before `ws` reads it, and leaves it a key of zeros, which masks nothing: `ws` takes the bytes one by one.
 * What follows the frames is all that is done here; whether they are as they should be, `ws` sees. Ends with the connection.
 *
 * @example unmaskEarly(socket);
 */
export function unmaskEarly(connection: Duplex): void {
  const frames = new MaskedFrames();
  // `ws` listens already, and gets the same bytes after this.
  connection.prependListener("data", (chunk: Uint8Array) => frames.unmask(chunk));
}

/** Follows the frames through the chunks that a connection gives. */
export class MaskedFrames {
  /** The first bytes of a head that goes on in the next chunk. */
  readonly #head = new Uint8Array(LONGEST_HEAD);
  #headLength = 0;
  readonly #key = new Uint8Array(KEY_BYTES);
  /** Whether the payload that is next is for us to unmask, with this key. */
  #masked = false;
  #payloadLength = 0;
  /** How much of the payload has come. */
  #done = 0;

  /** Unmasks the payloads in the next bytes of the connection, where they are. */
  unmask(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.byteLength; ) {
      if (this.#done < this.#payloadLength) at = this.#payload(chunk, at);
      else at = this.#readHead(chunk, at);
    }
  }

  #payload(chunk: Uint8Array, from: number): number {
    const to = Math.min(chunk.byteLength, from + this.#payloadLength - this.#done);
    if (this.#masked) mask(chunk, from, to, this.#key, this.#done % KEY_BYTES);
    this.#done += to - from;
    return to;
  }

  /** Answers with where it ended, or with the chunk's end. */
  #readHead(chunk: Uint8Array, from: number): number {
    const begun = this.#headLength;
    const head = this.#head;
    let length = begun;
    let at = from;
    while (at < chunk.byteLength && length < headLength(head, length)) head[length++] = chunk[at++] as number;
    this.#headLength = length;
    if (length < headLength(head, length)) return at;
    this.#headLength = 0;
    this.#done = 0;
    this.#payloadLength = payloadLength(head);
    // A key that began in the chunk before is with `ws` already, which unmasks this one frame itself.
    this.#masked = begun === 0 && isMasked(head);
    if (this.#masked) {
      this.#key.set(chunk.subarray(at - KEY_BYTES, at));
      chunk.fill(0, at - KEY_BYTES, at);
    }
    return at;
  }
}

/** How long a head is, as far as its first bytes tell (RFC 6455, 5.2). */
function headLength(head: Uint8Array, known: number): number {
  if (known < 2) return 2;
  return 2 + lengthBytes(head) + (isMasked(head) ? KEY_BYTES : 0);
}

function lengthBytes(head: Uint8Array): 0 | 2 | 8 {
  const short = (head[1] as number) & 0x7f;
  return short < 126 ? 0 : short === 126 ? 2 : 8;
}

function payloadLength(head: Uint8Array): number {
  const bytes = lengthBytes(head);
  if (bytes === 0) return (head[1] as number) & 0x7f;
  let length = 0;
  for (let at = 2; at < 2 + bytes; at++) length = length * 256 + (head[at] as number);
  return length;
}

function isMasked(head: Uint8Array): boolean {
  return (head[1] as number) >= 0x80;
}

const LONGEST_HEAD = 14;
