import { KiteError } from "@kite-mesh/kite";
import type { Delivery, DeliveryState } from "./contract.ts";
import type { Database } from "./database.ts";
import type { HookEvent } from "./events.ts";

/** What the ledger says to a delivery: it is kept, for the first time or already before. */
export interface Recorded {
  readonly id: string;
  readonly isNew: boolean;
}

/**
 * The durable list of deliveries. GitLab does not send again what failed, so a delivery counts as taken only once it is
 * here; and as GitLab may send twice what did arrive, each is here once, whoever sends it at the same moment.
 */
export async function recordDelivery(database: Database, event: HookEvent, body: Uint8Array): Promise<Recorded> {
  const { instance, webhookId, scope, kind, action, subject, orderKey } = event;
  const values = [
    instance,
    webhookId,
    scope,
    kind,
    action ?? null,
    subject,
    orderKey,
    Buffer.from(body.buffer, body.byteOffset, body.byteLength),
  ];
  const inserted = await database.query<{ id: string }>({ name: "record-delivery", text: RECORD, values });
  const id = inserted.rows[0]?.id;
  if (id !== undefined) return { id, isNew: true };
  const known = await database.query<{ id: string }>(KNOWN, [instance, webhookId]);
  const first = known.rows[0]?.id;
  if (first === undefined)
    throw new KiteError("unavailable", "the delivery was removed from the ledger while it arrived again; send it once more");
  return { id: first, isNew: false };
}

/** The newest first. */
export async function listDeliveries(
  database: Database,
  request: { state?: DeliveryState | undefined; limit?: number | undefined },
): Promise<Delivery[]> {
  const { rows } = await database.query<DeliveryRow>(LIST, [request.state ?? null, request.limit ?? DEFAULT_LIST]);
  return rows.map(toDelivery);
}

/**
 * Puts a dead or finished delivery back into the queue, with all its tries. One that is still pending stays as it is.
 *
 * @throws {KiteError} `not_found` for an id that the ledger does not have.
 */
export async function replayDelivery(database: Database, id: string): Promise<Delivery> {
  const replayed = /^\d{1,18}$/.test(id) ? await database.query<DeliveryRow>(REPLAY, [id]) : undefined;
  const row = replayed?.rows[0];
  if (row === undefined)
    throw new KiteError(
      "not_found",
      `the ledger has no delivery ${JSON.stringify(id.slice(0, 40))}; kite gitlab deliveries list shows those that there are`,
    );
  return toDelivery(row);
}

/** Forgets deliveries that were handled long ago; returns how many. Dead letters stay until someone has looked at them. */
export async function pruneDeliveries(database: Database): Promise<number> {
  return (await database.query(PRUNE, [KEEP_DAYS])).rowCount ?? 0;
}

const DEFAULT_LIST = 100;
// GitLab can resend for 7 days, and a delivery that was forgotten would count as new.
const KEEP_DAYS = 30;

const COLUMNS = "id, instance, webhook_id, kind, order_key, state, tries, last_error, received_at, finished_at";

const RECORD = `
  insert into gateway.deliveries (instance, webhook_id, scope, kind, action, subject, order_key, body)
  values ($1, $2, $3, $4, $5, $6, $7, $8)
  on conflict (instance, webhook_id) do nothing
  returning id`;

const KNOWN = "select id from gateway.deliveries where instance = $1 and webhook_id = $2";

const LIST = `select ${COLUMNS} from gateway.deliveries where $1::text is null or state = $1 order by id desc limit $2`;

const REPLAY = `
  update gateway.deliveries set
    tries = case state when 'pending' then tries else 0 end,
    replays = replays + case state when 'pending' then 0 else 1 end,
    not_before = case state when 'pending' then not_before end,
    finished_at = null,
    state = 'pending'
  where id = $1
  returning ${COLUMNS}`;

const PRUNE = `
  delete from gateway.deliveries where id in (
    select id from gateway.deliveries where state = 'done' and finished_at < now() - make_interval(days => $1) limit 1000
  )`;

interface DeliveryRow {
  id: string;
  instance: string;
  webhook_id: string;
  kind: string;
  order_key: string;
  state: DeliveryState;
  tries: number;
  last_error: string | null;
  received_at: Date;
  finished_at: Date | null;
}

function toDelivery(row: DeliveryRow): Delivery {
  return {
    id: row.id,
    instance: row.instance,
    webhookId: row.webhook_id,
    kind: row.kind,
    orderKey: row.order_key,
    state: row.state,
    tries: row.tries,
    lastError: row.last_error,
    receivedAt: row.received_at.toISOString(),
    finishedAt: row.finished_at?.toISOString() ?? null,
  };
}
