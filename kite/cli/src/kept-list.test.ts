import { mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { keepList, keptList } from "./kept-list.ts";

test("a link that was laid where the list is written is not written through, and the next list is kept for its owner alone", async () => {
  const home = await mkdtemp(join(tmpdir(), "kite-kept-"));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  const place = { home, username: "alice", kontrolUrl: "http://127.0.0.1:4000" };
  const victim = join(home, "victim");
  await writeFile(victim, "mine");
  await symlink(victim, join(home, `list.json.${process.pid}`));

  await keepList(place, {}, []);
  expect(await readFile(victim, "utf8")).toBe("mine");
  await keepList(place, {}, []);

  expect((await keptList(place, {}))?.kites).toEqual([]);
  expect((await stat(join(home, "list.json"))).mode & 0o777).toBe(0o600);
});
