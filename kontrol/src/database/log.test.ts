import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { Directory } from "../directory/directory.ts";
import { Follower } from "../directory/follower.ts";
import { silent } from "../testing.ts";
import { openDatabase } from "./database.ts";
import { Log } from "./log.ts";
import type { Change } from "./record.ts";

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();
let pool: pg.Pool;

const CUT_FOLLOWERS = `
  select pg_terminate_backend(pid) from pg_stat_activity
   where application_name = 'kontrol follower' and datname = current_database()`;
const WAITING_FOR_A_LOCK = `
  select pid from pg_stat_activity
   where application_name = 'kontrol follower' and datname = current_database() and wait_event_type = 'Lock'`;

beforeAll(async () => {
  pool = await openDatabase(databaseUrl, () => {});
});
afterAll(() => pool.end());

test("revisions have no gaps and become visible in their order, whoever writes and whatever is rolled back", async () => {
  const log = new Log(pool);
  const seen: number[] = [];
  const reader = new pg.Client({ connectionString: databaseUrl });
  await reader.connect();
  const before = await head();
  let writing = true;
  const reading = (async () => {
    while (writing)
      seen.push(
        ...(await reader.query<{ max: number }>("select max(revision)::float8 as max, count(*) from kontrol.log")).rows.map(
          ({ max }) => max,
        ),
      );
  })();

  const writes = Array.from({ length: 300 }, (_, index) =>
    log.write(async (tx) => {
      tx.append(change(`w${index}`));
      if (index % 3 === 0) throw new Error("on purpose");
      if (index % 2 === 0) tx.append(change(`w${index}b`));
    }),
  );
  const settled = await Promise.allSettled(writes);
  writing = false;
  await reading;
  await reader.end();

  expect(settled.filter(({ status }) => status === "rejected")).toHaveLength(100);
  const { rows } = await pool.query<{ revision: number }>(
    "select revision::float8 as revision from kontrol.log where revision > $1 order by revision",
    [before],
  );
  expect(rows.map(({ revision }) => revision)).toEqual(rows.map((_, index) => before + index + 1));
  expect(rows).toHaveLength(300);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});

test("of a change whose last statement fails nothing remains, though the commit was sent with it", async () => {
  const heard = vi.fn();
  const log = new Log(pool, heard);
  const before = await head();

  const writing = log.write(async (tx) => {
    await tx.query("insert into kontrol.accounts (username, kind, name) values ('half', 'person', 'x')");
    tx.append(change("half"));
    tx.derive({ name: "half", text: "insert into kontrol.accounts (username, kind, name) select 'half', kind, 'again' from added" });
  });

  await expect(writing).rejects.toMatchObject({ code: "internal" });
  expect((await pool.query("select 1 from kontrol.accounts where username = 'half'")).rowCount).toBe(0);
  expect(await head()).toBe(before);
  expect(heard).not.toHaveBeenCalled();
  await expect(log.write(async (tx) => tx.append(change("next")))).resolves.toMatchObject({ revision: before + 1 });
});

test("a directory follows what another process writes", async () => {
  const log = new Log(pool);
  await using following = await follow();

  const { revision } = await log.write(async (tx) => tx.append(change("from-elsewhere")));

  await following.follower.reached(revision);
  expect(following.directory.account("from-elsewhere")).toBeDefined();
});

test("a follower that lost its connection catches up by revision, without a new notification", async () => {
  const log = new Log(pool);
  await using following = await follow();
  const resets = vi.fn();
  following.directory.listen((applied) => applied === "reset" && resets());

  await pool.query(CUT_FOLLOWERS);
  await vi.waitFor(() => expect(following.follower.connected).toBe(false));
  const { revision } = await log.write(async (tx) => tx.append(change("while-away")));

  await vi.waitFor(() => expect(following.directory.revision).toBe(revision));
  expect(following.follower.connected).toBe(true);
  expect(following.directory.account("while-away")).toBeDefined();
  expect(resets).not.toHaveBeenCalled();
});

test("a follower that the log no longer reaches back to reads the tables again", async () => {
  const log = new Log(pool);
  await using following = await follow();
  await pool.query(CUT_FOLLOWERS);
  await vi.waitFor(() => expect(following.follower.connected).toBe(false));
  await log.write(async (tx) => {
    await tx.query("insert into kontrol.accounts (username, kind, name) values ('in-the-table', 'person', 'x')");
    tx.append(change("in-the-table"));
  });
  await pool.query("delete from kontrol.log");

  const { revision } = await log.write(async (tx) => tx.append(change("last")));

  await vi.waitFor(() => expect(following.directory.revision).toBe(revision));
  expect(following.directory.account("in-the-table")).toBeDefined();
});

test("a change that is announced while a follower reads the tables is not forgotten", async () => {
  const log = new Log(pool);
  await using following = await follow();
  const keeper = await pool.connect();
  // The log no longer reaches back, and the tables are read as far as the grants, which are locked.
  await keeper.query("begin; lock table kontrol.grants in access exclusive mode");
  // Announced to nobody: the follower finds it when it connects again, which may be before the next line has been run.
  await pool.query("update kontrol.head set revision = revision + 1; delete from kontrol.log");
  await pool.query(CUT_FOLLOWERS);
  await vi.waitFor(async () => expect((await pool.query(WAITING_FOR_A_LOCK)).rowCount).toBe(1));

  const { revision } = await log.write(async (tx) => tx.append(change("meanwhile")));
  await keeper.query("commit");
  keeper.release();

  await vi.waitFor(() => expect(following.directory.revision).toBe(revision));
  expect(following.directory.account("meanwhile")).toBeDefined();
});

test("a follower that is closed while it connects again ends, and keeps no connection", async () => {
  const following = await follow();
  await pool.query(CUT_FOLLOWERS);
  await vi.waitFor(() => expect(following.follower.connected).toBe(false));

  await following.follower.close();

  const followers =
    "select count(*)::int as count from pg_stat_activity where application_name = 'kontrol follower' and datname = current_database()";
  await vi.waitFor(async () => expect((await pool.query(followers)).rows).toEqual([{ count: 0 }]));
});

test("what this process wrote is applied without reading it back", async () => {
  await using following = await follow();
  const log = new Log(pool, (entries) => following.follower.offer(entries));

  const { revision } = await log.write(async (tx) => tx.append(change("mine")));

  expect(following.directory.revision).toBe(revision);
});

test("who has not heard of a revocation writes nothing: the caller may be the one who was meant", async () => {
  const { revision } = await new Log(pool).write(async (tx) => tx.append(change("demoted")));
  const log = new Log(
    pool,
    () => {},
    () => revision - 1,
  );
  await expect(log.write(async (tx) => tx.append(change("at once")))).resolves.toMatchObject({ revision: revision + 1 });

  await pool.query("update kontrol.log set at = now() - interval '4 s' where revision = $1", [revision]);

  const written = vi.fn(async () => {});
  await expect(log.write(written)).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
  expect(written).not.toHaveBeenCalled();
  const informed = new Log(
    pool,
    () => {},
    () => revision,
  );
  await expect(informed.write(async () => "good")).resolves.toMatchObject({ result: "good" });
});

async function follow() {
  const directory = new Directory({ revocationsMs: 600_000 });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent });
  return { directory, follower, [Symbol.asyncDispose]: () => follower.close() };
}

async function head(): Promise<number> {
  return (await pool.query<{ revision: number }>("select revision::float8 as revision from kontrol.head")).rows[0]?.revision ?? 0;
}

function change(username: string): Change {
  return { kind: "account.changed", account: { username, kind: "person", admin: false, state: "active" } };
}
