import { expect, test } from "vitest";
import { signature, typeText } from "./type-text.ts";

const tree = {
  $ref: "#/$defs/Tree",
  $defs: { Tree: { type: "object", properties: { leaves: { type: "array", items: { $ref: "#/$defs/Tree" } } } } },
};

test.each([
  [{}, "unknown"],
  [true, "unknown"],
  [false, "never"],
  [{ type: "integer" }, "number"],
  [{ const: "a" }, '"a"'],
  [{ enum: ["a", 1, null] }, '"a" | 1 | null'],
  [{ type: ["string", "null"] }, "string | null"],
  [{ anyOf: [{ type: "number" }, {}] }, "unknown"],
  [{ type: "array", items: { anyOf: [{ type: "number" }, { type: "string" }] } }, "(number | string)[]"],
  [{ type: "array", prefixItems: [{ type: "number" }, { type: "string" }], items: false }, "[number, string]"],
  [{ type: "array", prefixItems: [{ type: "number" }], items: { type: "string" } }, "[number, ...string[]]"],
  [{ type: "object", properties: { a: { type: "string" }, "b-c": {} }, required: ["a"] }, '{ a: string; "b-c"?: unknown }'],
  [{ type: "object", additionalProperties: { type: "number" } }, "Record<string, number>"],
  [{ type: "object" }, "Record<string, unknown>"],
  [
    { allOf: [{ type: "object", properties: { a: { type: "string" } } }, { anyOf: [{ type: "null" }, { type: "string" }] }] },
    "{ a?: string } & (null | string)",
  ],
  [{ type: "string", allOf: [{ pattern: "^a" }, { pattern: "b$" }] }, "string"],
  [{ not: {} }, "never"],
  [tree, "{ leaves?: Tree[] }"],
  [{ $ref: "https://elsewhere.example/schema" }, "unknown"],
  [{ $ref: "#" }, "unknown"],
  [{ type: "array", items: { "x-kite": "callback" } }, "((...args: unknown[]) => void)[]"],
  [{ anyOf: [{ "x-kite": "bytes" }, { "x-kite": "stream" }] }, "Uint8Array | AsyncIterable<unknown>"],
])("%j is written %s", (schema, text) => {
  expect(typeText(schema)).toBe(text);
});

test("a type that never ends is cut", () => {
  const deep = Array.from({ length: 50 }).reduce<object>((items) => ({ type: "array", items }), { type: "string" });

  expect(typeText(deep)).toMatch(/^unknown(\[\])+$/);
});

test("a signature names its arguments by their titles", () => {
  const add = {
    name: "math.add",
    role: "viewer",
    repetition: "once",
    input: [{ type: "number", title: "left" }, { type: "number" }],
    required: 1,
    output: { type: "number" },
  } as const;

  expect(signature(add)).toBe("math.add(left: number, value2?: number): Promise<number>");
});
