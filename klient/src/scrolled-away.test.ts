import { expect, test } from "vitest";
import { skipScrolledAway } from "./scrolled-away.ts";

const line = "a line of plain text, with bell\x07, tab\t and é\r\n";
const much = Buffer.from(line.repeat(10_000));

test("of much plain output only the lines that can still be seen are left", () => {
  const left = skipScrolledAway(much, 100);

  expect(left.toString()).toBe(line.repeat(101));
});

test.each([
  ["little output", Buffer.from(line.repeat(100)), 10],
  ["few lines", Buffer.concat([Buffer.alloc(200_000, "x"), much.subarray(0, 1000)]), 100],
  ["a colour anywhere before the cut", Buffer.concat([Buffer.from("\x1b[31m"), much]), 100],
  ["an eight-bit control sequence", Buffer.concat([Buffer.from("\u009b31m"), much]), 100],
  ["a switch of character sets", Buffer.concat([Buffer.from([0x0e]), much]), 100],
  ["bare line feeds", Buffer.from(much.toString().replaceAll("\r\n", "\n")), 100],
])("%s is left as it is", (_, output, lines) => {
  expect(skipScrolledAway(output, lines)).toBe(output);
});

test("a colour behind the cut does not matter", () => {
  const output = Buffer.concat([much, Buffer.from("\x1b[31mred\r\n")]);

  expect(skipScrolledAway(output, 100).length).toBeLessThan(output.length / 10);
});
