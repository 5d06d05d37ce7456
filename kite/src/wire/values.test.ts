import fc from "fast-check";
import { expect, test } from "vitest";
import {
  carriedWeight,
  leastLength,
  plainWeight,
  reviveValue,
  stringifyValue,
  type ValueSink,
  type ValueSource,
  writtenJson,
} from "./values.ts";

test.each([
  ["undefined", undefined, '{"$":["u"]}'],
  ["a bigint", 12n, '{"$":["n","12"]}'],
  ["a date", new Date(1_700_000_000_000), '{"$":["d",1700000000000]}'],
  ["NaN", Number.NaN, '{"$":["x","NaN"]}'],
  ["an object with a key $", { $: 1 }, '{"$":["o",{"$":1}]}'],
  ["an undefined property", { a: undefined, b: 1 }, '{"b":1}'],
  ["something with toJSON", new URL("http://a/"), '"http://a/"'],
  ["a bigint in an object", Object(12n), '{"$":["n","12"]}'],
])("%s is written as PROTOCOL.md says", (_, value, text) => {
  expect(stringifyValue(value, desk().sink)).toBe(text);
});

test("every value comes back as it was, whatever it is made of", () => {
  const leaf = fc.oneof(
    fc.string(),
    fc.double().map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.boolean(),
    fc.bigInt(),
    fc.date({ noInvalidDate: true }),
    fc.uint8Array(),
    fc.constant(null),
  );
  const key = fc.string().filter((name) => name !== "__proto__");
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      leaf,
      fc.array(tie("value"), { maxLength: 5 }),
      fc.dictionary(key, tie("value"), { maxKeys: 5, noNullPrototype: true }),
    ),
  }));

  fc.assert(
    fc.property(value, (sent) => {
      const { sink, source } = desk();
      expect(reviveValue(JSON.parse(stringifyValue(sent, sink)), source)).toEqual(sent);
    }),
  );
});

test("plain JSON is written as JSON.stringify writes it, whatever its names and texts are", () => {
  const plain = fc.jsonValue({ stringUnit: fc.constantFrom("a", '"', "\\", "\n", "\u2028", "é", "\ud83d", "\ude00") });

  fc.assert(
    fc.property(plain, (sent) => {
      expect(stringifyValue(sent, desk().sink)).toBe(JSON.stringify(sent));
    }),
  );
});

test.each([
  ["a text in an object", Object("a"), '"a"'],
  ["a long text with a quote at its end", `${"a".repeat(100)}"`, `"${"a".repeat(100)}\\""`],
  ["half of a surrogate pair", "\ud800", '"\\ud800"'],
  ["an object whose names are inherited in part", Object.create({ theirs: () => 1 }, { own: { value: 1, enumerable: true } }), '{"own":1}'],
])("%s is written as JSON.stringify writes it", (_, value, text) => {
  expect(stringifyValue(value, desk().sink)).toBe(text);
});

test("a getter is asked once", () => {
  let asked = 0;
  const counter = {
    get next() {
      asked++;
      return asked;
    },
  };

  expect(stringifyValue(counter, desk().sink)).toBe('{"next":1}');
  expect(asked).toBe(1);
});

test("names are written right, also when there are more of them than are kept", () => {
  const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`"${index}`, index]));

  expect(stringifyValue(many, desk().sink)).toBe(JSON.stringify(many));
});

test("what was written before goes out as it is, also inside of another value", () => {
  const written = writtenJson<{ a: number }>('{"a": 1}');

  expect(stringifyValue(written, desk().sink)).toBe('{"a": 1}');
  expect(stringifyValue([written], desk().sink)).toBe('[{"a": 1}]');
});

test.each([
  ["a symbol", Symbol("s")],
  ["a Map", new Map()],
  ["a Set", new Set()],
  ["a Float64Array", new Float64Array(1)],
])("%s cannot be sent, and the error says so", (_, value) => {
  expect(() => stringifyValue(value, desk().sink)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
});

test("a value that contains itself is refused at the depth limit", () => {
  const loop: unknown[] = [];
  loop.push(loop);

  expect(() => stringifyValue(loop, desk().sink)).toThrow(expect.objectContaining({ code: "limit_exceeded" }));
});

test("an object that says that it is its own value is refused at the depth limit", () => {
  const self: object = Object.assign(Object("a"), { valueOf: () => self });

  expect(() => stringifyValue(self, desk().sink)).toThrow(expect.objectContaining({ code: "limit_exceeded" }));
});

test.each([
  ["an unknown mark", { $: ["q"] }],
  ["a mark beside other keys", { $: ["u"], a: 1 }],
  ["a mark that is no array", { $: 1 }],
  ["a bigint that is none", { $: ["n", "1e9"] }],
  ["a function without an id", { $: ["f", -1] }],
  ["a stream with an id that is a string", { $: ["s", "1"] }],
])("%s is refused as a protocol error", (_, sent) => {
  expect(() => reviveValue(sent, desk().source)).toThrow(expect.objectContaining({ code: "protocol_error" }));
});

test("a property named __proto__ beside a mark is refused, and changes no prototype", () => {
  const sent = JSON.parse('{"a":{"$":["u"]},"__proto__":{"polluted":true}}');

  expect(() => reviveValue(sent, desk().source)).toThrow(expect.objectContaining({ code: "protocol_error" }));
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
});

test.each([
  [new Uint8Array(100), 132],
  ["ab", 34],
  [{ any: "thing" }, undefined],
])("a chunk %j weighs %j by itself", (chunk, weight) => {
  expect(plainWeight(chunk)).toBe(weight);
});

test("whoever says what a value weighs cannot say less than it is long, and need not say more than its JSON and its bytes", () => {
  const { sink, source } = desk();
  const value = { a: ["text", 1, null, { deep: new Uint8Array(10) }], at: new Date(0), n: 12n, "\u0001": "\n" };

  const json = stringifyValue(value, sink);
  const read = reviveValue(JSON.parse(json), source);

  expect(leastLength(read)).toBeLessThanOrEqual(json.length + 10);
  expect(leastLength(read)).toBeGreaterThan(20);
  expect(carriedWeight(json.length)).toBe(json.length + 32);
});

test("a Blob keeps its type, and its bytes are those of its segment", async () => {
  const segments = [new Uint8Array([104, 105])];
  const { source } = desk(segments);

  const blob = reviveValue({ $: ["B", 0, "text/plain"] }, source) as Blob;

  expect(blob.type).toBe("text/plain");
  expect(await blob.text()).toBe("hi");
});

function desk(segments: Uint8Array[] = []): { sink: ValueSink; source: ValueSource } {
  const sink: ValueSink = {
    maxDepth: 100,
    addBytes: (bytes) => segments.push(bytes) - 1,
    addBlob: () => 0,
    markFunction: () => ["f", 1],
    exportStream: () => 1,
  };
  const source: ValueSource = {
    maxDepth: 100,
    bytes: (n) => segments[n] ?? new Uint8Array(),
    importFunction: () => () => {},
    ownFunction: () => () => {},
    importStream: () => ({}),
  };
  return { sink, source };
}
