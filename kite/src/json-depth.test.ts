import fc from "fast-check";
import { expect, test } from "vitest";
import { nestedBeyond } from "./json-depth.ts";

test.each([
  ["7", 0],
  ["[]", 1],
  ['{"a":[{}]}', 3],
  ['"[[[["', 0],
  [String.raw`["\"[[", []]`, 2],
  [String.raw`["\\", [[]]]`, 3],
])("%s is nested %i deep", (json, depth) => {
  expect(nestedBeyond(json, depth)).toBe(false);
  expect(nestedBeyond(json, depth - 1)).toBe(depth > 0);
});

test("what it says of any JSON is what a walk over the value finds", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const json = JSON.stringify(value);
      expect(nestedBeyond(json, depthOf(value))).toBe(false);
      expect(nestedBeyond(json, depthOf(value) - 1)).toBe(depthOf(value) > 0);
    }),
  );
});

test("a text that ends inside a string or opens no bracket is no trouble", () => {
  expect(nestedBeyond('["never ends', 1)).toBe(false);
  expect(nestedBeyond("]]]]", 0)).toBe(false);
});

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}
