import { expect, test } from "vitest";
import { formatQuery } from "./identity.ts";
import { changeLabels, labelDifference, labelMatcher } from "./labels.ts";
import { matcher } from "./query.ts";
import { testIdentity } from "./testing.ts";

const labels = { region: "eu", gpu: "true", load: "0.5", note: "not a number", empty: "", "a/b.c-d": "x=y" };

test.each<[string, boolean]>([
  ["gpu", true],
  ["!gpu", false],
  ["tpu", false],
  ["!tpu", true],
  ["gpu=true", true],
  ["gpu = true", true],
  ["gpu=false", false],
  ["zone!=b", true],
  ["region!=us", true],
  ["region!=eu", false],
  ["load<0.7", true],
  ["load<0.5", false],
  ["load<=0.5", true],
  ["load>=0.5", true],
  ["load>0.4", true],
  ["load>-1", true],
  ["note<1", false],
  ["note>=0", false],
  ["missing<1", false],
  ["empty<1", false],
  ["empty=", true],
  ["a/b.c-d=x=y", true],
  ["toString", false],
  ["constructor!=x", true],
])("%s is %s", (expression, holds) => {
  expect(labelMatcher([expression])(labels)).toBe(holds);
});

test("all expressions have to hold, and none means any labels", () => {
  expect(labelMatcher(["gpu", "load<0.7"])(labels)).toBe(true);
  expect(labelMatcher(["gpu", "load>0.7"])(labels)).toBe(false);
  expect(labelMatcher()({})).toBe(true);
});

test.each(["", "=", "load<", "load<high", "a b", "!gpu=true", "<3", "x".repeat(64), `a=${"x".repeat(400)}`])(
  "%j cannot be read, and says why",
  (expression) => {
    expect(() => labelMatcher([expression])).toThrow(/cannot be read: /);
  },
);

test("a query looks at both the path and the labels, and is printed with them", () => {
  const means = matcher({ name: "math", labels: ["gpu=true"] });

  expect(means(testIdentity({ name: "math" }), { gpu: "true" })).toBe(true);
  expect(means(testIdentity({ name: "math" }), { gpu: "false" })).toBe(false);
  expect(means(testIdentity({ name: "math" }))).toBe(false);
  expect(means(testIdentity({ name: "other" }), { gpu: "true" })).toBe(false);
  expect(formatQuery({ name: "math", labels: ["gpu=true", "load<0.7"] })).toBe("///math [gpu=true, load<0.7]");
});

test("a label may have a name that every object has, and going is a change then, too", () => {
  const before = Object.fromEntries([
    ["__proto__", "x"],
    ["constructor", "y"],
  ]);

  expect(Object.entries(labelDifference(before, {}) ?? {})).toEqual([
    ["__proto__", null],
    ["constructor", null],
  ]);
  expect(changeLabels(before, labelDifference(before, {}) ?? {})).toEqual({});
  expect(labelDifference({}, { constructor: "y" } as never)).toEqual({ constructor: "y" });
});

test("a change sets what it names, takes away what is null, and can be found between two states", () => {
  const before = { load: "0.1", zone: "a", gpu: "true" };
  const after = changeLabels(before, { load: "0.9", zone: null });

  expect(after).toEqual({ load: "0.9", gpu: "true" });
  expect(labelDifference(before, after)).toEqual({ load: "0.9", zone: null });
  expect(labelDifference(after, { ...after })).toBeUndefined();
});
