import type { Pool, PoolClient, QueryConfig, QueryResult, QueryResultRow } from "pg";
import { databaseError, withConnection } from "./connection.ts";
import type { Change } from "./record.ts";

/** A change with its place in the one order that all of kontrol's processes agree on. */
export interface Entry {
  readonly revision: number;
  readonly change: Change;
}

/** A transaction that may change tables and says in the log what it changed. */
export interface LogTransaction {
  query<Row extends QueryResultRow>(text: string, values?: unknown[]): Promise<QueryResult<Row>>;
  /** Sends a statement whose answer tells nothing together with the commit, for which one waits anyway. */
  send(statement: QueryConfig): void;
  /** Puts a change at the end of the log and answers with its revision; both become true when the transaction commits. */
  append(change: Change): number;
}

/**
 * The writing side of the log. Every transaction locks the one row of `kontrol.head` before anything else and keeps it
 * until it has committed: revisions are therefore without gaps, become visible in their order, and two writers cannot
 * deadlock. The price is that writers stand in one line, so what comes in numbers (registrations) is written in batches.
 */
export class Log {
  readonly #pool: Pool;
  readonly #onCommitted: (entries: readonly Entry[]) => void;

  /** `onCommitted` hears what this process wrote without the detour over the database. */
  constructor(pool: Pool, onCommitted: (entries: readonly Entry[]) => void = () => {}) {
    this.#pool = pool;
    this.#onCommitted = onCommitted;
  }

  /**
   * Runs a change. Nothing of it remains when it throws.
   *
   * @returns what `change` returned, and the revision after which others see it.
   */
  async write<T>(change: (tx: LogTransaction) => Promise<T>): Promise<{ result: T; revision: number }> {
    try {
      const { result, revision, entries } = await withConnection(this.#pool, (client) => inTransaction(client, change));
      if (entries.length > 0) this.#onCommitted(entries);
      return { result, revision };
    } catch (cause) {
      throw databaseError(cause);
    }
  }
}

// Both in one message, so that the lock costs one round trip; pg answers with one result for each.
const BEGIN_AT_HEAD = "begin; select revision::float8 as revision from kontrol.head for update";
const APPEND = `
  with added as (
    insert into kontrol.log (revision, kind, data)
    select revision, kind, data from jsonb_to_recordset($1) as entry (revision bigint, kind text, data jsonb)
  ), moved as (
    update kontrol.head set revision = $2
  )
  select pg_notify('kontrol', $2::text)`;
const COMMIT: QueryConfig = { text: "commit" };

async function inTransaction<T>(client: PoolClient, change: (tx: LogTransaction) => Promise<T>) {
  const results = (await client.query(BEGIN_AT_HEAD)) as unknown as [QueryResult, QueryResult<{ revision: number }>];
  let revision = results[1].rows[0]?.revision ?? 0;
  const entries: Entry[] = [];
  const last: QueryConfig[] = [];
  const result = await change({
    query: (text, values) => client.query(text, values),
    send: (statement) => void last.push(statement),
    append: (change) => {
      entries.push({ revision: ++revision, change });
      return revision;
    },
  });
  if (entries.length > 0) {
    const rows = entries.map(({ revision, change: { kind, ...data } }) => ({ revision, kind, data }));
    last.push({ name: "append", text: APPEND, values: [JSON.stringify(rows), revision] });
  }
  // In one go. When one of them fails, so do those behind it, and at the commit PostgreSQL takes everything back.
  await Promise.all([...last, COMMIT].map((statement) => client.query(statement)));
  return { result, revision, entries };
}
