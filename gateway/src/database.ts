import { KiteError, type Logger } from "@kite-mesh/kite";
import pg from "pg";

/** The gateway's connections to PostgreSQL; whoever opened them ends them. */
export type Database = pg.Pool;

/**
 * Connects, and brings the schema `gateway` up to date. Several gateways may start at once: an advisory lock lets one
 * of them migrate while the others wait.
 *
 * @throws {KiteError} `failed_precondition` when a newer version has written the schema; nothing was changed then.
 */
export async function openDatabase(databaseUrl: string, log: Logger): Promise<Database> {
  const pool = new pg.Pool({ connectionString: databaseUrl, ...LIMITS });
  // A connection that breaks while idle is replaced at the next query; without a listener it would end the process.
  pool.on("error", (error) => log.warn({ error: error.message }, "an idle connection to PostgreSQL broke"));
  // The pool listens to idle ones only. On one that is lent out, the query at work fails by itself.
  pool.on("connect", (client) => client.on("error", () => {}));
  try {
    await migrate(pool);
    return pool;
  } catch (cause) {
    await pool.end();
    if (cause instanceof KiteError) throw cause;
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new KiteError("unavailable", `the gateway's PostgreSQL cannot be used (${said}); check GATEWAY_DATABASE_URL`, { cause });
  }
}

const LIMITS = {
  // Two cores answer faster with few connections than with many; hooks queue for one for a moment at most.
  max: 10,
  connectionTimeoutMillis: 5_000,
  statement_timeout: 10_000,
  query_timeout: 15_000,
  application_name: "kite-mesh gateway",
} as const;

// Any number that no other schema of the mesh uses; it spells "gate".
const MIGRATION_LOCK = 0x67617465;

async function migrate(pool: Database): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("select pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    await client.query("create schema if not exists gateway");
    await client.query(
      "create table if not exists gateway.migrations (number int primary key, applied_at timestamptz not null default now())",
    );
    const { rows } = await client.query<{ last: number }>("select coalesce(max(number), 0)::int as last from gateway.migrations");
    const last = rows[0]?.last ?? 0;
    if (last > MIGRATIONS.length) throw writtenByNewer(last);
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < last) continue;
      await client.query(sql);
      await client.query("insert into gateway.migrations (number) values ($1)", [index + 1]);
    }
    await client.query("commit");
  } catch (cause) {
    await client.query("rollback").catch(() => undefined);
    throw cause;
  } finally {
    client.release();
  }
}

function writtenByNewer(last: number): KiteError {
  return new KiteError(
    "failed_precondition",
    `the gateway's schema is at migration ${last}, this version knows ${MIGRATIONS.length}; start the newer version again, or restore a backup`,
  );
}

/** In order; one that was released is never edited, the next one corrects it. */
const MIGRATIONS: readonly string[] = [
  `create table gateway.deliveries (
    id bigint generated always as identity primary key,
    instance text not null,
    webhook_id text not null,
    scope text not null,
    kind text not null,
    action text,
    subject text not null,
    order_key text collate "C" not null,
    body bytea not null,
    state text not null default 'pending' check (state in ('pending', 'done', 'dead')),
    tries int not null default 0,
    replays int not null default 0,
    last_error text,
    lease uuid,
    leased_until timestamptz,
    not_before timestamptz,
    received_at timestamptz not null default now(),
    finished_at timestamptz,
    unique (instance, webhook_id)
  );
  create index deliveries_pending on gateway.deliveries (order_key, id) where state = 'pending';
  create index deliveries_leased on gateway.deliveries (order_key, leased_until) where state = 'pending' and leased_until is not null;
  create index deliveries_waiting on gateway.deliveries (not_before) where state = 'pending' and not_before is not null;
  create index deliveries_dead on gateway.deliveries (id) where state = 'dead';
  create index deliveries_finished on gateway.deliveries (finished_at) where state = 'done';

  create table gateway.departed_people (
    issuer text not null,
    subject text not null,
    departed_at timestamptz not null default now(),
    primary key (issuer, subject)
  );

  create table gateway.sign_in_links (
    hash bytea primary key,
    username text not null,
    expires_at timestamptz not null,
    used_at timestamptz
  );
  create index sign_in_links_expiry on gateway.sign_in_links (expires_at);

  create table gateway.web_sessions (
    hash bytea primary key,
    username text not null,
    created_at timestamptz not null,
    expires_at timestamptz not null
  );
  create index web_sessions_username on gateway.web_sessions (username);
  create index web_sessions_expiry on gateway.web_sessions (expires_at);`,
];
