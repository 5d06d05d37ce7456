import { expect, test } from "vitest";
import { OpenSequence } from "./open-sequence.ts";

const cases: [name: string, chunks: (string | Buffer)[], open: string | Buffer][] = [
  ["plain text is whole", ["hello\r\n"], ""],
  ["a finished colour is whole", ["\x1b[31mred"], ""],
  ["a lone escape is open", ["text\x1b"], "\x1b"],
  ["half a colour is open", ["text\x1b[3"], "\x1b[3"],
  ["a colour in two halves is whole", ["text\x1b[3", "1mred"], ""],
  ["a title without its end is open", ["\x1b]0;my ti"], "\x1b]0;my ti"],
  ["a title ends with BEL", ["\x1b]0;my ti", "tle\x07$ "], ""],
  ["a title ends with ESC \\", ["\x1b]0;title\x1b\\"], ""],
  ["a device control string does not end with BEL", ["\x1bPq#0\x07"], "\x1bPq#0\x07"],
  ["a cancelled sequence is whole", ["\x1b[12\x18"], ""],
  ["a character set needs its letter", ["\x1b("], "\x1b("],
  ["a character set with its letter is whole", ["\x1b(0"], ""],
  ["half an emoji is open", [Buffer.from("ok 🚀").subarray(0, 5)], Buffer.from("🚀").subarray(0, 2)],
  ["an emoji in two halves is whole", [Buffer.from("🚀").subarray(0, 1), Buffer.from("🚀").subarray(1)], ""],
  ["an é is whole", ["é"], ""],
];

test.each(cases)("%s", (_, chunks, open) => {
  const sequence = new OpenSequence();

  for (const chunk of chunks) sequence.push(Buffer.from(chunk));

  expect(sequence.bytes).toEqual(Buffer.from(open));
  expect(sequence.isOpen).toBe(sequence.bytes.length > 0);
});

test("a string beyond the bound is forgotten, and known to be open until its end", () => {
  const sequence = new OpenSequence();

  sequence.push(Buffer.from(`\x1bPq${"#".repeat(70_000)}`));
  expect(sequence.bytes).toHaveLength(0);
  expect(sequence.isOpen).toBe(true);

  sequence.push(Buffer.from("more"));
  expect(sequence.isOpen).toBe(true);

  sequence.push(Buffer.from("end\x1b\\$ "));
  expect(sequence.isOpen).toBe(false);
});
