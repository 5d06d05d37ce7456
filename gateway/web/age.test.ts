import { expect, test } from "vitest";
import { formatAge } from "./age.ts";

test.each([
  [0, "now"],
  [999, "now"],
  [1_000, "1 s"],
  [59_999, "59 s"],
  [60_000, "1 min"],
  [3_599_000, "59 min"],
  [3_600_000, "1 h"],
  [86_399_000, "23 h"],
  [86_400_000, "1 d"],
  [40 * 86_400_000, "40 d"],
])("an age of %i ms reads %s", (ageMs, text) => {
  expect(formatAge(1_000_000, 1_000_000 + ageMs)).toBe(text);
});

test("a moment that the machine's clock puts into the future reads as now", () => {
  expect(formatAge(5_000, 1_000)).toBe("now");
});
