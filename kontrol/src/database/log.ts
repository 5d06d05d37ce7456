import { KiteError } from "@kite-mesh/kite";
import type { Pool, PoolClient, QueryResult, QueryResultRow } from "pg";
import { databaseError, withConnection } from "./connection.ts";
import type { Change } from "./record.ts";

/** A change with its place in the one order that all of kontrol's processes agree on. */
export interface Entry {
  readonly revision: number;
  readonly change: Change;
}

/** A transaction that may change tables and says in the log what it changed. */
export interface LogTransaction {
  /** The last revision before it. The log's lock is held, so there is none that this process does not see yet. */
  readonly head: number;
  query<Row extends QueryResultRow>(text: string, values?: unknown[]): Promise<QueryResult<Row>>;
  /** Writes what was appended into a table as well, by the statement that puts it into the log: so it is sent, and read, once. */
  derive(table: Derived): void;
  /** Puts a change at the end of the log and answers with its revision; both become true when the transaction commits. */
  append(change: Change): number;
}

/** A part of the statement that appends, in which `added` has the entries: their revision, kind and data. */
export interface Derived {
  /** By which the database knows the statement: another name for another text. */
  readonly name: string;
  readonly text: string;
}

/**
 * The writing side of the log. Every transaction locks the one row of `kontrol.head` before anything else and keeps it
 * until it has committed: revisions are therefore without gaps, become visible in their order, and two writers cannot
 * deadlock. The price is that writers stand in one line, so what comes in numbers (registrations) is written in batches.
 */
export class Log {
  readonly #pool: Pool;
  readonly #onCommitted: (entries: readonly Entry[]) => void;
  readonly #known: () => number;

  /**
   * `onCommitted` hears what this process wrote without the detour over the database. `known` is the revision up to which this
   * process has read, for one that decides by it who may write.
   */
  constructor(
    pool: Pool,
    onCommitted: (entries: readonly Entry[]) => void = () => {},
    known: () => number = () => Number.MAX_SAFE_INTEGER,
  ) {
    this.#pool = pool;
    this.#onCommitted = onCommitted;
    this.#known = known;
  }

  /**
   * Runs a change. Nothing of it remains when it throws.
   *
   * @returns what `change` returned, and the revision after which others see it.
   * @throws {KiteError} `unavailable` when this process has not heard of what was revoked seconds ago: whoever writes may be
   * somebody who may not any more.
   */
  async write<T>(change: (tx: LogTransaction) => Promise<T>): Promise<{ result: T; revision: number }> {
    try {
      const { result, revision, entries } = await withConnection(this.#pool, (client) => inTransaction(client, this.#known(), change));
      if (entries.length > 0) this.#onCommitted(entries);
      return { result, revision };
    } catch (cause) {
      throw databaseError(cause);
    }
  }
}

// Both in one message, so that the lock costs one round trip; pg answers with one result for each. The log is looked at by those
// alone who are behind it, and in a range with two ends: without them a database that has no statistics yet reads all of it.
const beginAtHead = (known: number): string => `
  begin;
  select revision::float8 as revision,
         case when revision > ${known} then
           exists (select from kontrol.log where log.revision > ${known} and log.revision <= head.revision
                      and kind in ('revoked', 'account.changed') and at < now() - interval '${UNHEARD_S} s')
         else false end as unheard
    from kontrol.head for update of head`;
// A replica that follows the log hears of a change within milliseconds, on a machine that is too busy within one or two seconds.
const UNHEARD_S = 3;
const append = (derived: readonly Derived[]): string => `
  with added as (
    insert into kontrol.log (revision, kind, data)
    select revision, kind, data from jsonb_to_recordset($1) as entry (revision bigint, kind text, data jsonb)
    returning revision, kind, data
  ), moved as (
    update kontrol.head set revision = $2
  )${derived.map(({ name, text }) => `, ${name} as (${text})`).join("")}
  select pg_notify('kontrol', $2::text)`;

async function inTransaction<T>(client: PoolClient, known: number, change: (tx: LogTransaction) => Promise<T>) {
  const results = (await client.query(beginAtHead(known))) as unknown as [QueryResult, QueryResult<{ revision: number; unheard: boolean }>];
  const [head] = results[1].rows;
  if (head?.unheard) throw unheard();
  const before = head?.revision ?? 0;
  let revision = before;
  const entries: Entry[] = [];
  const derived: Derived[] = [];
  const result = await change({
    head: before,
    query: (text, values) => client.query(text, values),
    derive: (table) => void derived.push(table),
    append: (change) => {
      entries.push({ revision: ++revision, change });
      return revision;
    },
  });
  if (entries.length === 0) {
    await client.query("commit");
    return { result, revision, entries };
  }
  const rows = entries.map(({ revision, change: { kind, ...data } }) => ({ revision, kind, data }));
  const name = ["append", ...derived.map(({ name }) => name)].join(" ");
  const appended = { name, text: append(derived), values: [JSON.stringify(rows), revision] };
  // In one go. When the first of them fails, PostgreSQL takes everything back at the commit.
  await Promise.all([client.query(appended), client.query("commit")]);
  return { result, revision, entries };
}

function unheard(): KiteError {
  return new KiteError(
    "unavailable",
    "this kontrol has not heard of the latest changes, by which the caller may have lost the right to this; try again in a moment",
    { outcome: "not_run" },
  );
}
