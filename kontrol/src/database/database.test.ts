import pg from "pg";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { ensureAccount } from "../people/people.ts";
import { ask, databaseError } from "./connection.ts";
import { type DatabaseLimits, openDatabase } from "./database.ts";
import { Log } from "./log.ts";

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
const alice = { username: "alice", kind: "person", admin: false } as const;
/** Somebody else on the same database. */
let other: pg.Client;
let pool: pg.Pool | undefined;

beforeEach(async () => {
  other = new pg.Client({ connectionString: databaseUrl, application_name: "other" });
  other.on("error", () => {});
  await other.connect();
});
afterEach(async () => {
  await other.end();
  await pool?.end();
  pool = undefined;
});

test("a change that finds the log's head held fails within the limit, and goes through when it is free", async () => {
  pool = await opened({ statementMs: 200 });
  const log = new Log(pool);
  await other.query("begin; select from kontrol.head for update");

  await expect(ensureAccount(log, alice)).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("try again") });
  await vi.waitFor(async () => expect((await ask(pool as pg.Pool, "select 1 as one")).rows).toEqual([{ one: 1 }]));

  await other.query("commit");
  await vi.waitFor(async () => expect((await ensureAccount(log, alice)).revision).toBeGreaterThan(0));
});

test("a kontrol that stands still in the middle of a transaction loses it, and holds nobody up", async () => {
  pool = await opened({ idleInTransactionMs: 200 });
  const standing = await pool.connect();
  await standing.query("begin; select from kontrol.head for update");

  await other.query("select from kontrol.head for update");

  await expect(standing.query("commit")).rejects.toThrow();
  standing.release(true);
});

test("when all connections are lent a question waits for one no longer than its limit", async () => {
  pool = await opened({ connectMs: 200 });
  const lent: pg.PoolClient[] = [];
  while (lent.length < 6) lent.push(await vi.waitFor(() => (pool as pg.Pool).connect()));

  await expect(ask(pool, "select 1 as one")).rejects.toMatchObject({ code: "unavailable" });

  for (const client of lent) client.release();
  expect((await ask(pool, "select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("a change that gets no answer gives its connection up instead of waiting for its rollback", async () => {
  pool = await opened({ answerMs: 200, statementMs: 60_000 });
  await other.query("begin; select from kontrol.head for update");

  await expect(ensureAccount(new Log(pool), alice)).rejects.toMatchObject({ code: "unavailable" });
  expect(pool.totalCount).toBe(0);

  await other.query("commit");
});

test.each([
  ["the disk is full", { code: "53100" }, "unavailable"],
  ["there are too many connections", { code: "53300" }, "unavailable"],
  ["an administrator ended the connection", { code: "57P01" }, "unavailable"],
  ["the server is starting", { code: "57P03" }, "unavailable"],
  ["a standby was asked after a switch-over", { code: "25006" }, "unavailable"],
  ["two transactions wait for each other", { code: "40P01" }, "unavailable"],
  ["a file cannot be written", { code: "58030" }, "unavailable"],
  ["the connection broke", new Error("Connection terminated unexpectedly"), "unavailable"],
  ["nothing listens", { code: "ECONNREFUSED" }, "unavailable"],
  ["a row is there twice", { code: "23505" }, "internal"],
  ["a column is not there", { code: "42703" }, "internal"],
])("that %s is told to callers without a word of the database's", (_title, cause, code) => {
  const error = databaseError(Object.assign(cause instanceof Error ? cause : new Error("planted detail"), cause));

  expect(error).toMatchObject({ code, message: expect.stringMatching(/^kontrol (cannot reach its database; try again|could not store)/) });
  expect(error.message).not.toContain("planted");
});

/** With limits that are soon over, so that on busy cores what has to succeed may need another try. */
function opened(limits: Partial<DatabaseLimits>): Promise<pg.Pool> {
  return vi.waitFor(() => openDatabase(databaseUrl, () => {}, limits));
}
