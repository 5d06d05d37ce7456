/**
 * Bytes that a peer sent, for whoever may keep them: those that are a small part of what a transport read at once are copied,
 * or a few of them that somebody remembers would keep all the rest.
 */
export function keptBytes(bytes: Uint8Array): Uint8Array {
  const { byteLength } = bytes.buffer;
  return byteLength <= SMALL_BYTES || byteLength <= MOST_TIMES * bytes.byteLength ? bytes : bytes.slice();
}

// What Node reads at once by itself.
const SMALL_BYTES = 64 * 1024;
// Chunks of 64 KiB, which is what most streams have, are not copied out of what `connectRoomy` reads.
const MOST_TIMES = 8;
