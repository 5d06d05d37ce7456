import { type KiteError, protocolError } from "../errors.ts";
import { nestedBeyond } from "../json-depth.ts";
import { LIMITS, limitError } from "../limits.ts";

/** The WebSocket subprotocol's name. */
export const PROTOCOL = "kite.v1";

/** A frame as read: its sequence number (0: not counted), the peer's acknowledgement, and its messages. */
export interface Frame {
  readonly sequence: number;
  readonly ack: number;
  readonly messages: readonly (readonly unknown[])[];
  readonly segments: readonly Uint8Array[];
  /** Whether any value may need reviving. */
  readonly marked: boolean;
}

/** What the length of a binary frame's JSON takes. */
export const HEADER_BYTES = 4;

/** A frame as a transport carries it: text, or bytes. */
export type RawFrame = string | Uint8Array;

/** Writes a frame without bytes from messages that are JSON text already. */
export function writeTextFrame(sequence: number, ack: number, messages: readonly string[]): string {
  // What `join` makes is the frame as it leaves: brackets put around it afterwards would cost a second copy of the whole.
  const parts = [`[${sequence},${ack}`, ...messages];
  parts[parts.length - 1] += "]";
  return parts.join(",");
}

/**
 * How a binary frame begins, up to its first segment: the length of its JSON (four bytes, big endian), then the JSON; the
 * lengths of the segments are its third element. A message that travels in pieces is such a frame, without numbers.
 */
export function writeFrameHead(sequence: number, ack: number, messages: readonly string[], lengths: readonly number[]): Uint8Array {
  return frameHead(frameJson(sequence, ack, messages, lengths));
}

/** The JSON of a binary frame. */
export function frameJson(sequence: number, ack: number, messages: readonly string[], lengths: readonly number[]): string {
  return `[${sequence},${ack},[${lengths.join(",")}],${messages.join(",")}]`;
}

/** The JSON of a binary frame behind its length. */
export function frameHead(text: string): Uint8Array {
  const json = encoder.encode(text);
  const head = new Uint8Array(HEADER_BYTES + json.byteLength);
  writeLength(json.byteLength, head, 0);
  head.set(json, HEADER_BYTES);
  return head;
}

/** Writes how long the JSON of a binary frame is, where the frame begins. */
export function writeLength(length: number, bytes: Uint8Array, offset: number): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, length);
}

/** A frame that carries nothing but an acknowledgement, and at most one uncounted message. */
export function writeControl(ack: number, message?: string): string {
  return message === undefined ? `[0,${ack}]` : `[0,${ack},${message}]`;
}

/**
 * Reads a frame. How deep its values are nested is for whoever reads them to check, but what would keep `JSON.parse` busy
 * for seconds is not parsed at all.
 *
 * @throws {KiteError} `protocol_error` saying what was expected, `limit_exceeded` when a large frame is nested too deeply.
 */
export function readFrame(raw: RawFrame, maxDepth: number = LIMITS.depth): Frame {
  return typeof raw === "string" ? readText(raw, maxDepth) : readBinary(raw, maxDepth);
}

const encoder = new TextEncoder();
// Fatal: replacement characters would turn one message into another without anyone noticing.
const decoder = new TextDecoder("utf-8", { fatal: true });

function readText(text: string, maxDepth: number): Frame {
  const parts = parse(text, maxDepth);
  const [sequence, ack] = parts;
  if (!isCount(sequence) || !isCount(ack)) throw badNumbers();
  // Searching for one rare character is much cheaper than for the whole mark; a dollar sign in a text only costs a walk.
  return { sequence, ack, messages: messagesFrom(parts, 2), segments: NO_SEGMENTS, marked: text.includes("$") };
}

const NO_SEGMENTS: readonly Uint8Array[] = [];

function readBinary(bytes: Uint8Array, maxDepth: number): Frame {
  if (bytes.byteLength < HEADER_BYTES) throw protocolError("a binary frame begins with the length of its JSON");
  const jsonLength = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  const jsonEnd = HEADER_BYTES + jsonLength;
  if (jsonEnd > bytes.byteLength) throw protocolError("a binary frame's JSON is longer than the frame");
  const parts = parse(decode(bytes.subarray(HEADER_BYTES, jsonEnd)), maxDepth);
  const [sequence, ack, lengths] = parts;
  if (!isCount(sequence) || !isCount(ack)) throw badNumbers();
  return { sequence, ack, messages: messagesFrom(parts, 3), segments: cut(bytes, jsonEnd, lengths), marked: true };
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw protocolError("a frame's JSON is UTF-8", cause);
  }
}

function parse(text: string, maxDepth: number): unknown[] {
  if (text.length > SCANNED_LENGTH && nestedBeyond(text, maxDepth + FRAME_DEPTH)) {
    throw limitError("depth", { ...LIMITS, depth: maxDepth }, "a frame is nested deeper");
  }
  let parts: unknown;
  try {
    parts = JSON.parse(text);
  } catch (cause) {
    throw protocolError("a frame is a JSON array", cause);
  }
  if (!Array.isArray(parts)) throw protocolError("a frame is a JSON array");
  return parts;
}

// A shorter frame is parsed in a millisecond, however deep it is. 32 MiB of brackets take six seconds and a gigabyte.
const SCANNED_LENGTH = 64 * 1024;
// The frame, its messages, their arguments, and two more for every value that is written as a mark.
const FRAME_DEPTH = 8;

function badNumbers(): KiteError {
  return protocolError("a frame begins with its sequence number and an acknowledgement");
}

function messagesFrom(parts: readonly unknown[], first: number): (readonly unknown[])[] {
  const messages: (readonly unknown[])[] = [];
  for (let index = first; index < parts.length; index++) {
    const message = parts[index];
    if (!Array.isArray(message)) throw protocolError("a message is a JSON array");
    messages.push(message);
  }
  return messages;
}

function cut(bytes: Uint8Array, start: number, lengths: unknown): Uint8Array[] {
  if (!Array.isArray(lengths) || !lengths.every(isCount)) throw protocolError("a binary frame lists the lengths of its segments");
  let offset = start;
  const segments = lengths.map((length) => {
    const segment = bytes.subarray(offset, offset + length);
    offset += length;
    return segment;
  });
  if (offset !== bytes.byteLength)
    throw protocolError(`a binary frame's segments fill it: expected ${offset} bytes, got ${bytes.byteLength}`);
  return segments;
}

/** Whether a value that a peer sent can be a number, a length or an id: a whole number from 0 that is exact. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
