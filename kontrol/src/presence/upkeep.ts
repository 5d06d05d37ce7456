import type { Logger } from "@kite-mesh/kite";
import type { Pool } from "pg";
import type { Log } from "../database/log.ts";
import { Outage } from "../database/outage.ts";
import type { Directory } from "../directory/directory.ts";
import type { Follower } from "../directory/follower.ts";
import { expireGrants } from "../people/grants.ts";
import type { Leases } from "./leases.ts";
import { type Replicas, silenceOf } from "./replicas.ts";
import type { NewLease } from "./standing.ts";

export interface UpkeepOptions {
  readonly pool: Pool;
  readonly directory: Directory;
  readonly follower: Follower;
  readonly leases: Leases;
  /** Whether a kite was told to come back later than others. Default: none was. */
  readonly isExpected?: ((id: string) => boolean) | undefined;
  readonly log: Log;
  readonly replicas: Replicas;
  /** Where the other replicas reach this one. */
  readonly replicaUrl: string;
  /** This process, as the `holder` of its leases. */
  readonly holder: string;
  /** kontrol's own entry, which whoever of its processes lives keeps in the directory. Default: it has none. */
  readonly self?: NewLease | undefined;
  readonly heartbeatMs: number;
  readonly logger: Logger;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

// setTimeout ends at 24.8 days; a look every hour costs nothing.
const LONGEST_WAIT_MS = 60 * 60_000;
const TIDY_MS = 60 * 60_000;
// A beat that comes later than this had something in its way, and that of another kontrol may still have it.
const LATE_BEATS = 1.5;

/**
 * What has to happen from time to time: this process says that it lives, takes out the kites of processes that do not,
 * ends grants whose time has come, and forgets what nobody asks for any more.
 */
export class Upkeep {
  readonly #options: UpkeepOptions;
  /** Since when the beats of all kontrols can be trusted. */
  #trustedMs = performance.now();
  #lastBeatMs = performance.now();
  /** One waits for its turn; while the database is away a second one would say nothing more. */
  #beatWaits = false;
  readonly #stopListening: () => void;
  readonly #beating: NodeJS.Timeout;
  readonly #tidying: NodeJS.Timeout;
  #expiring: NodeJS.Timeout | undefined;
  #work: Promise<void> = Promise.resolve();
  #closed = false;
  readonly #outage: Outage;

  private constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#outage = new Outage(options.logger);
    this.#beating = setInterval(() => this.#beatInTurn(), options.heartbeatMs);
    this.#tidying = setInterval(() => this.#do(() => tidy(options.pool)), TIDY_MS);
    this.#stopListening = options.directory.listen((applied) => {
      const granted = applied === "reset" || applied.change.kind === "grant.added" || applied.change.kind === "team-grant.added";
      if (granted) this.#scheduleExpiry();
    });
  }

  static async start(options: UpkeepOptions): Promise<Upkeep> {
    await options.replicas.beat(options.replicaUrl);
    if (options.self !== undefined) await options.leases.enter(options.self);
    const upkeep = new Upkeep(options);
    upkeep.#do(() => tidy(options.pool));
    upkeep.#scheduleExpiry();
    return upkeep;
  }

  /** For how long this process could not write that it lives. */
  get silentMs(): number {
    return performance.now() - this.#lastBeatMs;
  }

  /** Stops, and says that this process is gone: its kites have two beats to register elsewhere. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stopListening();
    clearInterval(this.#beating);
    clearInterval(this.#tidying);
    clearTimeout(this.#expiring);
    await this.#work;
    await this.#options.replicas.leave();
  }

  /** One after the other; what fails is tried again when its time comes. */
  #do(work: () => Promise<void>): void {
    this.#work = this.#work
      .then(() => (this.#closed ? undefined : work()))
      .then(() => this.#outage.over("kontrol's upkeep works again"))
      .catch((cause: unknown) => this.#outage.failed(cause, "kontrol's upkeep failed; it is tried again"));
  }

  #beatInTurn(): void {
    if (this.#beatWaits) return;
    this.#beatWaits = true;
    this.#do(() => {
      this.#beatWaits = false;
      return this.#beat();
    });
  }

  async #beat(): Promise<void> {
    const { pool, holder, heartbeatMs, follower, leases, replicas, replicaUrl, self, isExpected = () => false } = this.#options;
    // Finds a LISTEN connection that is dead without knowing it.
    const [, revision] = await Promise.all([follower.check(), replicas.beat(replicaUrl)]);
    follower.expect(revision ?? 0);
    const [now, lastMs] = [performance.now(), this.#lastBeatMs];
    this.#lastBeatMs = now;
    // While the database was away nobody's beat was written: those who live get the time to say so.
    if (now - lastMs > heartbeatMs * LATE_BEATS) this.#trustedMs = now;
    const trustedForMs = now - this.#trustedMs;
    const orphans = await pool.query<{ id: string; generation: number }>(ORPHANS, [holder, heartbeatMs, trustedForMs]);
    for (const orphan of orphans.rows.filter(({ id }) => !isExpected(id))) {
      if (self !== undefined && orphan.id === self.kite.id) await leases.enter(self);
      else leases.leave({ ...orphan, reason: "its kontrol stopped, and it did not come back" });
    }
  }

  #scheduleExpiry(): void {
    if (this.#closed) return;
    const { directory, now } = this.#options;
    let next = Number.POSITIVE_INFINITY;
    for (const { expiresAt } of directory.grants()) next = Math.min(next, expiresAt ?? Number.POSITIVE_INFINITY);
    clearTimeout(this.#expiring);
    this.#expiring = setTimeout(() => this.#do(() => this.#expire()), Math.min(Math.max(next - now(), 0), LONGEST_WAIT_MS));
    this.#expiring.unref();
  }

  async #expire(): Promise<void> {
    const { log, now, follower } = this.#options;
    try {
      const { revision } = await expireGrants(log, now);
      await follower.reached(revision);
    } finally {
      this.#scheduleExpiry();
    }
  }
}

// After two beats a kite that lives has registered at the kontrol that took over; nobody else holds its lease. One that said nothing
// at its end may have ended a beat after its last one. If it stands still with its connections open, its kites notice with
// their next beat, and have looked for another kontrol three quarters of a beat later.
const GRACE = silenceOf("r", "$2::integer");
const UNSAID = silenceOf("r", "$2::integer", 3);
const ORPHANS = `
  select k.id, k.generation::float8 as generation from kontrol.kites k left join kontrol.replicas r on r.id = k.holder
   where k.gone_at is null and k.holder <> $1
     and coalesce(r.beat_at <= now() - case when r.url is null then ${GRACE} else ${UNSAID} end, true)
     and $3::float8 * interval '1 millisecond' >= ${GRACE}`;

// A week: long enough to ask on Monday why a kite left on Friday, and for a replica that was away.
const TIDY = [
  "delete from kontrol.kites where gone_at < now() - interval '7 days'",
  "delete from kontrol.revocations where at < now() - interval '1 day'",
  "delete from kontrol.replicas where beat_at < now() - interval '1 day'",
];

// In bites that a statement has the time for, however long nobody has tidied.
const TIDY_LOG = `
  delete from kontrol.log where revision in
   (select revision from kontrol.log where at < now() - interval '7 days' order by revision limit $1)`;
const TIDY_BITE = 20_000;

async function tidy(pool: Pool): Promise<void> {
  while (((await pool.query(TIDY_LOG, [TIDY_BITE])).rowCount ?? 0) === TIDY_BITE);
  for (const statement of TIDY) await pool.query(statement);
}
