import { expect, test } from "vitest";
import { fitted } from "./help.ts";

const HELP = `Usage: kite call [options]

An argument is JSON if it can be read as JSON, else the word itself;
and - is standard input.

Examples:
  kite call klient fs.readDirectory '{"path": "/tmp"}'
`;

test("on a narrow terminal paragraphs are filled again, and what is indented stays as it is", () => {
  expect(fitted(HELP, 40)).toBe(`Usage: kite call [options]

An argument is JSON if it can be read as
JSON, else the word itself; and - is
standard input.

Examples:
  kite call klient fs.readDirectory '{"path": "/tmp"}'
`);
});

test("where there is room, and where nobody looks, a text stays as it is", () => {
  expect(fitted(HELP, 80)).toBe(HELP);
  expect(fitted(HELP, undefined)).toBe(HELP);
});
