import { afterEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { silent } from "../testing.ts";
import { Directory } from "./directory.ts";
import { Follower } from "./follower.ts";

vi.setConfig({ testTimeout: 30_000 });
afterEach(() => vi.restoreAllMocks());

test("a kontrol whose machine slept for hours does not take what it knew before for new, until it has asked", async () => {
  const databaseUrl = await freshDatabase();
  await (await openDatabase(databaseUrl, () => {})).end();
  const directory = new Directory({ revocationsMs: 600_000 });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent });
  await follower.check();
  const awake = Date.now();

  vi.spyOn(Date, "now").mockReturnValue(awake + 2 * 3_600_000);

  expect(follower.behindMs).toBeGreaterThan(3_600_000);
  await follower.check();
  expect(follower.behindMs).toBeLessThan(60_000);
  await follower.close();
});
