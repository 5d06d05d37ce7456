import { KiteError } from "@kite-mesh/kite";
import type pg from "pg";

/** Lends a connection. One that broke, or whose transaction could not be rolled back, is not given to the next. */
export async function withConnection<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  // Without a listener the end of a borrowed connection would end the process; the query that runs on it fails by itself.
  const onError = (cause: Error): void => {
    broken = cause;
  };
  client.on("error", onError);
  try {
    return await work(client);
  } catch (thrown) {
    await client.query("rollback").catch(onError);
    throw thrown;
  } finally {
    client.off("error", onError);
    client.release(broken);
  }
}

/** One question, outside of any transaction. */
export async function ask<Row extends pg.QueryResultRow>(pool: pg.Pool, text: string, values?: unknown[]): Promise<pg.QueryResult<Row>> {
  try {
    return await pool.query<Row>(text, values);
  } catch (cause) {
    throw databaseError(cause);
  }
}

/** A failure of the database as callers may see it: no statement, no data, no address. The cause is for the log. */
export function databaseError(cause: unknown): KiteError {
  if (cause instanceof KiteError) return cause;
  const state = (cause as { code?: unknown } | null)?.code;
  // What the server says about a statement is a mistake of ours; what it says about itself, or no answer, passes.
  if (typeof state === "string" && UNSTORABLE.has(state)) {
    return new KiteError("invalid_argument", "a text holds a character that cannot be stored, such as NUL", { cause });
  }
  if (typeof state === "string" && /^[0-9A-Z]{5}$/.test(state) && !PASSING.test(state)) {
    return new KiteError("internal", "kontrol could not store the change", { cause });
  }
  return new KiteError("unavailable", "kontrol cannot reach its database; try again in a moment", { cause });
}

// What PostgreSQL has no place for in text (22021) and in JSON (22P05): the caller sent it.
const UNSTORABLE: ReadonlySet<string> = new Set(["22021", "22P05"]);
// Classes of SQLSTATE: connection, resources, operator intervention; and a database that takes no connections now.
const PASSING = /^(08|53|57|55000)/;
