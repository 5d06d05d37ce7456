import { KiteError, protocolError, type WireError } from "../errors.ts";
import { isCount } from "./v1.ts";

/**
 * Values of kite.v1 are JSON, plus what JSON lacks, written as an object with the single key `$`:
 *
 *     undefined {"$":["u"]}   bigint {"$":["n","12"]}   Date {"$":["d",ms]}   NaN, Infinity {"$":["x","NaN"]}
 *     bytes {"$":["b",segment]}   Blob {"$":["B",segment,"text/plain"]}   Error {"$":["e",{…}]}   stream {"$":["s",id]}
 *     function {"$":["f",id]}   function of the receiver's own {"$":["r",id]}
 *     an object that has a key "$" of its own {"$":["o",{…}]}
 *
 * Inside objects, properties that are undefined are left out, as in JSON.
 */

/** Where functions, streams and bytes of an outgoing value go. */
export interface ValueSink {
  /** A function of this side becomes `f`; one that came from the peer returns to it as `r`, under the peer's id. */
  markFunction(fn: (...args: never[]) => unknown): readonly ["f" | "r", number];
  exportStream(source: StreamSource): number;
  /** Keeps bytes for the frame that is being written; answers with their segment's number. */
  addBytes(bytes: Uint8Array): number;
  /** As `addBytes`, for what has yet to be read. */
  addBlob(blob: Blob): number;
  readonly maxDepth: number;
}

/** What is sent as a stream. */
export type StreamSource = AsyncIterable<unknown> | ReadableStream<unknown>;

/** Where functions, streams and bytes of an incoming value come from. */
export interface ValueSource {
  importFunction(id: number): unknown;
  ownFunction(id: number): unknown;
  importStream(id: number): unknown;
  bytes(segment: number): Uint8Array;
  readonly maxDepth: number;
}

/**
 * A result or a chunk of a stream that is JSON text already, so that what many are told is written once. The text holds
 * plain JSON, no property named `$`, and is not checked.
 *
 * @example
 * const [answer, text] = [{ square: 144 }, '{"square":144}'];
 * const known = method({ role: "viewer" }, () => writtenJson<typeof answer>(text));
 */
export function writtenJson<T>(text: string): T {
  // To everybody but those who write it to the wire it is what it says.
  return new WrittenJson(text) as T;
}

class WrittenJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  /** In the other dialect it is written like any other. */
  toJSON(): unknown {
    return JSON.parse(this.text);
  }
}

/**
 * Writes a value as JSON text. Each property is read once.
 *
 * @throws {KiteError} `invalid_argument` for what cannot be carried (symbols, Maps), `limit_exceeded` when nested too deeply.
 */
export function stringifyValue(value: unknown, sink: ValueSink, depth = 0): string {
  switch (typeof value) {
    case "string":
      // Most are the same in JSON, which is seen sooner than `JSON.stringify` is called.
      return ESCAPED.test(value) ? JSON.stringify(value) : `"${value}"`;
    case "boolean":
      return value ? "true" : "false";
    case "number":
      return Number.isFinite(value) ? String(value) : mark("x", String(value));
    case "undefined":
      return mark("u");
    case "bigint":
      return mark("n", value.toString());
    case "function":
      return mark(...sink.markFunction(value as (...args: never[]) => unknown));
    case "object":
      return value === null ? "null" : encodeObject(value, sink, depth);
    default:
      throw new KiteError("invalid_argument", `a ${typeof value} cannot be sent to another kite`);
  }
}

/** As {@link stringifyValue}, for a message: the array of its elements, each a value of its own. */
export function writeMessage(message: readonly unknown[], sink: ValueSink): string {
  return encodeArray(message, sink, -1);
}

/**
 * Turns parsed JSON back into the value that was sent. Arrays and objects are changed in place.
 *
 * @throws {KiteError} `protocol_error` for marks that are none, `limit_exceeded` when nested too deeply.
 */
export function reviveValue(value: unknown, source: ValueSource): unknown {
  return decode(value, source, 0);
}

/**
 * Checks parsed JSON that holds no marks, so that a method may walk through it without fear of its depth or of its names.
 *
 * @throws {KiteError} `protocol_error` for a property named `__proto__`, `limit_exceeded` when nested too deeply.
 */
export function checkValue(value: unknown, maxDepth: number, depth = 0): void {
  if (typeof value !== "object" || value === null) return;
  if (depth >= maxDepth) throw tooDeep(maxDepth);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) checkValue(value[index], maxDepth, depth + 1);
    return;
  }
  for (const key in value) {
    if (key === "__proto__") throw badName();
    checkValue((value as Record<string, unknown>)[key], maxDepth, depth + 1);
  }
}

