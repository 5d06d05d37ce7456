import { expect, test } from "vitest";
import { nearest } from "./nearest.ts";

test.each([
  ["reosurce", "resource"],
  ["resources", "resource"],
  ["Provider", "provider"],
  ["variabel", "variable"],
  ["outputs", undefined],
  ["", undefined],
])("%j is taken for %j", (word, meant) => {
  expect(nearest(word, ["name", "provider", "variable", "resource"])).toBe(meant);
});
