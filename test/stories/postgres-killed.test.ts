import { readFile } from "node:fs/promises";
import path from "node:path";
import { expect, test, vi } from "vitest";
import { startMesh } from "../mesh.ts";
import { until } from "../until.ts";

vi.setConfig({ testTimeout: 240_000 });
const SOON_MS = 60_000;

test("the mesh starts its PostgreSQL again when that was killed, and goes on where it was", async () => {
  await using mesh = await startMesh();
  const pid = await postmaster();
  expect(await mesh.run("people", "add", "before")).toMatchObject({ status: 0 });

  process.kill(pid, "SIGKILL");
  expect((await mesh.run("list")).stdout).toContain("klient");
  await until("another PostgreSQL", SOON_MS, async () => (await postmaster()) !== pid);

  const add = () => mesh.run("people", "add", "after").then(({ status }) => status === 0);
  await until("the database to take changes", SOON_MS, add);
  expect((await mesh.run("people", "list")).stdout).toMatch(/after[\s\S]*before/);
  expect(await readFile(path.join(mesh.home, "mesh.log"), "utf8")).toContain("PostgreSQL has ended and was not asked to");

  async function postmaster(): Promise<number> {
    return Number.parseInt(await readFile(path.join(mesh.home, "postgres/postmaster.pid"), "utf8"), 10);
  }
});
