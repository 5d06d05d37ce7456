import { inspect } from "node:util";
import { expect, test } from "vitest";
import { clock, harmless, json, plain, readable, table, when } from "./output.ts";

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

test("a function and a stream in a result are a word each, in JSON and for people", () => {
  const given = Object.assign(() => "hi", { release: () => {}, onState: () => {} });
  const value = { greet: given, all: [given], inner: (async function* () {})(), max: Math.max };

  expect(json(value)).toBe('{"greet":"[function]","all":["[function]"],"inner":"[stream]","max":"[function]"}');
  expect(inspect(readable(value))).toBe("{\n  greet: [function],\n  all: [ [function] ],\n  inner: [stream],\n  max: [Function: max]\n}");
});

test("a stranger's text is shown as it is, but for what would steer the terminal", () => {
  expect(harmless("one\n\ttwo\r\nthree é 漢")).toBe("one\n\ttwo\nthree é 漢");
  expect(harmless("red\x1b[31m \x1b]0;root\x07 \u009b2J \rover \u202Etxt")).toBe(
    "red\\x1b[31m \\x1b]0;root\\x07 \\x9b2J \\x0dover \\u202etxt",
  );
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

test("a stranger's words steer no terminal, neither in a table nor beside one", () => {
  const name = "Eve\x1b]0;root\x07\x1b[2J\u009b1A\u202Etxt.exe";

  expect(plain(name)).toBe("Eve ]0;root [2J 1A txt.exe");
  expect(table(["NAME"], [[name]])).toBe("NAME\nEve ]0;root [2J 1A txt.exe");
});

test("a time is written as times sort, whatever the machine's language", () => {
  const time = new Date(2026, 2, 9, 21, 7, 5).getTime();

  expect(when(time)).toBe("2026-03-09 21:07:05");
  expect(clock(time)).toBe("21:07:05");
  expect(when(null)).toBe("-");
});
