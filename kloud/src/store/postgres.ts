import { KiteError } from "@kite-mesh/kite";
import pg from "pg";
import { ChangeFeed } from "./change-feed.ts";
import type { Document } from "./documents.ts";
import { migrate } from "./migrations.ts";
import type { Collection, CollectionName, Filter, FilterField, Store } from "./store.ts";
import { FILTER_FIELDS, STORE_DOWN } from "./store.ts";

export interface PostgresStoreOptions {
  databaseUrl: string;
  /** Told when the database went away or came back. */
  log: { warn(fields: object, message: string): void };
}

/**
 * Keeps kloud's documents as JSONB in the schema `kloud`, which it creates and migrates. Every write notifies the
 * other processes in the same statement, so nobody hears of something that was rolled back.
 */
export async function postgresStore(options: PostgresStoreOptions): Promise<Store> {
  const pool = new pg.Pool({
    connectionString: options.databaseUrl,
    max: POOL_SIZE,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
  });
  pool.on("error", (error) => options.log.warn({ error: error.message }, "an idle database connection was lost"));
  // The pool listens to idle ones only. On one that is lent out, the query at work fails by itself.
  pool.on("connect", (client) => client.on("error", () => {}));
  const feed = new ChangeFeed({ databaseUrl: options.databaseUrl, log: options.log });
  try {
    const client = await pool.connect();
    await migrate(client).finally(() => client.release());
    await feed.start();
  } catch (thrown) {
    await feed.close();
    await pool.end();
    throw asStoreError(thrown);
  }
  return {
    stacks: postgresCollection(pool, "stacks"),
    machines: postgresCollection(pool, "machines"),
    operations: postgresCollection(pool, "operations"),
    resources: postgresCollection(pool, "resources"),
    plans: postgresCollection(pool, "plans"),
    onChange: (listener) => feed.onChange(listener),
    async close() {
      await feed.close();
      await pool.end();
    },
  };
}

// Eight connections answered 28,900 lookups a second on two cores; more of them only cost memory.
const POOL_SIZE = 8;
const CONNECT_TIMEOUT_MS = 5_000;
// A statement here touches one small document; one that takes this long will not end well.
const QUERY_TIMEOUT_MS = 15_000;

interface Row {
  version: string;
  data: Record<string, unknown>;
}

function postgresCollection<D extends Document>(pool: pg.Pool, name: CollectionName): Collection<D> {
  const sql = statements(name);
  const run = async (text: string, values: unknown[]): Promise<D[]> => {
    try {
      const { rows } = await pool.query<Row>(text, values);
      // Only documents of this collection are ever written to its table.
      return rows.map((row) => ({ ...row.data, version: Number(row.version) }) as unknown as D);
    } catch (thrown) {
      throw asStoreError(thrown);
    }
  };
  return {
    async insert(document) {
      const [stored] = await run(sql.insert, [document.id, body(document)]);
      return stored as D;
    },
    get: async (id) => (await run(sql.get, [id]))[0] ?? null,
    find: (filter) => {
      const { where, values } = condition(filter);
      return run(`${sql.find} where ${where} order by data->>'createdAt' collate "C", id collate "C"`, values);
    },
    async replace(document) {
      const [stored] = await run(sql.replace, [document.id, document.version, body(document)]);
      if (stored === undefined)
        throw new KiteError("conflict", `document ${document.id} of ${name} is no longer at version ${document.version}; read it again`);
      return stored;
    },
    async remove({ id, version }) {
      const removed = await run(sql.remove, [id, version]);
      if (removed.length === 0 && (await run(sql.get, [id])).length > 0) {
        throw new KiteError("conflict", `document ${id} of ${name} is no longer at version ${version}; read it again`);
      }
    },
  };
}

function statements(name: CollectionName) {
  const table = `kloud.${name}`;
  const notify = (type: string) =>
    `pg_notify('kloud', json_build_object('type', '${type}', 'collection', '${name}', 'id', id, 'owner', data->>'owner', 'stackId', data->>'stackId')::text)`;
  const told = (type: string, statement: string) =>
    `with done as (${statement} returning id, version, data) select version, data, ${notify(type)} from done`;
  return {
    insert: told("written", `insert into ${table} (id, version, data) values ($1, 1, $2)`),
    get: `select version, data from ${table} where id = $1`,
    find: `select version, data from ${table}`,
    replace: told("written", `update ${table} set version = version + 1, data = $3 where id = $1 and version = $2`),
    remove: told("removed", `delete from ${table} where id = $1 and version = $2`),
  };
}

function body(document: object): string {
  const { version: _, ...data } = document as { version?: number };
  return JSON.stringify(data);
}

function condition(filter: Filter): { where: string; values: string[] } {
  const fields = Object.keys(filter) as FilterField[];
  for (const field of fields) {
    // The names become SQL text; values never do.
    if (!FILTER_FIELDS.includes(field)) throw new KiteError("internal", `documents cannot be found by ${field}`);
  }
  if (fields.length === 0) return { where: "true", values: [] };
  return {
    where: fields.map((field, index) => `data->>'${field}' = $${index + 1}`).join(" and "),
    values: fields.map((field) => String(filter[field])),
  };
}

function asStoreError(thrown: unknown): KiteError {
  if (thrown instanceof KiteError) return thrown;
  const { code } = thrown as { code?: unknown };
  if (code === "23505")
    return new KiteError("already_exists", "a document with the same unique fields is already in the store", { cause: thrown });
  // Whoever called reads this sentence: what PostgreSQL said may quote statements, data and addresses, and stays in the cause.
  // A five-character SQLSTATE outside the classes 08 (connection), 53 (resources) and 57 (shutdown) is an answer of the database.
  if (typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !/^(08|53|57)/.test(code)) {
    return new KiteError("internal", `kloud's database refused a statement (SQLSTATE ${code}); kloud's log has the cause`, {
      cause: thrown,
    });
  }
  const why = typeof code === "string" ? ` (${code})` : "";
  return new KiteError("unavailable", `kloud's database does not answer${why}; try again in a moment`, {
    cause: thrown,
    reason: STORE_DOWN,
  });
}
