import { ESCAPED, isPlain, stringifyValue, tooDeep, unsendableName, type ValueSink, writeMessage } from "../wire/values.ts";
import { type Composing, strings } from "./frame-buffers.ts";

/**
 * Writes the messages of a frame as the bytes of its text: a string that is put together of hundreds of small ones costs an object for
 * each of them, and is copied twice before it leaves. There is one desk for all frames of the process. Whose messages are on it when
 * those of another one come gets them as a string.
 */
export const composer = {
  write(texts, message, sink, fits) {
    if (!takeDesk(texts)) return add(texts, writeMessage(message, sink), fits);
    writing = true;
    try {
      bytes[end] = COMMA;
      const at = putArray(end + 1, message, sink, -1);
      if (torn !== "") return add(texts, torn + textOf(START, at), fits);
      const length = at - end - 1;
      if (!fits(length)) return textOf(end + 1, at);
      end = at;
      return length;
    } finally {
      writing = false;
      torn = "";
    }
  },

  push(texts, text) {
    if (text.length <= LOOPED && takeDesk(texts)) {
      if (end > FULL) spill();
      bytes[end] = COMMA;
      end = putText(end + 1, text);
    } else {
      composer.settle(texts);
      texts.push(text);
    }
  },

  finish(texts, sequence, ack) {
    if (owner !== texts || writing || texts.length > 0) {
      composer.settle(texts);
      return strings.finish(texts, sequence, ack);
    }
    const head = `[${sequence},${ack}`;
    const from = start - head.length;
    putText(from, head);
    bytes[end] = CLOSE;
    const text = textOf(from, end + 1);
    owner = undefined;
    start = START;
    end = START;
    return text;
  },

  /** Makes a string of those messages of a frame that are on the desk. */
  settle(texts: string[]): void {
    if (owner === texts) spill();
  },
} satisfies Composing & { settle(texts: string[]): void };

const SIZE = 64 * 1024;
// Room for what stands before the messages: a bracket and two numbers.
const START = 64;
// Beyond, room is made before the next piece, of which all but long texts are far smaller than what is left.
const FULL = SIZE - 1024;
// How far a long text may go, so that a bracket and a comma still fit in.
const MOST = SIZE - 256;

const bytes = Buffer.allocUnsafeSlow(SIZE);
const view = new DataView(bytes.buffer);
/** Whose messages are on the desk, from `start` to `end`, each behind a comma. */
let owner: string[] | undefined;
let start = START;
let end = START;
let ascii = true;
/** A message is being written; a getter in it that calls something finds the desk taken. */
let writing = false;
/** What had no room any more of the message that is being written. */
let torn = "";

function takeDesk(texts: string[]): boolean {
  if (writing) return false;
  if (owner !== texts) {
    spill();
    owner = texts;
    ascii = true;
  }
  return true;
}

function add(texts: string[], text: string, fits: (length: number) => boolean): number | string {
  if (!fits(text.length)) return text;
  composer.push(texts, text);
  return text.length;
}

function spill(): void {
  if (end > start) owner?.push(textOf(start + 1, end));
  // What is being written stands behind `end` until it is whole.
  start = writing ? end : START;
  end = start;
}

/** Where the next piece of the message that is being written goes. */
function roomAt(at: number): number {
  return at > FULL ? more(at) : at;
}

/** Makes a string of what there is of the message that is being written; answers with where it goes on. */
function more(at: number): number {
  spill();
  torn += textOf(torn === "" ? end + 1 : START, at);
  start = START;
  end = START;
  return START;
}

function textOf(from: number, to: number): string {
  return bytes.toString(ascii ? "latin1" : "utf8", from, to);
}

/** Writes a value at a place, as {@link stringifyValue} does; answers with where it ends. All that is not plain JSON is left to that. */
function put(from: number, value: unknown, sink: ValueSink, depth: number): number {
  const at = roomAt(from);
  switch (typeof value) {
    case "string":
      return putString(at, value);
    case "number":
      if ((value | 0) === value && value >= 0) return putCount(at, value);
      break;
    case "object":
      if (value === null) break;
      if (Array.isArray(value)) return putArray(at, value, sink, depth);
      // One with a property "$" is written in another one, which begins before it.
      if (isPlain(value) && !(Symbol.asyncIterator in value || "$" in value))
        return putRecord(at, value as Record<string, unknown>, sink, depth);
  }
  return putText(at, stringifyValue(value, sink, depth));
}

function putArray(from: number, items: readonly unknown[], sink: ValueSink, depth: number): number {
  if (depth >= sink.maxDepth) throw tooDeep(sink.maxDepth);
  let at = from;
  bytes[at++] = OPEN;
  for (let index = 0; index < items.length; index++) {
    if (index > 0) bytes[at++] = COMMA;
    at = put(at, items[index], sink, depth + 1);
  }
  at = roomAt(at);
  bytes[at++] = CLOSE;
  return at;
}

