import { frameHead, frameJson, type RawFrame, writeTextFrame } from "../wire/v1.ts";
import { type ValueSink, writeMessage } from "../wire/values.ts";

/**
 * The segments of the next frame: each is copied when it is passed, so that its owner may fill it again. The frame's JSON, which is known
 * last, comes before them. The outbox owns it.
 */
export interface FrameDraft {
  /** How many segments there are. */
  readonly count: number;
  add(segment: Uint8Array): void;
  /** The frame with these messages, which it takes out of their list; the draft is empty again. */
  finish(sequence: number, ack: number, messages: string[]): Uint8Array;
}

/** Who still needs a frame's bytes: its peer, until `end` is called, and every transport to which it is given. */
export interface Lease {
  /** One transport more; it calls the answer when it is done. */
  begin(): () => void;
  end(): void;
}

/** How frames with bytes are made. */
export interface Drafting {
  draft(): FrameDraft;
  /** Who needs the bytes of a frame; undefined for a text, and for those that serve no other one. */
  lease(frame: RawFrame): Lease | undefined;
  readonly composer: Composing;
}

/** How the messages of a frame without bytes are written; `texts` are those of them that are strings. */
export interface Composing {
  /** Writes one message into the frame, and answers with its length; with its text if that does not fit in. */
  write(texts: string[], message: readonly unknown[], sink: ValueSink, fits: (length: number) => boolean): number | string;
  /** Adds a message that is a text already. */
  push(texts: string[], text: string): void;
  /** The frame with these messages; there are none in it any more. */
  finish(texts: string[], sequence: number, ack: number): string;
}

/** Puts strings together. */
export const strings: Composing = {
  write(texts, message, sink, fits) {
    const text = writeMessage(message, sink);
    if (!fits(text.length)) return text;
    texts.push(text);
    return text.length;
  },
  push: (texts, text) => void texts.push(text),
  finish: (texts, sequence, ack) => writeTextFrame(sequence, ack, texts.splice(0)),
};

/** How frames are made in this process. In Node a kite has set something better: a page, whose every byte is loaded, has the way that takes the least code. */
export const drafting: Drafting = { draft: () => new PlainDraft(), lease: () => undefined, composer: strings };

/** From now on, frames are made like this. */
export function draftFrames(better: Drafting): void {
  Object.assign(drafting, better);
}

/** Puts a frame's parts together when they are all there. */
export class PlainDraft implements FrameDraft {
  readonly #segments: Uint8Array[] = [];

  get count(): number {
    return this.#segments.length;
  }

  add(segment: Uint8Array): void {
    // Not `slice`, by which a Buffer of Node's shares its bytes.
    this.#segments.push(new Uint8Array(segment));
  }

  finish(sequence: number, ack: number, messages: string[]): Uint8Array {
    const segments = this.#segments.splice(0);
    const lengths = segments.map(({ byteLength }) => byteLength);
    return joined([frameHead(frameJson(sequence, ack, messages.splice(0), lengths)), ...segments]);
  }
}

/** Bytes one behind the other; a single piece stays where it is. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const whole = new Uint8Array(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.byteLength;
  }
  return whole;
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
