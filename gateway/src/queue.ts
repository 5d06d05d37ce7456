import type { Database } from "./database.ts";

/** A delivery that this gateway alone may handle, until its lease runs out. */
export interface Leased {
  readonly id: string;
  /** Proof of the lease: who comes back with another one has lost it, and changes nothing. */
  readonly lease: string;
  readonly instance: string;
  readonly webhookId: string;
  readonly scope: string;
  readonly kind: string;
  readonly action: string | null;
  readonly subject: string;
  readonly orderKey: string;
  readonly body: Buffer;
  /** 1 for the first try. */
  readonly tries: number;
  readonly replays: number;
  readonly receivedAt: Date;
}

/** What may be worked on now, and how long until something else becomes due: a retry, or the lease of a gateway that died. */
export interface Taken {
  readonly deliveries: Leased[];
  /** Where the next look goes on, so that every object has its turn. */
  readonly cursor: string;
  readonly nextInMs: number | undefined;
}

/**
 * Takes the oldest delivery of each object that has none in hand, from the object after `cursor` on and around, so that
 * every object has its turn however long the list of another is. Taking is serialised over all gateways: two that look
 * at the same moment, while an older delivery is just being committed, could otherwise handle one object side by side.
 */
export async function takeDeliveries(database: Database, request: { limit: number; leaseMs: number; cursor?: string }): Promise<Taken> {
  const { limit, leaseMs, cursor = "" } = request;
  const client = await database.connect();
  try {
    await client.query(BEGIN_TAKING);
    const behind = await client.query<LeasedRow>(TAKE, [limit, leaseMs, cursor]);
    const around =
      behind.rows.length < limit && cursor !== ""
        ? await client.query<LeasedRow>(TAKE, [limit - behind.rows.length, leaseMs, ""])
        : undefined;
    const deliveries = [...behind.rows, ...(around?.rows ?? [])].map(toLeased);
    const last = (around ?? behind).rows
      .map((row) => row.order_key)
      .sort()
      .at(-1);
    // In the same transaction, whose now() stands still: nothing becomes due unseen between the two.
    const due = deliveries.length < limit ? await client.query<{ ms: number | null }>(DUE) : undefined;
    await client.query("commit");
    return { deliveries, cursor: last ?? "", nextInMs: waitOf(due?.rows[0]?.ms) };
  } catch (cause) {
    await client.query("rollback").catch(() => undefined);
    throw cause;
  } finally {
    client.release();
  }
}

/**
 * Marks a delivery done and goes on with the next of the same object, in one step: nobody gets in between. Without
 * `leaseMs` it takes no next one.
 */
export async function finishDelivery(database: Database, done: Leased, leaseMs: number | undefined): Promise<Leased | undefined> {
  const { rows } = await database.query<LeasedRow>(FINISH, [done.id, done.lease, leaseMs ?? null]);
  return rows.map(toLeased)[0];
}

/** Gives a delivery back: to be tried again after a while, or, with `retryInMs` undefined, as a dead letter. */
export async function failDelivery(database: Database, failed: Leased, reason: string, retryInMs: number | undefined): Promise<void> {
  await database.query(FAIL, [failed.id, failed.lease, reason, retryInMs ?? null]);
}

/** Keeps the leases of what is still being handled. */
export async function renewLeases(database: Database, leases: readonly string[], leaseMs: number): Promise<void> {
  await database.query(RENEW, [leases, leaseMs]);
}

// Any number that no other lock of the mesh uses; it spells "take".
const TAKE_LOCK = 0x74616b65;

// Different from every other lease of the same delivery is all that it has to be. PostgreSQL 12 has no gen_random_uuid().
const NEW_LEASE = "md5(random()::text || clock_timestamp())::uuid";

const COLUMNS = "id, lease, instance, webhook_id, scope, kind, action, subject, order_key, body, tries, replays, received_at";

// One round trip less than with a parameter; the number is ours.
const BEGIN_TAKING = `begin; select pg_advisory_xact_lock(${TAKE_LOCK})`;

// Jumps through the index from object to object and stops when it has enough: neither a long list about one object nor
// many objects make it slow. The first of an object is it, also while it waits for its next try: the later ones wait too.
// Not prepared by name, here and below: a plan made for an empty table would stay when there are a million.
const TAKE = `
  with recursive heads as (
    (select id, order_key, not_before, leased_until from gateway.deliveries
      where state = 'pending' and order_key > $3 order by order_key, id limit 1)
    union all
    select next.* from heads cross join lateral (
      select d.id, d.order_key, d.not_before, d.leased_until from gateway.deliveries d
      where d.state = 'pending' and d.order_key > heads.order_key order by d.order_key, d.id limit 1
    ) next
  ), free as (
    select id from heads
    where (not_before is null or not_before <= now()) and (leased_until is null or leased_until < now())
      and not exists (
        select from gateway.deliveries e where e.state = 'pending' and e.order_key = heads.order_key and e.leased_until >= now()
      )
    limit $1
  )
  update gateway.deliveries set lease = ${NEW_LEASE}, leased_until = now() + $2 * interval '1 ms', tries = tries + 1
  where id in (select id from free) and state = 'pending'
  returning ${COLUMNS}`;

// Between equal bounds instead of equal to: so that the order is the index's, and not the whole table's by id.
const FINISH = `
  with finished as (
    update gateway.deliveries
    set state = 'done', finished_at = now(), lease = null, leased_until = null, last_error = null
    where id = $1 and lease = $2 and state = 'pending'
    returning order_key
  )
  update gateway.deliveries set lease = ${NEW_LEASE}, leased_until = now() + $3::float8 * interval '1 ms', tries = tries + 1
  where id = (
      select next.id from finished cross join lateral (
        select e.id from gateway.deliveries e
        where e.state = 'pending' and e.order_key between finished.order_key and finished.order_key and e.id <> $1
        order by e.order_key, e.id limit 1
      ) next
      where $3::float8 is not null
    )
    and (not_before is null or not_before <= now()) and (leased_until is null or leased_until < now())
  returning ${COLUMNS}`;

const FAIL = `
  update gateway.deliveries set
    lease = null, leased_until = null, last_error = $3,
    state = case when $4::float8 is null then 'dead' else 'pending' end,
    finished_at = case when $4::float8 is null then now() end,
    not_before = now() + $4::float8 * interval '1 ms'
  where id = $1 and lease = $2 and state = 'pending'`;

const RENEW =
  "update gateway.deliveries set leased_until = now() + $2 * interval '1 ms' where lease = any($1::uuid[]) and state = 'pending'";

// Null when nothing waits, so no greatest() here: that ignores a null, and an idle gateway would look again at once, for ever.
const DUE = `
  select (1000 * extract(epoch from least(
    (select min(not_before) from gateway.deliveries where state = 'pending' and not_before is not null and not_before > now()),
    (select min(leased_until) from gateway.deliveries where state = 'pending' and leased_until is not null and leased_until > now())
  ) - clock_timestamp()))::float8 as ms`;

interface LeasedRow {
  id: string;
  lease: string;
  instance: string;
  webhook_id: string;
  scope: string;
  kind: string;
  action: string | null;
  subject: string;
  order_key: string;
  body: Buffer;
  tries: number;
  replays: number;
  received_at: Date;
}

/** What became due since the transaction began is due now. */
function waitOf(ms: number | null | undefined): number | undefined {
  return typeof ms === "number" ? Math.max(0, ms) : undefined;
}

function toLeased({ webhook_id, order_key, received_at, ...rest }: LeasedRow): Leased {
  return { ...rest, webhookId: webhook_id, orderKey: order_key, receivedAt: received_at };
}
