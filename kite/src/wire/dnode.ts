import { KiteError, protocolError } from "../errors.ts";
import { nestedBeyond } from "../json-depth.ts";
import { type Limits, limitError } from "../limits.ts";
import { dnodeError } from "./dnode-error.ts";
import { checkValue } from "./values.ts";

type AnyFunction = (...args: never[]) => unknown;
type Path = readonly (string | number)[];

/** One message of the dnode dialect, read: a call of a named method, or of a function that the receiver had sent. */
export interface DnodeMessage {
  readonly method: string | number;
  /** With the functions in their places; that of a call's answer is a {@link ResponseCallback}. */
  readonly args: readonly unknown[];
}

/** The place where a call's answer goes. It is used once, so it is not counted among the functions that are held. */
export class ResponseCallback {
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }
}

/** Gives functions of an outgoing message their ids. `taken` are those of the message so far: one id has one place in it. */
export type ExportFunction = (fn: AnyFunction, taken: ReadonlySet<number>) => number;

export interface DnodeSource {
  importFunction(id: number): unknown;
  readonly limits: Limits;
}

/**
 * Writes a message. Functions become `"[Function]"`, and their paths and ids stand beside the arguments.
 *
 * @throws {KiteError} `invalid_argument` for what JSON has no form for, `failed_precondition` for a stream, `limit_exceeded`
 * when nested too deeply.
 */
export function writeDnode(method: string | number, args: readonly unknown[], exportFunction: ExportFunction, maxDepth: number): string {
  const writing: Writing = { exportFunction, maxDepth: maxDepth + ENVELOPE_DEPTH, path: [], taken: new Set(), callbacks: {} };
  const scrubbed = encode(args, writing);
  return JSON.stringify({ method, arguments: scrubbed, callbacks: writing.callbacks });
}

/**
 * Reads a message. Whatever stands at a function's place is replaced, and where an object has none, it gets one; any other
 * path that leads nowhere is passed over, and `links`, with which kite.js describes cycles, are not followed.
 *
 * @throws {KiteError} `protocol_error` saying what was expected, `limit_exceeded` naming the limit.
 */
export function readDnode(text: string, source: DnodeSource): DnodeMessage {
  const { depth } = source.limits;
  // One for the message itself: its arguments begin inside of it.
  if (nestedBeyond(text, depth + ENVELOPE_DEPTH + 1)) {
    throw new KiteError("limit_exceeded", `the limit depth is ${depth}; the message is nested deeper`);
  }
  const { method, arguments: args = null, callbacks = null } = parse(text);
  if (typeof method !== "string" && !isId(method)) throw protocolError("the method of a message is a name or the id of a function");
  if (args !== null && !Array.isArray(args)) throw protocolError("the arguments of a message are an array");
  if (callbacks !== null && !isRecord(callbacks)) throw protocolError("the callbacks of a message are an object of paths");
  const read: unknown[] = args ?? [];
  checkValue(read, depth + ENVELOPE_DEPTH + 1);
  if (callbacks !== null) unscrub(method, read, callbacks, source);
  return { method, args: read };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// An argument of a method lies in arguments, the envelope and withArgs, each of which is one level.
const ENVELOPE_DEPTH = 3;

function parse(text: string): Record<string, unknown> {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch (cause) {
    throw protocolError("a message of dnode is JSON", cause);
  }
  if (isRecord(message)) return message;
  throw protocolError("a message of dnode is an object with method, arguments and callbacks");
}

function unscrub(
  method: string | number,
  args: unknown[],
  callbacks: Record<string, unknown>,
  { importFunction, limits }: DnodeSource,
): void {
  const entries = Object.entries(callbacks);
  if (entries.length > limits.callbacks) throw limitError("callbacks", limits, `one message came with ${entries.length} functions`);
  for (const [key, path] of entries) {
    const id = /^\d{1,16}$/.test(key) ? Number(key) : Number.NaN;
    if (!isId(id) || !isPath(path, limits.depth)) throw protocolError("a callback is a whole number and the path of its place");
    put(args, path, () => (typeof method === "string" && isResponsePath(path) ? new ResponseCallback(id) : importFunction(id)));
  }
}

function isPath(path: unknown, depth: number): path is Path {
  if (!Array.isArray(path) || path.length === 0 || path.length > depth + ENVELOPE_DEPTH + 1) return false;
  return path.every((part) => typeof part === "string" || isId(part));
}

function isResponsePath(path: Path): boolean {
  return path.length === 2 && String(path[0]) === "0" && path[1] === "responseCallback";
}

/** Only what a value has itself is walked through: no path may reach a prototype. */
function put(args: unknown[], path: Path, make: () => unknown): void {
  let place: unknown = args;
  for (const part of path.slice(0, -1)) {
    if (!has(place, part)) return;
    place = place[part];
  }
  const last = path.at(-1) ?? "";
  if (has(place, last) || gains(place, last)) place[last] = make();
}

/** The methods of a Go struct are in the callbacks alone: JSON has no place for them, so one is made. */
function gains(place: unknown, part: string | number): place is Record<string, unknown> {
  return isRecord(place) && !(place instanceof ResponseCallback) && typeof part === "string" && part !== "__proto__";
}

function has(place: unknown, part: string | number): place is Record<string | number, unknown> {
  if (typeof place !== "object" || place === null || place instanceof ResponseCallback || !Object.hasOwn(place, part)) return false;
  return !Array.isArray(place) || part !== "length";
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

interface Writing {
  readonly exportFunction: ExportFunction;
  readonly maxDepth: number;
  readonly path: (string | number)[];
  readonly taken: Set<number>;
  readonly callbacks: Record<string, Path>;
}

function encode(value: unknown, writing: Writing): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "undefined":
      return null;
    case "number":
      if (Number.isFinite(value)) return value;
      throw unsendable(String(value));
    case "bigint":
      if (Number.isSafeInteger(Number(value))) return Number(value);
      throw unsendable("a bigint that a number does not hold exactly");
    case "function":
      return encodeFunction(value as AnyFunction, writing);
    case "object":
      return value === null ? null : encodeObject(value, writing);
    default:
      throw unsendable(`a ${typeof value}`);
  }
}

