import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { keepSecret, openHome } from "./home.ts";
import { birthOf, isSameProcess } from "./home-lock.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-home-"));
});
afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

test("a home is made where there is none, and is known the next time", async () => {
  const path = join(root, "a", "b");
  const first = await openHome(path);
  await first.lock.release();

  const second = await openHome(path);

  expect([first.isNew, second.isNew]).toEqual([true, false]);
  expect((await stat(path)).mode & 0o777).toBe(0o700);
  await second.lock.release();
  expect(await readdir(path)).toEqual(["version"]);
});

test("two meshes on one home are refused, with the number of the first one's process", async () => {
  const home = await openHome(root);

  await expect(openHome(root)).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining(`process ${process.pid}`),
  });

  await home.lock.release();
  const again = await openHome(root);
  await again.lock.release();
});

test("of ten that start at once on the lock of a dead one, a single one gets the home", async () => {
  await writeFile(join(root, "mesh.lock"), JSON.stringify({ pid: process.pid, birth: "long ago" }));

  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => openHome(root)));

  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test("a lock that cannot be read is taken for that of a dead one", async () => {
  await writeFile(join(root, "mesh.lock"), "{");

  const home = await openHome(root);

  await home.lock.release();
});

test("a home of a newer version is left as it is", async () => {
  await writeFile(join(root, "version"), "7\n");

  await expect(openHome(root)).rejects.toMatchObject({ message: expect.stringMatching(/newer version.*format is 7/) });

  expect(await readdir(root)).toEqual(["version"]);
});

test("a home that cannot be made or written says so, and what to do", async () => {
  const file = join(root, "file");
  await writeFile(file, "");

  const inFile = await openHome(join(file, "home")).catch((cause: Error) => cause);
  const isFile = await openHome(file).catch((cause: Error) => cause);
  const inProc = await openHome("/proc/kite-mesh").catch((cause: Error) => cause);

  for (const error of [inFile, isFile, inProc])
    expect(error).toMatchObject({ code: "failed_precondition", message: expect.stringMatching(/KITE_HOME \(.*choose another one/) });
});

test("a secret is made once and kept for this user alone", async () => {
  const home = await openHome(root);

  const secret = await keepSecret(home, "hook-token");

  expect(await keepSecret(home, "hook-token")).toBe(secret);
  expect(secret).toMatch(/^[\w-]{32}$/);
  expect((await stat(join(root, "hook-token"))).mode & 0o777).toBe(0o600);
  await home.lock.release();
});

test("a process is told from a later one with its number", async () => {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  await once(child, "spawn");
  const pid = child.pid ?? 0;
  const birth = (await birthOf(pid)) ?? "";

  expect(await isSameProcess(pid, birth)).toBe(true);
  expect(await isSameProcess(pid, `${birth}0`)).toBe(false);
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await isSameProcess(pid, birth)).toBe(false);
});
