import { FRAME_BYTES, type Lease, PIECE_BYTES } from "./frame-buffers.ts";

/**
 * Frames about as large as a stream's usual chunks, or as a piece of a large message, get a buffer that an earlier frame has left:
 * a fresh one for each costs more than filling it, for its pages and for the garbage collector. All sessions share them.
 */
export const framePool = {
  /** The bytes of a new frame. */
  take(size: number): Uint8Array {
    const kind = KINDS.find(({ smallest, bytes }) => size >= smallest && size <= bytes);
    return kind === undefined ? new Uint8Array(size) : new Uint8Array(kind.free.pop() ?? new ArrayBuffer(kind.bytes), 0, size);
  },

  /** Lets the bytes of a frame serve another one. Nobody may read them any more, a socket that has yet to send them included. */
  give({ buffer }: Uint8Array): void {
    const kind = KINDS.find(({ bytes }) => bytes === buffer.byteLength);
    if (kind !== undefined && kind.free.length < kind.mostFree) kind.free.push(buffer as ArrayBuffer);
  },

  /** Returns a frame's bytes when nobody needs them; undefined for those that serve no other one. */
  lease(frame: Uint8Array): Lease | undefined {
    return KINDS.some(({ bytes }) => bytes === frame.buffer.byteLength) ? new FrameLease(frame) : undefined;
  },
};

/**
 * The acknowledgement alone is not believed: a peer that sent it early would get what the bytes were written over with. The
 * transports must be done with them, too.
 */
class FrameLease implements Lease {
  readonly #frame: Uint8Array;
  #holders = 1;

  constructor(frame: Uint8Array) {
    this.#frame = frame;
  }

  begin(): () => void {
    this.#holders++;
    return this.end;
  }

  readonly end = (): void => {
    if (--this.#holders === 0) framePool.give(this.#frame);
  };
}

// The JSON of a few chunks and of what was called beside them; a longer one costs one more copy.
export const HEAD_BYTES = 1024;
// Smaller frames would waste most of a buffer while they wait to be acknowledged.
export const SMALLEST_BYTES = 8 * 1024;

/** Sizes that are used again: two MiB of the small ones, one of the middle, four of the large ones, which is what two fast streams have on their way. */
const KINDS: readonly { smallest: number; bytes: number; mostFree: number; free: ArrayBuffer[] }[] = [
  { smallest: SMALLEST_BYTES, bytes: HEAD_BYTES + PIECE_BYTES, mostFree: 128, free: [] },
  { smallest: 32 * 1024, bytes: 128 * 1024, mostFree: 8, free: [] },
  { smallest: 128 * 1024, bytes: HEAD_BYTES + FRAME_BYTES, mostFree: 16, free: [] },
];