function putRecord(from: number, record: Record<string, unknown>, sink: ValueSink, depth: number): number {
  if (depth >= sink.maxDepth) throw tooDeep(sink.maxDepth);
  let at = from;
  let mark = OPEN_RECORD;
  for (const key in record) {
    if (!hasOwn.call(record, key)) continue;
    const item = record[key];
    if (item === undefined) continue;
    at = roomAt(at);
    bytes[at++] = mark;
    mark = COMMA;
    at = put(putName(at, key), item, sink, depth + 1);
  }
  at = roomAt(at);
  if (mark === OPEN_RECORD) bytes[at++] = OPEN_RECORD;
  bytes[at++] = CLOSE_RECORD;
  return at;
}

const hasOwn = Object.prototype.hasOwnProperty;

function putString(at: number, text: string): number {
  if (text.length > LOOPED) return putLongString(at, text);
  const from = at + 1;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit > 0x7f || IS_ESCAPED[unit] === 1) return putText(at, JSON.stringify(text));
    bytes[from + index] = unit;
  }
  const to = from + text.length;
  bytes[at] = QUOTE;
  bytes[to] = QUOTE;
  return to + 1;
}

function putLongString(at: number, text: string): number {
  if (ESCAPED.test(text)) return putLongText(at, JSON.stringify(text));
  bytes[at] = QUOTE;
  const to = putLongText(at + 1, text);
  bytes[to] = QUOTE;
  return to + 1;
}

/** Writes a text as it is. */
function putText(at: number, text: string): number {
  if (text.length > LOOPED) return putLongText(at, text);
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit > 0x7f) return putLongText(at, text);
    bytes[at + index] = unit;
  }
  return at + text.length;
}

function putLongText(from: number, text: string): number {
  const most = UTF8_BYTES * text.length;
  const at = from + most > MOST ? more(from) : from;
  if (at + most > MOST) {
    torn += text;
    return at;
  }
  const length = bytes.write(text, at);
  if (length > text.length) ascii = false;
  return at + length;
}

// Native code copies longer ones sooner, which takes as long as this many characters to begin with.
const LOOPED = 128;
const UTF8_BYTES = 3;
const IS_ESCAPED = Uint8Array.from({ length: 128 }, (_, unit) => Number(ESCAPED.test(String.fromCharCode(unit))));

/** Writes a whole number from 0, of 31 bits. */
function putCount(at: number, count: number): number {
  let to = at + 1;
  for (let rest = count; rest >= 10; rest = (rest / 10) | 0) to++;
  let rest = count;
  for (let place = to - 1; place >= at; place--) {
    const tens = (rest / 10) | 0;
    bytes[place] = ZERO + rest - 10 * tens;
    rest = tens;
  }
  return to;
}

/** Writes the name of a property, with a colon behind it. */
function putName(at: number, key: string): number {
  let name = recent.next;
  if (name === undefined || name.key !== key) {
    name = names.get(key) ?? newName(key);
    if (name === undefined) return putText(putString(at, key), ":");
    recent.next = name;
  }
  recent = name;
  const { words } = name;
  for (let index = 0; index < words.length; index++) view.setInt32(at + 4 * index, words[index] as number, true);
  return at + name.length;
}

/** The name of a property as it is written, and the one that stood behind it last: objects of a kind have theirs in one order. */
interface Name {
  readonly key: string;
  readonly length: number;
  /** Four bytes each, in the order of a little-endian machine. */
  readonly words: readonly number[];
  next: Name | undefined;
}

/** Names are few, and each is written again and again. Undefined for those that are not kept. */
function newName(key: string): Name | undefined {
  if (key === "__proto__") throw unsendableName();
  // A kite that answers with names that its peers think of must not keep all of them.
  if (names.size >= MAX_NAMES || key.length > MAX_NAME_LENGTH || NO_ASCII.test(key)) return undefined;
  const written = Buffer.from(`${JSON.stringify(key)}:`);
  const words = Array.from({ length: Math.ceil(written.length / 4) }, (_, index) => wordAt(written, 4 * index));
  const name = { key, length: written.length, words, next: undefined };
  names.set(key, name);
  return name;
}

function wordAt(written: Buffer, at: number): number {
  const word = Buffer.alloc(4);
  written.copy(word, 0, at);
  return word.readInt32LE();
}

const names = new Map<string, Name>();
let recent: Name = { key: "", length: 0, words: [], next: undefined };
const MAX_NAMES = 1024;
const MAX_NAME_LENGTH = 64;
const NO_ASCII = /[^\x20-\x7e]/;

const OPEN = 0x5b;
const CLOSE = 0x5d;
const COMMA = 0x2c;
const OPEN_RECORD = 0x7b;
const CLOSE_RECORD = 0x7d;
const QUOTE = 0x22;
const ZERO = 0x30;
