import { setTimeout as delay } from "node:timers/promises";
import { KiteError, type Labels, type Logger } from "@kite-mesh/kite";
import type { Derived, Log, LogTransaction } from "../database/log.ts";
import { Outage } from "../database/outage.ts";
import { type KiteRecord, RECORD } from "../database/record.ts";
import { type NewLease, type Present, refusal, replacedBy, standingOf, taken } from "./standing.ts";

export interface LeavingLease {
  readonly id: string;
  readonly generation: number;
  readonly reason: string;
}

export interface LabelledLease {
  readonly id: string;
  readonly generation: number;
  readonly labels: Labels;
}

// One transaction with 500 registrations takes about as long as five with one: most of it is the wait for the disk.
const BATCH = 500;
// 20,000 registrations wait a few seconds at most; more at a time is an attack or a mistake.
const QUEUE = 20_000;
const RETRY_MS = 250;

type Work =
  | { readonly kind: "enter"; readonly id: string; readonly lease: NewLease; settle(outcome: KiteRecord | Error): void }
  | { readonly kind: "label"; readonly id: string; readonly labelled: LabelledLease; settle(outcome: Error | undefined): void }
  | { readonly kind: "leave"; readonly id: string; readonly leaving: LeavingLease };

/**
 * Writes leases to the table and the log. What arrives while a transaction is under way goes into the next one together,
 * which is how thousands of kites register in a second although writers of the log stand in one line.
 */
export class Leases {
  readonly #log: Log;
  readonly #present: Present;
  readonly #outage: Outage;
  readonly #onWritten: (revision: number) => Promise<void>;
  readonly #closing = new AbortController();
  #queue: Work[] = [];
  #busy = false;
  #written: Promise<void> = Promise.resolve();

  /** `present` is the directory. `onWritten` settles when that has what was written; registrants are answered after it. */
  constructor(options: { log: Log; present: Present; logger: Logger; onWritten: (revision: number) => Promise<void> }) {
    this.#log = options.log;
    this.#present = options.present;
    this.#outage = new Outage(options.logger);
    this.#onWritten = options.onWritten;
  }

  /** How much waits to be written. */
  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * Enters a kite, in place of its own earlier lease.
   *
   * @throws {KiteError} `already_exists` when a kite of somebody else has that id, `overloaded`, `unavailable`.
   */
  enter(lease: NewLease): Promise<KiteRecord> {
    if (this.#queue.length >= QUEUE)
      return Promise.reject(new KiteError("overloaded", `${QUEUE} registrations wait already; try again in a moment`));
    return new Promise((resolve, reject) => {
      this.#add({
        kind: "enter",
        id: lease.kite.id,
        lease,
        settle: (outcome) => (outcome instanceof Error ? reject(outcome) : resolve(outcome)),
      });
    });
  }

  /**
   * Gives exactly this generation other labels.
   *
   * @throws {KiteError} `disconnected` when it has ended, `overloaded`, `unavailable`.
   */
  label(labelled: LabelledLease): Promise<void> {
    if (this.#queue.length >= QUEUE)
      return Promise.reject(new KiteError("overloaded", `${QUEUE} registrations wait already; try again in a moment`));
    return new Promise((resolve, reject) => {
      this.#add({ kind: "label", id: labelled.id, labelled, settle: (outcome) => (outcome === undefined ? resolve() : reject(outcome)) });
    });
  }

  /** Removes exactly this generation; a later one stays. Tried until it is written: a kite that is gone must not be found. */
  leave(leaving: LeavingLease): void {
    this.#add({ kind: "leave", id: leaving.id, leaving });
  }

  /** Writes what is queued, and stops. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#written;
  }

  #add(work: Work): void {
    this.#queue.push(work);
    if (!this.#busy) this.#written = this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    this.#busy = true;
    // What arrives in the same tick belongs together.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#nextBatch();
      try {
        await this.#write(batch);
        this.#outage.over("leases are written again");
      } catch (cause) {
        const error = KiteError.from(cause, "unavailable");
        for (const work of batch) if (work.kind !== "leave") work.settle(error);
        const leaving = batch.filter(({ kind }) => kind === "leave");
        if (this.#closing.signal.aborted) {
          this.#giveUp(error);
          break;
        }
        this.#outage.failed(error, "leases could not be written; trying again", { leaving: leaving.length });
        this.#queue.unshift(...leaving);
        await delay(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
      }
    }
    this.#busy = false;
  }

  /** The longest piece of the queue in which no kite occurs twice: words about the same kite keep their order. */
  #nextBatch(): Work[] {
    const seen = new Set<string>();
    let length = 0;
    for (const { id } of this.#queue) {
      if (length === BATCH || seen.has(id)) break;
      seen.add(id);
      length++;
    }
    return this.#queue.splice(0, length);
  }

  async #write(batch: readonly Work[]): Promise<void> {
    const entering = batch.filter((work) => work.kind === "enter");
    const leaving = batch.filter((work) => work.kind === "leave").map((work) => work.leaving);
    const labelling = batch.filter((work) => work.kind === "label");
    const { result, revision } = await this.#log.write(async (tx) => {
      await removeLeases(tx, leaving);
      const labelled = await labelLeases(
        tx,
        labelling.map((work) => work.labelled),
      );
      const entered = await addLeases(
        tx,
        entering.map(({ lease }) => lease),
        this.#present,
      );
      return { labelled, entered };
    });
    const { labelled, entered } = result;
    const settle = () => {
      for (const { id, settle } of labelling) settle(labelled.has(id) ? undefined : ended());
      for (const { id, settle } of entering) settle(entered.get(id) ?? taken(id));
    };
    // Not awaited: the next batch can be written while the directory takes this one.
    void this.#onWritten(revision).then(settle, (cause: unknown) => {
      for (const { settle } of [...entering, ...labelling]) settle(KiteError.from(cause));
    });
  }

  #giveUp(error: KiteError): void {
    for (const work of this.#queue.splice(0)) if (work.kind !== "leave") work.settle(error);
  }
}

