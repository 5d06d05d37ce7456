import { randomUUID } from "node:crypto";
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { Directory } from "../directory/directory.ts";
import { Follower } from "../directory/follower.ts";
import { Watchers } from "../directory/watch.ts";
import { Leases } from "../presence/leases.ts";
import { Replicas } from "../presence/replicas.ts";
import { silent } from "../testing.ts";
import { checkVersion, openDatabase } from "./database.ts";
import { Log } from "./log.ts";
import { migrate } from "./migrate.ts";
import type { KiteRecord } from "./record.ts";

vi.setConfig({ testTimeout: 20_000 });
// The first to ask waits until the cluster is made.
const firstDatabase = await freshDatabase();
const FOLDER = new URL("../../sql/", import.meta.url);
const files = (await readdir(FOLDER)).sort();

test("processes that start at the same time on an empty database do not disturb each other", async () => {
  const databaseUrl = firstDatabase;

  const pools = await Promise.all(Array.from({ length: 5 }, () => openDatabase(databaseUrl, () => {})));

  expect(await applied(databaseUrl)).toEqual(files);
  await Promise.all(pools.map((pool) => pool.end()));
});

test("a migration that fails is named, leaves nothing of itself, and goes on from there when it is mended", async () => {
  const databaseUrl = await freshDatabase();
  await using folder = await migrations({ "9001_broken.sql": "create table kontrol.half (id int); select 1 / 0" });

  const failing = await Promise.allSettled([migrate(databaseUrl, folder.url), migrate(databaseUrl, folder.url)]);
  for (const outcome of failing)
    expect(outcome).toMatchObject({ status: "rejected", reason: { message: expect.stringMatching(/9001_broken\.sql failed.*division/) } });
  expect(await applied(databaseUrl)).toEqual(files);
  expect(await ask(databaseUrl, "select to_regclass('kontrol.half') as half")).toEqual([{ half: null }]);

  await folder.write("9001_broken.sql", "create table kontrol.half (id int)");
  await migrate(databaseUrl, folder.url);
  expect(await applied(databaseUrl)).toEqual([...files, "9001_broken.sql"]);
});

test("a migration that is found later than one with a higher number is run, too", async () => {
  const databaseUrl = await freshDatabase();
  await using folder = await migrations({ "9002_second.sql": "create table kontrol.second (id int)" });
  await migrate(databaseUrl, folder.url);

  await folder.write("9001_first.sql", "create table kontrol.first (id int)");
  await migrate(databaseUrl, folder.url);

  expect(await applied(databaseUrl)).toEqual([...files, "9001_first.sql", "9002_second.sql"]);
});

test("a kontrol starts on a database that a newer one has expanded, so that both run side by side", async () => {
  const databaseUrl = await freshDatabase();
  await using newer = await migrations({ "9001_more.sql": "alter table kontrol.kites add column more text" });
  await migrate(databaseUrl, newer.url);

  const pool = await openDatabase(databaseUrl, () => {});

  expect(await applied(databaseUrl)).toEqual([...files, "9001_more.sql"]);
  await pool.end();
});

test("a kontrol does not start on a database from which a newer one took what it needs, and says so", async () => {
  const databaseUrl = await freshDatabase();
  await using newer = await migrations({ "9002_less.sql": "-- contracts: 9001\nalter table kontrol.kites drop column url" });
  await migrate(databaseUrl, newer.url);

  await expect(openDatabase(databaseUrl, () => {})).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringMatching(/newer kontrol has run migration 9002_less\.sql.*up to \d+.*have to know 9001/),
  });

  await newer.write("9001_more.sql", "select 1");
  await migrate(databaseUrl, newer.url);
});

test("a replica follows a log with entries of kinds that it does not know: it passes over them and keeps the revision", async () => {
  const databaseUrl = await freshDatabase();
  const pool = await openDatabase(databaseUrl, () => {});
  const directory = new Directory({ revocationsMs: 600_000 });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent });
  const watching = new Watchers(directory, () => 0).watch({ query: {}, username: "alice" })[Symbol.asyncIterator]();
  expect((await watching.next()).value).toMatchObject({ type: "snapshot" });

  const [first, , third] = await newerEntries(pool, directory.revision);
  await follower.reached(third);

  expect(directory.account("alice")).toMatchObject({ state: "active" });
  expect(directory.revision).toBe(third);
  expect(directory.since(first)).toHaveLength(2);
  await watching.return?.();
  await follower.close();
  await pool.end();
});

