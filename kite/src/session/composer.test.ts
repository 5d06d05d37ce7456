import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import type { ValueSink } from "../wire/values.ts";
import { composer } from "./composer.ts";
import { type Composing, strings } from "./frame-buffers.ts";

const sink: ValueSink = {
  maxDepth: 100,
  addBytes: ({ byteLength }) => byteLength,
  addBlob: ({ size }) => size,
  exportStream: () => 7,
  markFunction: () => ["f", 8],
};
const fits = () => true;
/** Far more than the desk holds. */
const HUGE = 200_000;

let texts: string[] = [];

beforeEach(() => {
  texts = [];
});

describe("a frame is, to the letter, what it is when strings are put together", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 200 }),
    fc.string({ unit: fc.constantFrom("a", '"', "\\", "\n", "\u2028", "é", "\ud83d", "\ude00", "€"), maxLength: 400 }),
    fc.nat(HUGE / 10).map((length) => "x".repeat(length)),
  );
  const leaf = fc.oneof(
    text,
    fc.double(),
    fc.maxSafeInteger(),
    fc.integer({ min: -100, max: 100 }),
    fc.nat(),
    fc.boolean(),
    fc.bigInt(),
    fc.date(),
    fc.uint8Array(),
    fc.constantFrom(null, undefined, Number.NaN, -0, 2 ** 31, sink.exportStream, Object("boxed"), new URL("http://a/")),
  );
  const key = fc
    .oneof(fc.string({ maxLength: 70 }), fc.constantFrom("$", "name", 'a "name"', "größe", "toJSON"))
    .filter((name) => name !== "__proto__");
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      leaf,
      fc.array(tie("value"), { maxLength: 5 }),
      fc.dictionary(key, tie("value"), { maxKeys: 5 }),
    ),
  }));

  test("whatever its messages are", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.array(value, { maxLength: 4 }), text), { minLength: 1, maxLength: 20 }), (messages) => {
        expect(frame(composer, messages)).toBe(frame(strings, messages));
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["names of more kinds than are kept", Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`name ${index}`, index]))],
    ["an array of more than there is room for", Array.from({ length: 50_000 }, (_, index) => index)],
    ["arrays as deep as they may be", nested(99)],
    ["a text of more than there is room for", [{ before: 1, text: "é".repeat(HUGE), after: 2 }]],
    ["a name of more than there is room for", { before: 1, ["n".repeat(HUGE)]: 2, after: { ["n".repeat(60_000)]: 3 } }],
    ["an object that inherits", Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true } })],
    ["an object without a prototype", Object.assign(Object.create(null), { a: 1 })],
  ])("with %s", (_, each) => {
    const messages = [
      [1, each],
      [2, each],
      [3, "and one more"],
    ];

    expect(frame(composer, messages)).toBe(frame(strings, messages));
  });
});

test("what two frames are written of at the same time stays apart, and in its order", () => {
  const other: string[] = [];

  for (let id = 1; id <= 3; id++) {
    composer.write(texts, [id, "mine"], sink, fits);
    composer.write(other, [id, "theirs"], sink, fits);
  }
  composer.push(texts, "[4]");

  expect(composer.finish(texts, 1, 0)).toBe('[1,0,[1,"mine"],[2,"mine"],[3,"mine"],[4]]');
  expect(composer.finish(other, 2, 0)).toBe('[2,0,[1,"theirs"],[2,"theirs"],[3,"theirs"]]');
});

test("more messages than there is room for are one frame all the same", () => {
  const messages = Array.from({ length: 2_000 }, (_, id) => [id, "a text of some length, with an é in every fiftieth"]);

  const written = frame(composer, messages);

  expect(JSON.parse(written)).toEqual([5, 6, ...messages]);
});

test("a message that is too large for a frame comes back as its text, and is in none", () => {
  composer.write(texts, [1], sink, fits);

  const text = composer.write(texts, [2, "larger than it may be"], sink, (length) => length < 20);

  expect(text).toBe('[2,"larger than it may be"]');
  expect(composer.finish(texts, 1, 0)).toBe("[1,0,[1]]");
});

test("a message that cannot be sent leaves nothing behind", () => {
  composer.write(texts, [1], sink, fits);

  expect(() => composer.write(texts, [2, "x".repeat(HUGE), Symbol("unsendable")], sink, fits)).toThrow("a symbol cannot be sent");
  expect(() => composer.write(texts, [2, JSON.parse('{"__proto__":1}')], sink, fits)).toThrow('named "__proto__"');
  expect(() => composer.write(texts, [2, nested(101)], sink, fits)).toThrow("the limit depth is 100");
  composer.write(texts, [3], sink, fits);

  expect(composer.finish(texts, 1, 0)).toBe("[1,0,[1],[3]]");
});

test("what a getter sends while its object is written leaves before that, also in a frame of its own", () => {
  const frames: string[] = [];
  const value = {
    get a() {
      composer.write(texts, [2, "from a getter"], sink, fits);
      return "a";
    },
    get b() {
      frames.push(composer.finish(texts, 1, 0));
      composer.push(texts, "[3]");
      return "b";
    },
  };
  composer.write(texts, [1], sink, fits);

  composer.write(texts, [4, value], sink, fits);
  frames.push(composer.finish(texts, 2, 0));

  expect(frames).toEqual(['[1,0,[1],[2,"from a getter"]]', '[2,0,[3],[4,{"a":"a","b":"b"}]]']);
});

test("a frame that leaves while the first message of the next one is written takes none of it along", () => {
  const frames: string[] = [];
  const value = {
    get a() {
      frames.push(composer.finish(texts, 1, 0));
      return "a";
    },
  };
  composer.write(texts, [1], sink, fits);

  composer.write(texts, [2, value], sink, fits);
  frames.push(composer.finish(texts, 2, 0));

  expect(frames).toEqual(["[1,0,[1]]", '[2,0,[2,{"a":"a"}]]']);
});

test("a property is read once", () => {
  let reads = 0;
  const value = {
    get large() {
      reads++;
      return "x".repeat(HUGE);
    },
  };

  composer.write(texts, [1, value], sink, fits);

  expect(reads).toBe(1);
});

function frame(composing: Composing, messages: readonly (readonly unknown[] | string)[]): string {
  const list: string[] = [];
  for (const message of messages) {
    if (typeof message === "string") composing.push(list, JSON.stringify(message));
    else composing.write(list, message, sink, fits);
  }
  return composing.finish(list, 5, 6);
}

function nested(depth: number): unknown {
  return depth === 0 ? "the end" : [nested(depth - 1)];
}
