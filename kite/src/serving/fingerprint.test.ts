import fc from "fast-check";
import { expect, test } from "vitest";
import { fingerprint } from "./fingerprint.ts";

const values = fc.anything({ withDate: true, withTypedArray: false, withBigInt: true, maxDepth: 3 });

test("the order of properties does not matter to a fingerprint, and a copy has the same", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), values), (record) => {
      const turned = Object.fromEntries(Object.entries(record).reverse());

      expect(fingerprint([turned])).toBe(fingerprint([record]));
    }),
  );
});

test("other arguments have another fingerprint", () => {
  const different = [
    [],
    [1],
    ["1"],
    [[1]],
    [1, 2],
    [[1], 2],
    [12],
    [null],
    [undefined],
    [{}],
    [new Blob([])],
    [new Blob(["a"])],
    [new Blob([], { type: "text/plain" })],
    [{ a: 1 }],
    [{ a: "1" }],
    [{ b: 1 }],
    [true],
  ];
  const more = [
    ["ab", "c"],
    ["a", "bc"],
    [new Date(1)],
    [1n],
    [new Uint8Array([1, 2])],
    [new Uint8Array([2, 1])],
    [() => {}],
    [""],
    [-1],
    [0.5],
  ];
  const numbers = Array.from({ length: 20_000 }, (_, index) => [{ order: index }]);

  const prints = [...different, ...more, ...numbers].map(fingerprint);

  expect(new Set(prints).size).toBe(prints.length);
});