test("what the version before wrote is read after its database was expanded, and so is what it goes on writing", async () => {
  const databaseUrl = await freshDatabase();
  await using before = await migrations({}, BEFORE);
  await migrate(databaseUrl, before.url);
  const [holder, other] = [randomUUID(), randomUUID()];
  await asBefore(databaseUrl, { holder, generation: 1, version: "1.0.0" });

  const pool = await openDatabase(databaseUrl, () => {});
  const directory = new Directory({ revocationsMs: 600_000 });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent });
  expect(directory.kite("math-1")).toMatchObject({ generation: 1, kite: { version: "1.0.0" }, labels: { tier: "web" } });
  await asBefore(databaseUrl, { holder, generation: 2, version: "2.0.0" });
  await follower.check();

  expect(directory.kite("math-1")).toMatchObject({ generation: 2, kite: { version: "2.0.0" }, holder });
  expect(await new Replicas({ pool, holder: other, heartbeatMs: 10_000 }).find(holder)).toBe("http://10.0.0.1:4000");
  const onWritten = (revision: number) => follower.reached(revision);
  const leases = new Leases({ log: new Log(pool), present: directory, logger: silent, onWritten });
  const lease = { ...(directory.kite("math-1") as KiteRecord), holder: other, instance: "newer", again: true };
  expect(await leases.enter(lease)).toMatchObject({ generation: 3 });
  await asBefore(databaseUrl, { holder, generation: 4, version: "2.0.0" });
  expect(await leases.enter({ ...lease, instance: "another" })).toMatchObject({ generation: 5 });
  await follower.close();
  await pool.end();
});

test.each(files.slice(1))("%s only adds, or says which versions it leaves behind", async (name) => {
  const sql = (await readFile(new URL(name, FOLDER), "utf8")).toLowerCase();

  const statements = sql.replaceAll(/--.*$/gm, "").split(";");

  if (!/^-- contracts: \d{4}$/m.test(sql)) for (const statement of statements) expect(takesAway(statement), statement).toBe(false);
});

test.each([
  ["alter table kontrol.kites drop column url", true],
  ["alter table kontrol.kites rename to boats", true],
  ["alter table kontrol.kites alter column url type varchar(10)", true],
  ["alter table kontrol.kites alter url set not null", true],
  ["alter table kontrol.kites add column owner text not null", true],
  ["alter table kontrol.kites add constraint few check (length(url) < 9)", true],
  ["create unique index one_url on kontrol.kites (url)", true],
  ["truncate kontrol.audit", true],
  ["alter table kontrol.kites add column owner text not null default ''", false],
  ["alter table kontrol.kites add column owner text", false],
  ["create index urls on kontrol.kites (url)", false],
  ["create table kontrol.teams (name text not null primary key)", false],
])("%s takes something away: %s", (statement, answer) => {
  expect(takesAway(statement)).toBe(answer);
});

test("a PostgreSQL that is older than the oldest supported one is named with its version", () => {
  expect(() => checkVersion("11.22 (Debian 11.22-1)")).toThrow(/needs PostgreSQL 12 or later.*names a 11\.22/);
  for (const version of ["12.22", "13.0", "18.4 (Debian)", "19beta1"]) checkVersion(version);
});

test("a database that does not answer is named by its setting, without the password", async () => {
  const opening = openDatabase("postgres://mesh:secret@127.0.0.1:1/none", () => {});

  await expect(opening).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("KONTROL_DATABASE_URL") });
  await expect(opening).rejects.not.toMatchObject({ message: expect.stringContaining("secret") });
});

/** Whether a kontrol of the version before would trip over it: it knows nothing of what is new, and relies on what was there. */
function takesAway(statement: string): boolean {
  if (/\b(drop|rename|truncate|delete)\b|\balter\s+(column\s+)?\w+\s+(set\s+data\s+)?type\b|\bset\s+not\s+null\b/.test(statement))
    return true;
  if (/\bcreate\s+unique\s+index\b/.test(statement)) return true;
  if (!/\balter\s+table\b/.test(statement)) return false;
  if (/\badd\s+(constraint|check|primary|unique|foreign)\b/.test(statement)) return true;
  return /\bnot\s+null\b/.test(statement) && !/\bdefault\b/.test(statement);
}

