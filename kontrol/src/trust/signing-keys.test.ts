import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { Log } from "../database/log.ts";
import { migrate } from "../database/migrate.ts";
import { SigningKeys } from "./signing-keys.ts";

test("whoever asks for a key while the table is being read again waits for it", async () => {
  const databaseUrl = await freshDatabase();
  await migrate(databaseUrl);
  const pool = new pg.Pool({ connectionString: databaseUrl });
  onTestFinished(() => pool.end());
  const options = { graceMs: 60_000, tokenTtlMs: 60_000, now: Date.now };
  const [here, there] = [await SigningKeys.open(pool, options), await SigningKeys.open(pool, options)];
  const { kid } = await there.add("EdDSA", new Log(pool), "root");

  here.changed();
  const [first, second] = await Promise.all([here.find(kid), here.find(kid)]);
  const { kid: next } = await there.add("EdDSA", new Log(pool), "root");
  here.changed();
  here.changed();

  expect([first?.kid, second?.kid, (await here.find(next))?.kid]).toEqual([kid, kid, next]);
});
