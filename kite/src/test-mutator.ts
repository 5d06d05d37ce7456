import { writeFrame } from "./wire/test-frame.ts";

/** A frame of kite.v1 before it is written. */
export interface LooseFrame {
  readonly messages: readonly unknown[];
  readonly segments: readonly Uint8Array[];
}

/** Breaks valid frames in every way that it knows. The same seed breaks them in the same ways. */
export class Mutator {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0, below the bound. */
  below(bound: number): number {
    // Mulberry32: small, fast, and good in its low bits, which a linear congruence is not.
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  }

  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** The value with one part of it replaced, taken away, doubled, moved or wrapped. */
  value(value: unknown): unknown {
    if (typeof value !== "object" || value === null || this.oneIn(5)) return this.#part(value);
    if (!Array.isArray(value)) return this.#record(value as Record<string, unknown>);
    if (value.length === 0) return [this.nasty()];
    const items = [...(value as unknown[])];
    const at = this.below(items.length);
    const change = this.below(8);
    if (change === 0) items.splice(at, 1);
    else if (change === 1) items.splice(at, 0, items[this.below(items.length)]);
    else if (change === 2) items.splice(this.below(items.length), 0, ...items.splice(at, 1));
    else if (change === 3) items.push(this.nasty());
    else items[at] = this.value(items[at]);
    return items;
  }

  /** What a peer must never take for what it looks like. */
  nasty(): unknown {
    return this.pick(NASTY)(this);
  }

  /** The text with characters changed, cut off, doubled, or with what JSON has no business to hold. */
  text(text: string): string {
    const at = this.below(text.length + 1);
    const change = this.below(7);
    if (change === 0) return text.slice(0, at);
    if (change === 1) return text.slice(0, at) + text.slice(this.below(at + 1), at) + text.slice(at);
    if (change === 2) return text.slice(0, at) + this.pick(TOKENS) + text.slice(at);
    if (change === 3) return text.replace(/\d+/g, (digits) => (this.oneIn(4) ? this.pick(NUMBERS) : digits));
    if (change === 4) return text.replace(/[{]/g, (open) => (this.oneIn(3) ? `{${this.pick(MEMBERS)},` : open));
    if (change === 5) return text.slice(at) + text.slice(0, at);
    return text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << this.below(8))) + text.slice(at + 1);
  }

  /** The bytes with bits flipped, cut off or followed by more. */
  bytes(bytes: Uint8Array): Uint8Array {
    const change = this.below(4);
    if (change === 0) return bytes.slice(0, this.below(bytes.length + 1));
    if (change === 1) return Uint8Array.of(...bytes, ...bytes.subarray(0, this.below(20)));
    const flipped = bytes.slice();
    // Often in its head, where the lengths are.
    for (let count = 0; count <= this.below(4); count++) {
      const at = this.below(this.oneIn(2) ? Math.min(12, flipped.length) : flipped.length);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << this.below(8));
    }
    return flipped;
  }

  /** A binary frame whose lengths may be wrong: those of its segments, or that of its JSON. */
  binary(sequence: number, ack: number, { messages, segments }: LooseFrame): Uint8Array {
    const texts = messages.map((message) => JSON.stringify(message));
    const frame = writeFrame(sequence, ack, texts, segments) as Uint8Array;
    return this.oneIn(2) ? frame : this.bytes(frame);
  }

  #part(value: unknown): unknown {
    const change = this.below(6);
    if (change === 0) return [value];
    if (change === 1) return { a: value };
    if (change === 2) return nested(value, this.below(160));
    if (change === 3 && typeof value === "number") return value + this.pick([-1, 1, 2, 0.5, 2 ** 31, 2 ** 53]);
    if (change === 4 && typeof value === "string") return this.text(value);
    return this.nasty();
  }

  #record(record: Record<string, unknown>): unknown {
    const names = Object.keys(record);
    const name = this.pick(names);
    const change = this.below(5);
    if (name === undefined || change === 0) return { ...record, [this.pick(NAMES)]: this.nasty() };
    if (change === 1) return Object.fromEntries(Object.entries(record).filter(([kept]) => kept !== name));
    if (change === 2) return { ...record, [this.pick(names)]: record[name] };
    return { ...record, [name]: this.value(record[name]) };
  }
}

const NASTY: readonly ((by: Mutator) => unknown)[] = [
  () => -1,
  () => 0,
  () => 1.5,
  () => 2 ** 31,
  () => 2 ** 32,
  () => Number.MAX_SAFE_INTEGER,
  () => 2 ** 53,
  () => 1e308,
  () => null,
  () => true,
  () => "",
  () => "__proto__",
  () => "constructor",
  () => "toString",
  () => [],
  () => ({}),
  () => JSON.parse('{"then":1,"toJSON":1,"length":5,"valueOf":null}'),
  (by) => by.below(20),
  (by) => ({ $: [by.pick(["f", "s", "b", "n", "d", "x", "u", "o", "e", "?"]), by.pick([0, 1, 2, 7, -1, 1e300, "1", null])] }),
  () => ({ $: [] }),
  () => ({ $: "f" }),
  () => ({ $: ["n", "9".repeat(3_000)] }),
  () => ({ $: ["f", 1], $$: 1 }),
  () => "x".repeat(3_000),
  () => "\ud800",
  (by) => Array.from({ length: 40 }, () => ({ $: ["f", by.below(1_000)] })),
  (by) => Array.from({ length: 40 }, () => ({ $: ["s", by.below(1_000)] })),
  (by) => nested(0, by.below(300)),
];

const NAMES = ["__proto__", "constructor", "prototype", "$", "then", "toJSON", "length", "key", "type", "auth", "a"];
const TOKENS = ["[", "]", "{", "}", ",", ":", '"', "\\", "\\u0000", "null", "-", "1e400", "0", "\u2028", "[".repeat(200), '"__proto__":'];
const NUMBERS = ["-1", "0", "1e400", "9007199254740993", "4294967296", "1.5", "00", "99999999999999999999999999"];
const MEMBERS = [
  '"__proto__":{"polluted":1}',
  '"\\u005f_proto__":{"polluted":1}',
  '"constructor":{"prototype":{"polluted":1}}',
  '"$":["f",1]',
];

function nested(value: unknown, depth: number): unknown {
  let outer = value;
  for (let level = 0; level < depth; level++) outer = level % 2 === 0 ? [outer] : { a: outer };
  return outer;
}