// The migrations, and the statements, of the version before instances and the beats of replicas.
const BEFORE = files.filter((name) => name < "0008");
const BEAT_BEFORE = `
  insert into kontrol.replicas (id, url) values ($1, $2) on conflict (id) do update set beat_at = now(), url = excluded.url
  returning (select revision::float8 from kontrol.head) as revision`;
const ENTER_BEFORE = `
  insert into kontrol.kites as k (id, username, environment, name, version, region, hostname, url, visibility, labels, jti, kid, generation, holder, registered_at)
  select id, username, environment, name, version, region, hostname, url, visibility, labels, jti, kid, generation, holder,
         to_timestamp("registeredAt" / 1000)
    from jsonb_to_recordset($1) as lease (id text, username text, environment text, name text, version text, region text, hostname text, url text,
         visibility text, labels jsonb, jti uuid, kid text, generation bigint, holder uuid, "registeredAt" float8)
  on conflict (id) do update set
    username = excluded.username, environment = excluded.environment, name = excluded.name, version = excluded.version,
    region = excluded.region, hostname = excluded.hostname, url = excluded.url, visibility = excluded.visibility, labels = excluded.labels,
    jti = excluded.jti, kid = excluded.kid, generation = excluded.generation, holder = excluded.holder, registered_at = excluded.registered_at,
    gone_at = null, gone_reason = null`;

/** Beats and registers a kite as the version before did, which said nothing of what it took the place of. */
async function asBefore(databaseUrl: string, written: { holder: string; generation: number; version: string }): Promise<void> {
  const { version, ...lease } = written;
  const kite = { username: "alice", environment: "dev", name: "math", version, region: "eu", hostname: "h", id: "math-1" };
  const rest = {
    url: "http://10.0.0.7:3636",
    visibility: "mesh",
    labels: { tier: "web" },
    jti: null,
    kid: null,
    registeredAt: 1_700_000_000_000,
  };
  await ask(databaseUrl, BEAT_BEFORE, [lease.holder, "http://10.0.0.1:4000"]);
  await ask(databaseUrl, ENTER_BEFORE, [JSON.stringify([{ ...kite, ...rest, ...lease }])]);
  const data = { record: { kite, ...rest, ...lease } };
  await ask(databaseUrl, "insert into kontrol.log (revision, kind, data) values ($1, 'kite.registered', $2)", [lease.generation, data]);
  await ask(databaseUrl, "update kontrol.head set revision = $1", [lease.generation]);
}

/** Kontrol's own migrations, and others, in a folder that goes with its scope. */
async function migrations(more: Record<string, string>, own = files) {
  const path = await mkdtemp(join(tmpdir(), "kontrol-sql-"));
  for (const name of own) await copyFile(new URL(name, FOLDER), join(path, name));
  const write = (name: string, sql: string) => writeFile(join(path, name), sql);
  for (const [name, sql] of Object.entries(more)) await write(name, sql);
  return { url: pathToFileURL(`${path}/`), write, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** What a later version might write around an entry of today; answers with the three revisions. */
async function newerEntries(pool: pg.Pool, from: number): Promise<[number, number, number]> {
  const account = { username: "alice", kind: "person", admin: false, state: "active", badge: 7 };
  const entries = [
    { kind: "weather.changed", data: { sky: "blue" } },
    { kind: "account.changed", data: { account } },
    { kind: "kite.painted", data: { id: "a", generation: 1, colour: "red" } },
  ];
  for (const [index, { kind, data }] of entries.entries())
    await pool.query("insert into kontrol.log (revision, kind, data) values ($1, $2, $3)", [from + index + 1, kind, data]);
  await pool.query("update kontrol.head set revision = revision + 3");
  await pool.query("select pg_notify('kontrol', revision::text) from kontrol.head");
  return [from + 1, from + 2, from + 3];
}

async function applied(databaseUrl: string): Promise<unknown[]> {
  return (await ask(databaseUrl, "select name from kontrol.migrations order by number")).map(({ name }) => name);
}

async function ask(databaseUrl: string, text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text, values)).rows;
  } finally {
    await client.end();
  }
}
