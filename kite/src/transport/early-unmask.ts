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

/** Follows the frames through the chunks that a connection gives. Numbers only: every session has one, and most are idle. */
export class MaskedFrames {
  /** How many bytes of the next head have come, and at which of them its length and it end. */
  #headBytes = 0;
  #lengthEnd = SHORT_HEAD;
  #headEnd = SHORT_HEAD;
  /** Of the frame whose head came last. */
  #key = 0;
  #payloadLength = 0;
  /** How much of its payload has come. */
  #done = 0;
  /** Whether the payload is for us to unmask. */
  #ours = false;

  /** Unmasks the payloads in the next bytes of the connection, where they are. */
  unmask(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.byteLength; ) {
      const inHead = this.#headBytes > 0 || this.#done === this.#payloadLength;
      at = inHead ? this.#head(chunk, at) : this.#payload(chunk, at);
    }
  }

  #payload(chunk: Uint8Array, from: number): number {
    const to = Math.min(chunk.byteLength, from + this.#payloadLength - this.#done);
    if (this.#ours) mask(chunk, from, to, this.#key, this.#done % KEY_BYTES);
    this.#done += to - from;
    return to;
  }

  /** Reads a head (RFC 6455, 5.2); answers with where it ends, or the chunk does. */
  #head(chunk: Uint8Array, from: number): number {
    const isWhole = this.#headBytes === 0;
    let at = from;
    while (at < chunk.byteLength) {
      this.#headByte(chunk[at++] as number);
      if (this.#headBytes > 0) continue;
      this.#done = 0;
      this.#ours = isWhole && this.#headEnd > this.#lengthEnd;
      // A key that began in the chunk before is with `ws` already, which unmasks that one frame itself.
      if (this.#ours) chunk.fill(0, at - KEY_BYTES, at);
      return at;
    }
    return at;
  }

  #headByte(byte: number): void {
    const place = this.#headBytes++;
    if (place === 0) this.#headEnd = SHORT_HEAD;
    else if (place === 1) this.#begin(byte);
    else if (place < this.#lengthEnd) this.#payloadLength = this.#payloadLength * 256 + byte;
    else this.#key = (this.#key << 8) | byte;
    if (this.#headBytes === this.#headEnd) this.#headBytes = 0;
  }

  /** The second byte tells how long the head is: whether there is a key, and how the payload's length is written. */
  #begin(byte: number): void {
    const length = byte & 0x7f;
    this.#payloadLength = length < LENGTH_16 ? length : 0;
    this.#lengthEnd = SHORT_HEAD + (length < LENGTH_16 ? 0 : length === LENGTH_16 ? 2 : 8);
    this.#headEnd = this.#lengthEnd + (byte < MASKED ? 0 : KEY_BYTES);
  }
}

const SHORT_HEAD = 2;
const LENGTH_16 = 126;
const MASKED = 0x80;