/** What a chunk that is a text or bytes costs of a stream's window; undefined for all else, whose sender says it. */
export function plainWeight(chunk: unknown): number | undefined {
  if (typeof chunk === "string") return chunk.length + CHUNK_OVERHEAD;
  if (chunk instanceof Uint8Array || chunk instanceof ArrayBuffer) return chunk.byteLength + CHUNK_OVERHEAD;
  return undefined;
}

/** What any other chunk costs: its JSON and its segments are known to its sender, who says it beside the chunk. */
export function carriedWeight(length: number): number {
  return length + CHUNK_OVERHEAD;
}

/**
 * The least that a value that was read can have been long as JSON and segments: enough to see through a peer that says
 * less than it sent, without writing the value once more.
 */
export function leastLength(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 1;
  if (Array.isArray(value)) {
    let sum = 1;
    for (let index = 0; index < value.length; index++) sum += leastLength(value[index]);
    return sum;
  }
  if (value instanceof Uint8Array) return value.byteLength;
  if (!isPlain(value)) return value instanceof Blob ? value.size : 1;
  let sum = 1;
  for (const key in value) sum += key.length + leastLength((value as Record<string, unknown>)[key]);
  return sum;
}

/** An error as it crosses. What must be told is told: details that are no JSON, or very large, stay behind, and so does the rest of a message. */
export function carriedError(error: KiteError): WireError {
  const wire = error.toWire();
  if (wire.message.length > MAX_ERROR_LENGTH) wire.message = `${wire.message.slice(0, MAX_ERROR_LENGTH)}…`;
  if (wire.details !== undefined && !isShortJson(wire.details)) delete wire.details;
  return wire;
}

// A sentence for a person; whole compiler outputs fit, a mistake that puts a file into a message does not hurt.
const MAX_ERROR_LENGTH = 64 * 1024;

function isShortJson(value: unknown): boolean {
  try {
    return JSON.stringify(value).length <= MAX_ERROR_LENGTH;
  } catch {
    return false;
  }
}

// Keeps a stream of empty chunks from being free, and so unbounded.
const CHUNK_OVERHEAD = 32;

/** What JSON escapes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are, with quotes, backslashes and halves of surrogate pairs
export const ESCAPED = /["\\\u0000-\u001f\ud800-\udfff]/;

function mark(...content: readonly [string, ...unknown[]]): string {
  return `{"$":${JSON.stringify(content)}}`;
}

/** As `mark`, for what every chunk of a file is written as. */
function bytesMark(segment: number): string {
  return `{"$":["b",${segment}]}`;
}

function encodeObject(value: object, sink: ValueSink, depth: number): string {
  if (depth >= sink.maxDepth) throw tooDeep(sink.maxDepth);
  if (Array.isArray(value)) return encodeArray(value, sink, depth);
  // Asked before the prototype: a stream may be an object literal with one method.
  if (Symbol.asyncIterator in value) return mark("s", sink.exportStream(value as StreamSource));
  if (!isPlain(value)) {
    const special = encodeSpecial(value, sink, depth);
    if (special !== undefined) return special;
  }
  return encodeRecord(value as Record<string, unknown>, sink, depth);
}

export function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function encodeSpecial(value: object, sink: ValueSink, depth: number): string | undefined {
  if (value instanceof WrittenJson) return value.text;
  if (value instanceof Uint8Array) return bytesMark(sink.addBytes(value));
  if (value instanceof ArrayBuffer) return bytesMark(sink.addBytes(new Uint8Array(value)));
  if (value instanceof Blob) return mark("B", sink.addBlob(value), value.type);
  // Of those that are no async iterable: not every browser has made them one.
  if (value instanceof ReadableStream) return mark("s", sink.exportStream(value));
  if (value instanceof Date) return mark("d", value.getTime());
  if (value instanceof Error) return mark("e", carriedError(KiteError.from(value)));
  if (ArrayBuffer.isView(value)) throw new KiteError("invalid_argument", "only Uint8Array can be sent; wrap its buffer in one");
  if (value instanceof Map || value instanceof Set) {
    throw new KiteError("invalid_argument", "a Map or a Set cannot be sent to another kite; send an array of its entries");
  }
  // Deeper, although it is none: one that says of itself that it is its value would have no end.
  if (isBoxed(value)) return stringifyValue(value.valueOf(), sink, depth + 1);
  const { toJSON } = value as { toJSON?: unknown };
  return typeof toJSON === "function" ? stringifyValue(toJSON.call(value), sink, depth + 1) : undefined;
}

function isBoxed(value: object): boolean {
  return value instanceof String || value instanceof Number || value instanceof Boolean || value instanceof BigInt;
}

