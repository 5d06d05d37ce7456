/**
 * What one NATS message of a link is; the first byte says it. Behind it stand two counts of bytes, modulo 2^32, big endian:
 * what the sender had sent before this message, and what it has taken in. The first shows what was lost on the way, the
 * second gives credit.
 */
export const PACKET = {
  /** A frame of text, or the last part of one. */
  text: 0,
  /** A frame of bytes, or the last part of one. */
  bytes: 1,
  /** A part of a frame that goes on in the next message. */
  part: 2,
  /** Only the counts. */
  counts: 3,
  /** Asks for the counts. */
  probe: 4,
  /** The link is over: two bytes of code, then the reason. */
  close: 5,
  /** The first answer: the subject of the accepting side. */
  open: 6,
} as const;

export const HEADER_BYTES = 9;

/** A message with a header and room for `length` bytes behind it. */
export function allocatePacket(kind: number, sent: number, taken: number, length: number): Buffer {
  const packet = Buffer.allocUnsafe(HEADER_BYTES + length);
  packet[0] = kind;
  packet.writeUInt32BE(sent, 1);
  packet.writeUInt32BE(taken, 5);
  return packet;
}

/** A message with text behind its header. */
export function textPacket(kind: number, sent: number, taken: number, text: string, length: number): Buffer {
  const packet = allocatePacket(kind, sent, taken, length);
  packet.write(text, HEADER_BYTES);
  return packet;
}

/** A message with bytes behind its header. */
export function bytesPacket(kind: number, sent: number, taken: number, bytes: Uint8Array): Buffer {
  const packet = allocatePacket(kind, sent, taken, bytes.length);
  packet.set(bytes, HEADER_BYTES);
  return packet;
}

/** One of the two counts of a header. */
export function readCount(packet: Uint8Array, at: 1 | 5): number {
  return (((packet[at] ?? 0) << 24) | ((packet[at + 1] ?? 0) << 16) | ((packet[at + 2] ?? 0) << 8) | (packet[at + 3] ?? 0)) >>> 0;
}

/** The difference of two counts that may have passed 2^32. */
export function countsBetween(from: number, to: number): number {
  return (to - from) >>> 0;
}
