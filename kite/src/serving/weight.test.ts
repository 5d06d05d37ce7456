import { expect, test } from "vitest";
import { weightOf } from "./weight.ts";

test.each<[string, unknown, number]>([
  ["a text", "x".repeat(1_000), 2_000],
  ["bytes", new Uint8Array(5_000), 5_000],
  ["a view of a few bytes of many", new Uint8Array(9_000).subarray(0, 1), 9_000],
  ["a blob", new Blob(["x".repeat(3_000)]), 3_000],
  ["names of properties", { ["x".repeat(500)]: 1 }, 1_000],
  ["what lies deep", [{ a: [{ b: "x".repeat(1_000) }] }], 2_000],
  ["many small things", Array.from({ length: 1_000 }, (_, index) => index), 16_000],
  ["an error with its cause", new Error("x".repeat(1_000), { cause: "y".repeat(1_000) }), 4_000],
])("%s weighs what it holds", (_, value, atLeast) => {
  expect(weightOf(value)).toBeGreaterThanOrEqual(atLeast);
  expect(weightOf(value)).toBeLessThan(3 * atLeast);
});

test("what contains itself weighs more than anything", () => {
  const loop: { self?: unknown } = {};
  loop.self = loop;

  expect(weightOf(loop)).toBe(Number.POSITIVE_INFINITY);
});