function encodeArray(items: readonly unknown[], sink: ValueSink, depth: number): string {
  let text = "[";
  for (let index = 0; index < items.length; index++) {
    if (index > 0) text += ",";
    text += stringifyValue(items[index], sink, depth + 1);
  }
  return `${text}]`;
}

function encodeRecord(record: Record<string, unknown>, sink: ValueSink, depth: number): string {
  let text = "";
  let own$ = false;
  for (const key in record) {
    // Not `Object.hasOwn`: V8 asks nothing at all for this one, in a loop over the same names.
    if (!hasOwn.call(record, key)) continue;
    if (key === "$") own$ = true;
    else if (key === "__proto__") throw unsendableName();
    const item = record[key];
    if (item !== undefined) text += nameOf(key)[text === "" ? 0 : 1] + stringifyValue(item, sink, depth + 1);
  }
  text = text === "" ? "{}" : `${text}}`;
  return own$ ? `{"$":["o",${text}]}` : text;
}

const hasOwn = Object.prototype.hasOwnProperty;

/**
 * The names of properties as they are written, first in their object and further on: there are few, and each is written again
 * and again. With what stands before them, since every string that is put together costs an object until the frame is written.
 */
const names = new Map<string, readonly [first: string, further: string]>();
// A kite that answers with names that its peers think of must not keep all of them.
const MAX_NAMES = 1024;
const MAX_NAME_LENGTH = 64;

function nameOf(key: string): readonly [first: string, further: string] {
  let name = names.get(key);
  if (name === undefined) {
    const written = `${JSON.stringify(key)}:`;
    name = [`{${written}`, `,${written}`];
    if (names.size < MAX_NAMES && key.length <= MAX_NAME_LENGTH) names.set(key, name);
  }
  return name;
}

function decode(value: unknown, source: ValueSource, depth: number): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (depth >= source.maxDepth) throw tooDeep(source.maxDepth);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = decode(value[index], source, depth + 1);
    return value;
  }
  const record = value as Record<string, unknown>;
  if ("$" in record) return decodeMark(record, source, depth);
  return decodeRecord(record, source, depth);
}

function decodeRecord(record: Record<string, unknown>, source: ValueSource, depth: number): Record<string, unknown> {
  for (const key of Object.keys(record)) {
    if (key === "__proto__") throw badName();
    record[key] = decode(record[key], source, depth + 1);
  }
  return record;
}

function decodeMark(record: Record<string, unknown>, source: ValueSource, depth: number): unknown {
  const content = record.$;
  if (!Array.isArray(content) || Object.keys(record).length !== 1) throw badMark(content);
  const [kind, detail, extra] = content as [unknown, unknown, unknown];
  switch (kind) {
    case "u":
      return undefined;
    case "n":
      if (typeof detail === "string" && /^-?\d{1,4096}$/.test(detail)) return BigInt(detail);
      break;
    case "d":
      if (typeof detail === "number" || detail === null) return new Date(detail ?? Number.NaN);
      break;
    case "x":
      if (detail === "NaN" || detail === "Infinity" || detail === "-Infinity") return Number(detail);
      break;
    case "e":
      return KiteError.fromWire(detail);
    case "b":
      if (isCount(detail)) return source.bytes(detail);
      break;
    case "B":
      if (isCount(detail) && typeof extra === "string") return blobOf(source.bytes(detail), extra);
      break;
    case "f":
      if (isCount(detail)) return source.importFunction(detail);
      break;
    case "r":
      if (isCount(detail)) return source.ownFunction(detail);
      break;
    case "s":
      if (isCount(detail)) return source.importStream(detail);
      break;
    case "o":
      if (typeof detail === "object" && detail !== null && !Array.isArray(detail)) {
        return decodeRecord(detail as Record<string, unknown>, source, depth + 1);
      }
      break;
  }
  throw badMark(content);
}

function blobOf(bytes: Uint8Array, type: string): Blob {
  // What a frame holds is never shared memory; the type of its views says less than is known.
  return new Blob([bytes as Uint8Array<ArrayBuffer>], { type });
}

export function tooDeep(maxDepth: number): KiteError {
  return new KiteError("limit_exceeded", `the limit depth is ${maxDepth}; the value is nested deeper or contains itself`);
}

export function unsendableName(): KiteError {
  return new KiteError("invalid_argument", 'a property named "__proto__" cannot be sent to another kite');
}

/** Harmless here, but whoever copies the object by assignment would replace a prototype. */
function badName(): KiteError {
  return protocolError('a value has a property named "__proto__"');
}

function badMark(content: unknown): KiteError {
  return protocolError(`a marked value was expected, got ${JSON.stringify(content)?.slice(0, 80)}`);
}
