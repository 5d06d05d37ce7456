import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { buffer } from "node:stream/consumers";
import { EXIT, Failure } from "./failure.ts";

export interface ArgumentOptions {
  /** Where `-` is read from. Default: standard input. */
  stdin?: NodeJS.ReadableStream;
  /** Files and standard input are bytes. */
  binary?: boolean;
  /** `-` is a stream: of its lines, or with `binary` of its bytes as they come. */
  stdinStream?: boolean;
  /** What a `%name` becomes. */
  callback?: (name: string) => (...args: unknown[]) => unknown;
}

/**
 * What a person types for a method's arguments: JSON; `@file` and `-` (standard input) for what is there; `%name` for a
 * function, inside JSON `{"$callback": "name"}`; and words that need no quotes because they cannot be read as JSON.
 */
export async function readArguments(words: readonly string[], options: ArgumentOptions = {}): Promise<unknown[]> {
  const fromStdin = words.filter((word) => word === "-").length;
  if (fromStdin > 1) throw new Failure('"-" (standard input) can be read once, and stands there twice', EXIT.usage);
  if (options.stdinStream && fromStdin === 0)
    throw new Failure('--stdin-stream is for an argument that is "-" (standard input), and there is none', EXIT.usage);
  return Promise.all(words.map((word) => readArgument(word, options)));
}

const CALLBACK = /^%([A-Za-z_]\w*)$/;
const CALLBACK_KEY = "$callback";

async function readArgument(word: string, options: ArgumentOptions): Promise<unknown> {
  if (word === "-") return readStdin(options);
  if (word.startsWith("@") && word !== "@") return readFileArgument(word, options);
  const name = CALLBACK.exec(word)?.[1];
  return name !== undefined && options.callback !== undefined ? options.callback(name) : parseWord(word, options);
}

async function readStdin(options: ArgumentOptions): Promise<unknown> {
  const { stdin = process.stdin, binary = false, stdinStream = false } = options;
  if (stdinStream) return binary ? bytes(stdin) : lines(stdin, options);
  const content = await buffer(stdin);
  if (binary) return asBytes(content);
  const text = textOf(content, "standard input holds");
  if (text.trim() === "") throw new Failure("standard input should hold an argument, and is empty", EXIT.usage);
  // What begins like an object or a list was meant as JSON, as in a word.
  return /^\s*[[{]/.test(text) ? parseText(text, "standard input", options) : orText(text, options);
}

async function readFileArgument(word: string, options: ArgumentOptions): Promise<unknown> {
  const path = word.slice(1);
  const content = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new Failure(`the argument ${word} names a file that cannot be read: ${cause.message}`, EXIT.usage, { cause });
  });
  if (options.binary) return asBytes(content);
  const text = textOf(content, `${path} holds`);
  // A file may be notes as well as data; one that calls itself JSON must be it.
  if (path.endsWith(".json")) return parseText(text, path, options);
  return orText(text, options);
}

/** As text a photo would arrive with a mark in place of every byte that is no character. */
function textOf(content: Buffer, holds: string): string {
  if (!isUtf8(content)) throw new Failure(`${holds} bytes that are no text; --binary passes them as they are`, EXIT.usage);
  return content.toString("utf8");
}

function orText(text: string, options: ArgumentOptions): unknown {
  const parsed = tryParse(text, options);
  return parsed === undefined ? text : parsed.value;
}

function parseWord(word: string, options: ArgumentOptions): unknown {
  try {
    return parse(word, options);
  } catch (cause) {
    // What begins like an object or a list was meant as JSON: passing it on as text would only move the error further away.
    if (/^\s*[[{]/.test(word)) throw new Failure(`the argument ${word} is not JSON: ${(cause as Error).message}`, EXIT.usage, { cause });
    return word;
  }
}

function parseText(content: string, from: string, options: ArgumentOptions): unknown {
  try {
    return parse(content, options);
  } catch (cause) {
    throw new Failure(`${from} should hold JSON, and does not: ${(cause as Error).message}`, EXIT.usage, { cause });
  }
}

function tryParse(text: string, options: ArgumentOptions): { value: unknown } | undefined {
  try {
    return { value: parse(text, options) };
  } catch {
    return undefined;
  }
}

function parse(text: string, { callback }: ArgumentOptions): unknown {
  if (callback === undefined || !text.includes(CALLBACK_KEY)) return JSON.parse(text);
  return JSON.parse(text, (_, value: unknown) => {
    if (typeof value !== "object" || value === null || Object.keys(value).join() !== CALLBACK_KEY) return value;
    const name = (value as Record<string, unknown>)[CALLBACK_KEY];
    return typeof name === "string" ? callback(name) : value;
  });
}

/** Each line like an argument: JSON, else the text itself. */
async function* lines(from: NodeJS.ReadableStream, options: ArgumentOptions): AsyncGenerator<unknown> {
  for await (const line of createInterface({ input: from, crlfDelay: Number.POSITIVE_INFINITY })) {
    yield orText(line, options);
  }
}

async function* bytes(from: NodeJS.ReadableStream): AsyncGenerator<Uint8Array> {
  for await (const chunk of from) yield typeof chunk === "string" ? asBytes(Buffer.from(chunk)) : asBytes(chunk);
}

/** As every kite knows them: a Buffer is Node's own. */
function asBytes(content: Buffer): Uint8Array {
  return new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
}
