import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLog } from "./log.ts";

let home: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "kite-log-"));
});

afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

test("what was logged is in the file once the log is closed, and says which part spoke", async () => {
  const log = await openLog(home, "info");
  log.child("kontrol").info({ token: "planted", nested: { url: "postgres://mesh:planted@db" } }, "is up");
  await log.close();

  const text = await readFile(log.path, "utf8");

  expect(JSON.parse(text)).toMatchObject({ level: "info", service: "kontrol", msg: "is up" });
  expect(text).not.toContain("planted");
});

test.runIf(process.platform === "linux")("a full disk neither ends the process nor keeps the log from closing", async () => {
  // Each write to it fails as on a full disk.
  await symlink("/dev/full", join(home, "mesh.log"));
  const log = await openLog(home, "info");
  log.logger.info({}, "first");
  log.logger.info({}, "second");

  await expect(log.close()).resolves.not.toThrow();
});
