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
    // Who got no answer would wait as long again for that of the rollback; without the connection the server does it by itself.
    if (thrown instanceof KiteError || isAnswer(thrown)) await client.query("rollback").catch(onError);
    else broken = thrown instanceof Error ? thrown : new Error("the work on a connection failed");
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
  // What the server says about a statement is a mistake of ours; what it says about itself, or no answer, passes.
  if (isAnswer(cause) && UNSTORABLE.has(cause.code))
    return new KiteError("invalid_argument", "a text holds a character that cannot be stored, such as NUL", { cause });
  if (isAnswer(cause) && !PASSING.test(cause.code)) return new KiteError("internal", "kontrol could not store the change", { cause });
  return new KiteError("unavailable", "kontrol cannot reach its database; try again in a moment", { cause });
}

/** Whether the server itself said no, with its SQLSTATE; else the connection is at fault. */
function isAnswer(thrown: unknown): thrown is Error & { code: string } {
  const state = (thrown as { code?: unknown } | null)?.code;
  return typeof state === "string" && /^[0-9A-Z]{5}$/.test(state);
}

// What PostgreSQL has no place for in text (22021) and in JSON (22P05): the caller sent it.
const UNSTORABLE: ReadonlySet<string> = new Set(["22021", "22P05"]);
// Classes of SQLSTATE: connection, resources, operator intervention, the system; a database that takes no connections now,
// a standby after a switch-over, a deadlock, a lock that did not come free, a transaction that took too long.
const PASSING = /^(08|53|57|58|55000|25006|40|55P03|25P03)/;
