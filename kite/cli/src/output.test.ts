import { expect, test } from "vitest";
import { json, table } from "./output.ts";

test("values that JSON lacks are written in a form that it has", () => {
  const value = {
    bytes: new Uint8Array([104, 105]),
    buffer: Buffer.from("hi"),
    big: 12n,
    at: new Date(0),
    failed: new RangeError("no"),
    none: undefined,
  };

  expect(json(value)).toBe(
    '{"bytes":"aGk=","buffer":"aGk=","big":"12","at":"1970-01-01T00:00:00.000Z","failed":{"name":"RangeError","message":"no"}}',
  );
  expect(json(undefined)).toBe("null");
  expect(json(12)).toBe("12");
});

test("columns are as wide as their widest cell", () => {
  expect(
    table(
      ["NAME", "N"],
      [
        ["a", "1"],
        ["longer", "22"],
      ],
    ),
  ).toBe("NAME    N\na       1\nlonger  22");
});
