import { readdir, readFile } from "node:fs/promises";
import { KiteError } from "@kite-mesh/kite";
import type { ClientBase, Pool } from "pg";
import { withConnection } from "./connection.ts";

// Any constant that no other program on the same database uses; it spells "kontrol".
const LOCK = "30804105471029612";
const FOLDER = new URL("../sql/", import.meta.url);

/**
 * Brings kontrol's schema up to this version. Processes that start at the same time wait for each other on an advisory
 * lock, and each file runs in a transaction of its own, so an interrupted upgrade goes on where it stopped.
 *
 * @throws {KiteError} `failed_precondition` when the database was written by a newer version.
 */
export async function migrate(pool: Pool): Promise<void> {
  const files = await migrations();
  await withConnection(pool, async (client) => {
    await client.query("select pg_advisory_lock($1)", [LOCK]);
    try {
      await upgrade(client, files);
    } finally {
      await client.query("select pg_advisory_unlock($1)", [LOCK]);
    }
  });
}

async function upgrade(client: ClientBase, files: readonly Migration[]): Promise<void> {
  await client.query("create schema if not exists kontrol");
  await client.query(
    "create table if not exists kontrol.migrations (number int primary key, name text not null, at timestamptz not null default now())",
  );
  const { rows } = await client.query<{ number: number }>("select coalesce(max(number), 0) as number from kontrol.migrations");
  const current = rows[0]?.number ?? 0;
  const newest = files.at(-1)?.number ?? 0;
  if (current > newest) {
    throw new KiteError(
      "failed_precondition",
      `the database is at migration ${current} of kontrol, this version knows ${newest}: a newer kontrol wrote it; run that version or a later one`,
    );
  }
  for (const { number, name } of files.filter((file) => file.number > current)) {
    const sql = await readFile(new URL(name, FOLDER), "utf8");
    // One simple query is one transaction: all of the file and its number, or nothing.
    await client
      .query(`begin; ${sql}; insert into kontrol.migrations (number, name) values (${number}, '${name}'); commit;`)
      .catch(async (cause) => {
        await client.query("rollback");
        throw new KiteError("internal", `migration ${name} failed: ${(cause as Error).message}`, { cause });
      });
  }
}

interface Migration {
  readonly number: number;
  readonly name: string;
}

async function migrations(): Promise<Migration[]> {
  const names = (await readdir(FOLDER)).filter((name) => /^\d{4}_[a-z0-9-]+\.sql$/.test(name)).sort();
  return names.map((name) => ({ number: Number(name.slice(0, 4)), name }));
}