function encodeFunction(fn: AnyFunction, { exportFunction, taken, callbacks, path }: Writing): string {
  const id = exportFunction(fn, taken);
  taken.add(id);
  callbacks[id] = [...path];
  return "[Function]";
}

function encodeObject(value: object, writing: Writing): unknown {
  const { maxDepth, path } = writing;
  if (path.length >= maxDepth) {
    throw new KiteError("limit_exceeded", `the limit depth is ${maxDepth - ENVELOPE_DEPTH}; the value is nested deeper or contains itself`);
  }
  if (Array.isArray(value)) return encodeItems(value, writing);
  if (Symbol.asyncIterator in value) {
    throw new KiteError(
      "failed_precondition",
      "the dnode dialect carries no streams; call over kite.v1, or pass a function that takes the items",
    );
  }
  if (value instanceof Uint8Array) return base64(value);
  if (value instanceof ArrayBuffer) return base64(new Uint8Array(value));
  if (value instanceof Error) return dnodeError(KiteError.from(value), "");
  if (ArrayBuffer.isView(value)) throw unsendable("a view that is no Uint8Array");
  if (value instanceof Map || value instanceof Set) throw unsendable("a Map or a Set");
  const { toJSON } = value as { toJSON?: unknown };
  return typeof toJSON === "function" ? encode(toJSON.call(value), writing) : encodeRecord(value as Record<string, unknown>, writing);
}

function encodeItems(items: readonly unknown[], writing: Writing): unknown[] {
  const { path } = writing;
  return Array.from(items, (item, index) => {
    path.push(index);
    const encoded = encode(item, writing);
    path.pop();
    return encoded;
  });
}

function encodeRecord(record: Record<string, unknown>, writing: Writing): Record<string, unknown> {
  const { path } = writing;
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(record)) {
    const item = record[key];
    if (item === undefined) continue;
    if (key === "__proto__") throw unsendable('a property named "__proto__"');
    path.push(key);
    copy[key] = encode(item, writing);
    path.pop();
  }
  return copy;
}

function unsendable(what: string): KiteError {
  return new KiteError("invalid_argument", `${what} cannot be sent in the dnode dialect, which is plain JSON`);
}

/** As Go writes a []byte. In steps, since a call takes only so many arguments. */
function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let start = 0; start < bytes.length; start += BYTES_AT_ONCE) {
    binary += String.fromCharCode(...bytes.subarray(start, start + BYTES_AT_ONCE));
  }
  return btoa(binary);
}

const BYTES_AT_ONCE = 8_192;
