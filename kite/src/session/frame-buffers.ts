/**
 * The bytes of a new frame. Frames about as large as a stream's usual chunk get a buffer that an earlier frame has left: a
 * fresh one for each costs more than filling it, for its pages and for the garbage collector. All sessions share them.
 */
export function takeFrameBytes(size: number): Uint8Array {
  if (size < SMALLEST_BYTES || size > BUFFER_BYTES) return new Uint8Array(size);
  return new Uint8Array(free.pop() ?? new ArrayBuffer(BUFFER_BYTES), 0, size);
}

/** Whether a frame's bytes may serve another one, once nobody needs them. */
export function isReusable(frame: Uint8Array): boolean {
  return frame.buffer.byteLength === BUFFER_BYTES;
}

/** Lets the bytes of a frame serve another one. Nobody may read them any more, a socket that has yet to send them included. */
export function returnFrameBytes(frame: Uint8Array): void {
  if (free.length < MOST_FREE) free.push(frame.buffer as ArrayBuffer);
}

const free: ArrayBuffer[] = [];
// The chunk of a file or a socket in Node and the piece of a large message, with room for what is around it.
const BUFFER_BYTES = 65 * 1024;
// Smaller frames would waste most of it while they wait to be acknowledged.
const SMALLEST_BYTES = 32 * 1024;
// Four MiB: what one fast stream has on its way. Of more streams at once, some allocate.
const MOST_FREE = 64;
