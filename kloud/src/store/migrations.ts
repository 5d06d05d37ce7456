import { KiteError } from "@kite-mesh/kite";
import type { ClientBase } from "pg";

/** Brings the schema `kloud` to this version of the code. Safe to run from several processes at once. */
export async function migrate(client: ClientBase): Promise<void> {
  await client.query(LOCK, [LOCK_KEY]);
  try {
    await client.query(PREPARE);
    const { rows } = await client.query<{ applied: number }>(APPLIED);
    const applied = rows[0]?.applied ?? 0;
    if (applied > MIGRATIONS.length) {
      throw new KiteError(
        "failed_precondition",
        `schema "kloud" is at migration ${applied}, this kloud knows ${MIGRATIONS.length}: it was written by a newer version; start that one, or use another database`,
      );
    }
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < applied) continue;
      await client.query("begin");
      await client.query(sql);
      await client.query(RECORD, [index + 1]);
      await client.query("commit");
    }
  } catch (thrown) {
    await client.query("rollback");
    throw thrown;
  } finally {
    await client.query(UNLOCK, [LOCK_KEY]);
  }
}

// Any number that no other service of the mesh uses for its own migrations: "klou" in ASCII.
const LOCK_KEY = 0x6b6c6f75;
const LOCK = "select pg_advisory_lock($1)";
const UNLOCK = "select pg_advisory_unlock($1)";
const PREPARE = `
  create schema if not exists kloud;
  create table if not exists kloud.migrations (number int primary key, applied_at timestamptz not null default now())`;
const APPLIED = "select coalesce(max(number), 0)::int as applied from kloud.migrations";
const RECORD = "insert into kloud.migrations (number) values ($1)";

/** In order, numbered from 1, never edited once released. */
const MIGRATIONS: readonly string[] = [
  `
  create table kloud.stacks     (id text primary key, version bigint not null, data jsonb not null);
  create table kloud.machines   (id text primary key, version bigint not null, data jsonb not null);
  create table kloud.operations (id text primary key, version bigint not null, data jsonb not null);
  create table kloud.resources  (id text primary key, version bigint not null, data jsonb not null);
  create table kloud.plans      (id text primary key, version bigint not null, data jsonb not null);

  create unique index stacks_owner_name on kloud.stacks ((data->>'owner'), (data->>'name'));
  create unique index machines_owner_label on kloud.machines ((data->>'owner'), (data->>'label'));
  create unique index resources_stack_address on kloud.resources ((data->>'stackId'), (data->>'address'));

  create index machines_stack on kloud.machines ((data->>'stackId'));
  create index operations_owner on kloud.operations ((data->>'owner'));
  create index operations_stack on kloud.operations ((data->>'stackId'));
  create index operations_open on kloud.operations ((data->>'open')) where data->>'open' = 'true';
  create index plans_owner on kloud.plans ((data->>'owner'));
  `,
];
