import { readdir } from "node:fs/promises";
import type pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { openDatabase } from "./database.ts";

vi.setConfig({ testTimeout: 20_000 });
// The first to ask waits until the cluster is made.
const firstDatabase = await freshDatabase();
const files = (await readdir(new URL("../sql/", import.meta.url))).sort();

test("processes that start at the same time on an empty database do not disturb each other", async () => {
  const databaseUrl = firstDatabase;

  const pools = await Promise.all(Array.from({ length: 4 }, () => openDatabase(databaseUrl, () => {})));

  const { rows } = await (pools[0] as pg.Pool).query("select name from kontrol.migrations order by number");
  expect(rows.map(({ name }) => name)).toEqual(files);
  await Promise.all(pools.map((pool) => pool.end()));
});

test("a database that a newer version wrote is refused, and stays as it was", async () => {
  const databaseUrl = await freshDatabase();
  const pool = await openDatabase(databaseUrl, () => {});
  await pool.query("insert into kontrol.migrations (number, name) values (999, '0999_later.sql')");
  await pool.end();

  await expect(openDatabase(databaseUrl, () => {})).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringMatching(new RegExp(`migration 999 .* this version knows ${Number(files.at(-1)?.slice(0, 4))}.*newer`)),
  });
});

test("a database that does not answer is named by its setting, without the password", async () => {
  const opening = openDatabase("postgres://mesh:secret@127.0.0.1:1/none", () => {});

  await expect(opening).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("KONTROL_DATABASE_URL") });
  await expect(opening).rejects.not.toMatchObject({ message: expect.stringContaining("secret") });
});
