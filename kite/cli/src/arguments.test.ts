import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { readArguments } from "./arguments.ts";

test.each([
  ["12", 12],
  ["-0.5", -0.5],
  ["true", true],
  ["null", null],
  ['"12"', "12"],
  ["hello", "hello"],
  ["hello world", "hello world"],
  ["", ""],
  ["@", "@"],
  ['{"a": [1]}', { a: [1] }],
])("%s is read as %j", async (word, value) => {
  expect(await readArguments([word])).toEqual([value]);
});

test("arguments come from files and from standard input too", async () => {
  const folder = await mkdtemp(join(tmpdir(), "kite-args-"));
  await writeFile(join(folder, "a.json"), '{"a": 1}');

  const args = await readArguments([`@${folder}/a.json`, "-"], Readable.from(["[1,", "2]"]));

  expect(args).toEqual([{ a: 1 }, [1, 2]]);
  await rm(folder, { recursive: true });
});

test.each([
  [["{a: 1}"], /argument \{a: 1\} is not JSON/],
  [["[1,"], /argument \[1, is not JSON/],
  [["@/nowhere.json"], /@\/nowhere\.json names a file that cannot be read/],
  [["-", "-"], /can be read once/],
  [["-"], /standard input should hold JSON/],
])("%j is refused", async (words, message) => {
  await expect(readArguments(words, Readable.from(["no json"]))).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringMatching(message),
  });
});
