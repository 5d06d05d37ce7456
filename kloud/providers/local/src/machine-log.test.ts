import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { trimLog } from "./machine-log.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kite-log-"));
});
afterAll(() => rm(folder, { recursive: true }));

test("a log that is too long keeps its newest whole lines", async () => {
  const path = join(folder, "long.log");
  await writeFile(path, Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join(""));

  await trimLog(path, 200);

  const lines = (await readFile(path, "utf8")).split("\n");
  expect(lines[0]).toMatch(/^line \d+$/);
  expect(lines.at(-2)).toBe("line 99");
  expect(lines.length).toBeLessThan(15);
});

test("a short log, and one that does not exist, stay as they are", async () => {
  const path = join(folder, "short.log");
  await writeFile(path, "line\n");

  await trimLog(path, 200);
  await trimLog(join(folder, "none.log"), 200);

  expect(await readFile(path, "utf8")).toBe("line\n");
});
