import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { postgresStore } from "./postgres.ts";
import { testStore } from "./store.contract.ts";
import type { Change } from "./store.ts";

const log = { warn: () => undefined };

testStore("PostgreSQL", async () => postgresStore({ databaseUrl: await freshDatabase(), log }));

test("several processes migrate an empty database at the same time", async () => {
  const databaseUrl = await freshDatabase();

  const stores = await Promise.all([1, 2, 3].map(() => postgresStore({ databaseUrl, log })));

  await Promise.all(stores.map((store) => store.close()));
});

test("a database that a newer kloud has written is refused with a sentence", async () => {
  const databaseUrl = await freshDatabase();
  await (await postgresStore({ databaseUrl, log })).close();
  await query(databaseUrl, "insert into kloud.migrations (number) values (999)");

  await expect(postgresStore({ databaseUrl, log })).rejects.toThrow(/written by a newer version/);
});

test("what PostgreSQL says of a statement stays with kloud", async () => {
  const databaseUrl = await freshDatabase();
  await using store = await postgresStore({ databaseUrl, log }).then((opened) => ({
    ...opened,
    [Symbol.asyncDispose]: () => opened.close(),
  }));
  await query(databaseUrl, "drop table kloud.plans");

  const error = await store.plans.get("p").catch((thrown: unknown) => thrown);

  expect(error).toMatchObject({ code: "internal", message: expect.stringContaining("42P01"), cause: expect.any(Error) });
  expect((error as Error).message).not.toMatch(/plans|relation/);
});

test("no database at all is said to be unavailable", async () => {
  await expect(postgresStore({ databaseUrl: "postgres://127.0.0.1:1/none", log })).rejects.toMatchObject({ code: "unavailable" });
});

test("after losing its connection the store asks everybody to read again, and hears of writes as before", async () => {
  const databaseUrl = await freshDatabase();
  const store = await postgresStore({ databaseUrl, log });
  const heard: Change[] = [];
  store.onChange((change) => heard.push(change));

  await query(
    databaseUrl,
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
  );

  await vi.waitFor(() => expect(heard).toContainEqual({ type: "resync" }));
  await store.plans.insert({ id: "p", owner: "ada", stackId: "", stack: "s", digest: "d", createdAt: "2024-01-01T00:00:00.000Z" });
  await vi.waitFor(() => expect(heard).toContainEqual(expect.objectContaining({ collection: "plans", id: "p" })));
  await store.close();
});

async function query(connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString });
  // The test may end this very connection.
  client.on("error", () => undefined);
  await client.connect();
  await client.query(sql);
  await client.end();
}
