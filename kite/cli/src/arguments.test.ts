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

  const args = await readArguments([`@${folder}/a.json`, "-"], { stdin: Readable.from(["[1,", "2]"]) });

  expect(args).toEqual([{ a: 1 }, [1, 2]]);
  await rm(folder, { recursive: true });
});

test.each([
  [["{a: 1}"], /argument \{a: 1\} is not JSON/],
  [["[1,"], /argument \[1, is not JSON/],
  [["@/nowhere.json"], /@\/nowhere\.json names a file that cannot be read/],
  [["-", "-"], /can be read once/],
  [["-"], /standard input should hold JSON, and does not/],
])("%j is refused", async (words, message) => {
  await expect(readArguments(words, { stdin: Readable.from(['{"no json']) })).rejects.toMatchObject({
    exitCode: 2,
    message: expect.stringMatching(message),
  });
});

test("a file that is not JSON is text, one that is called so must be, and with binary all are bytes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "kite-args-"));
  await writeFile(join(folder, "notes.txt"), "buy milk");
  await writeFile(join(folder, "nothing"), "null");
  await writeFile(join(folder, "broken.json"), "buy milk");

  expect(await readArguments([`@${folder}/notes.txt`, `@${folder}/nothing`])).toEqual(["buy milk", null]);
  expect(await readArguments([`@${folder}/notes.txt`], { binary: true })).toEqual([new Uint8Array(Buffer.from("buy milk"))]);
  await expect(readArguments([`@${folder}/broken.json`])).rejects.toMatchObject({ exitCode: 2 });
  await rm(folder, { recursive: true });
});

test("standard input is read as words are: JSON, else the text itself", async () => {
  expect(await readArguments(["-"], { stdin: Readable.from(["buy ", "milk\n"]) })).toEqual(["buy milk\n"]);
  expect(await readArguments(["-"], { stdin: Readable.from([" 12\n"]) })).toEqual([12]);
});

test("bytes that are no text are not passed as if they were, and nothing not as an empty text", async () => {
  const folder = await mkdtemp(join(tmpdir(), "kite-args-"));
  const photo = Buffer.from([0xff, 0xd8, 0xff, 0xe0]);
  await writeFile(join(folder, "photo.jpg"), photo);

  const refusals = [
    readArguments([`@${folder}/photo.jpg`]),
    readArguments(["-"], { stdin: Readable.from([photo]) }),
    readArguments(["-"], { stdin: Readable.from(["\n"]) }),
  ];

  expect((await Promise.allSettled(refusals)).map((refusal) => refusal.status === "rejected" && refusal.reason)).toMatchObject([
    { exitCode: 2, message: `${folder}/photo.jpg holds bytes that are no text; --binary passes them as they are` },
    { exitCode: 2, message: "standard input holds bytes that are no text; --binary passes them as they are" },
    { exitCode: 2, message: "standard input should hold an argument, and is empty" },
  ]);
  await rm(folder, { recursive: true });
});

test("a percent sign before a name is a function, also inside JSON; elsewhere it is a percent sign", async () => {
  const called: string[] = [];
  const callback = (name: string) => () => called.push(name);

  const args = await readArguments(["%progress", "50%", "%", '"%quoted"', '{"on": {"$callback": "line"}, "$callback": 1}'], { callback });
  (args[0] as () => void)();
  (args[4] as { on: () => void }).on();

  expect(called).toEqual(["progress", "line"]);
  expect(args.slice(1, 4)).toEqual(["50%", "%", "%quoted"]);
});

test("standard input can be a stream of values, line by line, or of bytes", async () => {
  const input = () => Readable.from([Buffer.from('{"a":1}\nhel'), Buffer.from("lo\n3\n")]);

  const [values] = await readArguments(["-"], { stdin: input(), stdinStream: true });
  const [chunks] = await readArguments(["-"], { stdin: input(), stdinStream: true, binary: true });

  expect(await all(values)).toEqual([{ a: 1 }, "hello", 3]);
  expect(Buffer.concat((await all(chunks)) as Uint8Array[]).toString()).toBe('{"a":1}\nhello\n3\n');
  await expect(readArguments(["1"], { stdinStream: true })).rejects.toMatchObject({ exitCode: 2 });
});

async function all(stream: unknown): Promise<unknown[]> {
  const items: unknown[] = [];
  for await (const item of stream as AsyncIterable<unknown>) items.push(item);
  return items;
}
