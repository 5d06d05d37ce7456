/**
 * Masks the bytes from `from` to `to` where they are, or unmasks them, which is the same (RFC 6455, 5.3). `phase` is how far from the
 * begin of its payload the first of them stands. Four bytes at a time: `ws`, without a native addon, takes them one by one, which is a
 * tenth of the work of a busy server.
 *
 * @example mask(frame, 6, frame.byteLength, 0x1f2e3d4c);
 */
export function mask(bytes: Uint8Array, from: number, to: number, key: number, phase = 0): void {
  const misfit = (bytes.byteOffset + from) % WORD_BYTES;
  const firstWord = misfit === 0 ? from : Math.min(from + WORD_BYTES - misfit, to);
  const count = Math.floor((to - firstWord) / WORD_BYTES);
  const afterWords = firstWord + count * WORD_BYTES;
  maskSingly(bytes, from, firstWord, key, phase);
  if (count > 0) {
    for (let at = 0; at < WORD_BYTES; at++) wordBytes[at] = keyByte(key, phase + firstWord - from + at);
    const [word] = wordOfKey as unknown as [number];
    const words = new Int32Array(bytes.buffer, bytes.byteOffset + firstWord, count);
    for (let at = 0; at < count; at++) (words[at] as number) ^= word;
  }
  maskSingly(bytes, afterWords, to, key, phase + afterWords - from);
}

function maskSingly(bytes: Uint8Array, from: number, to: number, key: number, phase: number): void {
  for (let at = from; at < to; at++) (bytes[at] as number) ^= keyByte(key, phase + at - from);
}

/** The first byte of a key, as of everything in the protocol, is its highest. */
function keyByte(key: number, place: number): number {
  return (key >>> (24 - 8 * (place % KEY_BYTES))) & 0xff;
}

const WORD_BYTES = 4;

/** How long a key is. */
export const KEY_BYTES = 4;

// The key as the machine's own word, whatever the order of its bytes.
const wordOfKey = new Int32Array(1);
const wordBytes = new Uint8Array(wordOfKey.buffer);