const ENTERED: Derived = {
  name: "entered",
  text: `
    insert into kontrol.kites (id, username, environment, name, version, region, hostname, url, visibility, labels, jti, kid, generation, holder,
           registered_at, instance, instance_at)
    select id, username, environment, name, version, region, hostname, url, visibility, labels, jti, kid, revision, holder,
           to_timestamp("registeredAt" / 1000), instance, revision
      from added,
           jsonb_to_record(data -> 'record') as lease (kite jsonb, url text, visibility text, labels jsonb, jti uuid, kid text, holder uuid,
             "registeredAt" float8, instance text),
           jsonb_to_record(lease.kite) as identity (id text, username text, environment text, name text, version text, region text, hostname text)
     where kind = 'kite.registered'
    on conflict (id) do update set
      username = excluded.username, environment = excluded.environment, name = excluded.name, version = excluded.version,
      region = excluded.region, hostname = excluded.hostname, url = excluded.url, visibility = excluded.visibility, labels = excluded.labels,
      jti = excluded.jti, kid = excluded.kid, generation = excluded.generation, holder = excluded.holder, registered_at = excluded.registered_at,
      instance = excluded.instance, instance_at = excluded.instance_at, gone_at = null, gone_reason = null`,
};

/** Answers for each id with what was entered, or why it was not. The log's lock makes the look before safe. */
async function addLeases(tx: LogTransaction, leases: readonly NewLease[], present: Present): Promise<Map<string, KiteRecord | KiteError>> {
  const outcomes = new Map<string, KiteRecord | KiteError>();
  if (leases.length === 0) return outcomes;
  const standing = await standingOf(leases, tx, present);
  for (const lease of leases) {
    const { id } = lease.kite;
    const before = standing(id);
    const refused = before && refusal(lease, before);
    if (refused !== undefined) {
      outcomes.set(id, refused);
      continue;
    }
    const { machine: _, known: __, again: ___, ...entered } = lease;
    // The log gives the generation, and the log contains it: first the place, then the record in it.
    const record: { -readonly [K in keyof KiteRecord]: KiteRecord[K] } = { ...entered, generation: 0 };
    const replaced = before === undefined || before.gone ? null : replacedBy(record, before);
    record.generation = tx.append({ kind: "kite.registered", record, before: replaced });
    outcomes.set(id, record);
  }
  tx.derive(ENTERED);
  return outcomes;
}

const LEAVE = `
  update kontrol.kites k set gone_at = now(), gone_reason = leaving.reason
    from jsonb_to_recordset($1) as leaving (id text, generation bigint, reason text)
   where k.id = leaving.id and k.generation = leaving.generation and k.gone_at is null
  returning ${RECORD}, k.gone_reason as reason`;

async function removeLeases(tx: LogTransaction, leaving: readonly LeavingLease[]): Promise<void> {
  if (leaving.length === 0) return;
  const { rows } = await tx.query<KiteRecord & { reason: string }>(LEAVE, [JSON.stringify(leaving)]);
  for (const { reason, ...before } of rows) {
    tx.append({ kind: "kite.gone", id: before.kite.id, generation: before.generation, reason, before });
  }
}

const LABEL = `
  update kontrol.kites k set labels = labelled.labels
    from jsonb_to_recordset($1) as labelled (id text, generation bigint, labels jsonb) join kontrol.kites was using (id)
   where k.id = labelled.id and k.generation = labelled.generation and k.gone_at is null
  returning k.id, k.generation::float8 as generation, k.labels, was.labels as before`;

/** Answers with the ids of those that are still there. */
async function labelLeases(tx: LogTransaction, labelled: readonly LabelledLease[]): Promise<Set<string>> {
  if (labelled.length === 0) return new Set();
  const { rows } = await tx.query<LabelledLease & { before: Labels }>(LABEL, [JSON.stringify(labelled)]);
  for (const row of rows) tx.append({ kind: "kite.labelled", ...row });
  return new Set(rows.map(({ id }) => id));
}

function ended(): KiteError {
  return new KiteError("disconnected", "the registration has ended, and its labels with it; register again");
}
