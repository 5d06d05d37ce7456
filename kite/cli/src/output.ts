import { inspect, styleText } from "node:util";
import { wantsColor } from "./options.ts";

/** Whether a person is looking at standard output. */
export const isTerminal = (): boolean => process.stdout.isTTY === true;

/** One JSON value on one line; bytes as base64, big integers as decimal text, functions and streams as words in their places. */
export function json(value: unknown): string {
  return JSON.stringify(value, forJson) ?? "null";
}

/** A result for people on a terminal, and as JSON for programs. */
export function pretty(value: unknown): string {
  if (!isTerminal()) return json(value);
  if (typeof value === "string") return harmless(value);
  const text = inspect(readable(value), {
    colors: wantsColor(),
    depth: null,
    maxArrayLength: null,
    maxStringLength: null,
    breakLength: process.stdout.columns,
  });
  return text.replaceAll(/\p{Bidi_Control}/gu, spelledOut);
}

/** A stranger's text, as it is but for what would steer the terminal: that is spelled out. */
export function harmless(text: string): string {
  return text.replaceAll("\r\n", "\n").replaceAll(/[^\P{Cc}\n\t]|\p{Bidi_Control}/gu, spelledOut);
}

function spelledOut(character: string): string {
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
}

/** The same with a word for each function and stream: what they are made of says nothing to people. */
export function readable(value: unknown): unknown {
  const word = wordFor(value);
  if (word !== undefined) return { [inspect.custom]: () => word };
  if (Array.isArray(value)) return value.map(readable);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, readable(inner)]));
}

function wordFor(value: unknown): string | undefined {
  // A kite's has these; JavaScript's own are shown as they are.
  if (typeof value === "function") return "release" in value && "onState" in value ? "[function]" : undefined;
  return isStream(value) ? "[stream]" : undefined;
}

/** Whether an answer is something to read with `for await`. */
export function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** A stranger's words: without what would steer the terminal, or show them in another order than they are in. */
export function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_Control}]+/gu, " ").trim();
}

/** Columns as wide as their widest cell; the heading is dim. Some of the words are strangers'. */
export function table(headings: readonly string[], cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(plain));
  const widths = headings.map((heading, column) => Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  return [dim(line(headings)), ...rows.map(line)].join("\n");
}

/** A time as people read it, in their own zone, the same width for all: `2026-11-21 21:17:05`; a dash for none. */
export function when(time: string | number | null): string {
  // Sweden writes the order in which times sort, as ISO 8601 does.
  return time === null ? "-" : new Date(time).toLocaleString("sv-SE");
}

/** Only the clock's part of {@link when}, for what happens now. */
export function clock(time: string | number): string {
  return new Date(time).toLocaleTimeString("sv-SE");
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** For what is said about the work and is not its result. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

export const dim = (text: string): string => paint("dim", text);
export const green = (text: string): string => paint("green", text);
export const red = (text: string): string => paint("red", text);
export const yellow = (text: string): string => paint("yellow", text);

function paint(style: "dim" | "green" | "red" | "yellow", text: string): string {
  return isTerminal() && wantsColor() ? styleText(style, text) : text;
}

function forJson(this: Record<string, unknown>, key: string, value: unknown): unknown {
  // JSON.stringify has already called toJSON on the value, which spells a Buffer out number by number.
  const original = this[key];
  if (original instanceof Uint8Array) return Buffer.from(original).toString("base64");
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "function") return "[function]";
  if (isStream(value)) return "[stream]";
  if (value instanceof Error) return { name: value.name, message: value.message };
  return value;
}
