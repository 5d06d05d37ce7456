import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { keepKlient } from "./klient-bundle.ts";

test("the same sources make the same bundle in the same place, and it runs with Node alone", async () => {
  const folder = await mkdtemp(join(tmpdir(), "kite-bundle-"));

  const first = await keepKlient(folder);
  const second = await keepKlient(folder);

  expect(second).toBe(first);
  expect(await readdir(folder)).toHaveLength(1);
  expect((await readdir(dirname(first))).length).toBeGreaterThanOrEqual(2);
  const run = promisify(execFile)(process.execPath, [first], { env: {}, cwd: "/" });
  await expect(run).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("KITE_HOME is not set") });
  await rm(folder, { recursive: true });
});
