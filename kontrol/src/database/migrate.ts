import { readdir, readFile } from "node:fs/promises";
import { KiteError } from "@kite-mesh/kite";
import pg from "pg";

// Any constant that no other program on the same database uses; it spells "kontrol".
const LOCK = "30804105471029612";
// Built, all of kontrol is one file, a folder nearer.
const FOLDER = new URL(import.meta.url.endsWith(".ts") ? "../../sql/" : "../sql/", import.meta.url);
// An index on a table with millions of rows takes minutes; who waits for another's migration waits as long.
const LIMIT_MS = 10 * 60_000;
const CONNECT_LIMIT_MS = 10_000;

/**
 * Brings kontrol's schema up to this version. Processes that start at the same time wait for each other on an advisory
 * lock, and each file runs in a transaction of its own, so an interrupted upgrade goes on where it stopped.
 *
 * Migrations that a newer kontrol ran are left alone: they only add, so that this version runs beside it. One that takes
 * something away begins with `-- contracts: 0007`, and is passed over by versions that know migration 7.
 *
 * @throws {KiteError} `failed_precondition` when a newer version took away what this one needs.
 */
export async function migrate(databaseUrl: string, folder = FOLDER): Promise<void> {
  const files = await readMigrations(folder);
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: "kontrol migrations",
    connectionTimeoutMillis: CONNECT_LIMIT_MS,
    statement_timeout: LIMIT_MS,
    query_timeout: LIMIT_MS,
    keepAlive: true,
  });
  // Whatever ends the connection is told by the query that runs on it.
  client.on("error", () => {});
  await client.connect();
  try {
    // Given back with the connection.
    await client.query("select pg_advisory_lock($1)", [LOCK]);
    await upgrade(client, files);
  } finally {
    await client.end().catch(() => {});
  }
}

const PREPARE = `
  create schema if not exists kontrol;
  create table if not exists kontrol.migrations (number int primary key, name text not null, at timestamptz not null default now());
  alter table kontrol.migrations add column if not exists contracts int`;
const APPLIED = "select number, name, contracts from kontrol.migrations order by number";

async function upgrade(client: pg.Client, files: readonly Migration[]): Promise<void> {
  await client.query(PREPARE);
  const { rows: applied } = await client.query<{ number: number; name: string; contracts: number | null }>(APPLIED);
  const newest = files.at(-1)?.number ?? 0;
  const beyond = applied.find(({ contracts }) => contracts !== null && contracts > newest);
  if (beyond !== undefined) {
    throw new KiteError(
      "failed_precondition",
      `a newer kontrol has run migration ${beyond.name}, which takes away what this version needs: it knows migrations up to ${newest}, and would have to know ${beyond.contracts}; run a version that does`,
    );
  }
  const known = new Set(applied.map(({ number }) => number));
  for (const file of files) if (!known.has(file.number)) await run(client, file);
}

/** One simple query is one transaction: all of the file and its number, or nothing. */
async function run(client: pg.Client, { number, name, contracts, sql }: Migration): Promise<void> {
  // Behind the writers of a kontrol that runs meanwhile: each would hold what the other one waits for.
  const head = number === 1 ? "" : "select from kontrol.head for update;";
  const record = `insert into kontrol.migrations (number, name, contracts) values (${number}, '${name}', ${contracts ?? "null"})`;
  try {
    await client.query(`begin; ${head} ${sql}; ${record}; commit;`);
  } catch (cause) {
    // Also rolled back when this does not arrive: the connection ends.
    await client.query("rollback").catch(() => {});
    const why = (cause as Error).message;
    throw new KiteError("internal", `migration ${name} failed, and nothing of it remains: ${why}`, { cause });
  }
}

interface Migration {
  readonly number: number;
  readonly name: string;
  /** The migration that a version has to know to live with this one; undefined when every version can. */
  readonly contracts: number | undefined;
  readonly sql: string;
}

async function readMigrations(folder: URL): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => /^\d{4}_[a-z0-9-]+\.sql$/.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(new URL(name, folder), "utf8");
      const contracts = /^-- contracts: (\d{4})$/m.exec(sql)?.[1];
      return { number: Number(name.slice(0, 4)), name, contracts: contracts === undefined ? undefined : Number(contracts), sql };
    }),
  );
}
