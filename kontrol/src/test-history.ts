import { randomUUID } from "node:crypto";
import { KiteError, type Query } from "@kite-mesh/kite";
import pg from "pg";
import { vi } from "vitest";
import { openDatabase } from "./database/database.ts";
import { Log } from "./database/log.ts";
import { Directory } from "./directory/directory.ts";
import { Follower } from "./directory/follower.ts";
import { Watchers } from "./directory/watch.ts";
import { addGrant, removeGrant } from "./people/grants.ts";
import { ensureAccount } from "./people/people.ts";
import { Leases } from "./presence/leases.ts";
import { Replicas } from "./presence/replicas.ts";
import { Upkeep } from "./presence/upkeep.ts";
import { type LogEntry, lineOf, type Told, VERSIONS } from "./test-history-model.ts";
import { silent } from "./testing.ts";

const ALICE = { username: "alice", admin: false };

// Several kontrols on one database, at random and from one seed: kites register, change their labels and leave, grants come
// and go, connections to the database are killed, kontrols are killed, the log is cut, watchers read slowly and go on elsewhere.

const REPLICAS = 3;
const IDS = 40;
const PEOPLE = ["alice", "bob", "carol"] as const;
// The kites of a killed kontrol leave after three of these.
const HEARTBEAT_MS = 400;
const SETTLE_LIMIT_MS = 60_000;
const QUERIES: readonly Query[] = [
  {},
  { name: "math" },
  { id: "kite-7" },
  { username: "alice", region: "eu" },
  { version: "^1" },
  { name: "math", version: "~> 1.4, != 1.4.3" },
  { version: "^1.2", labels: ["load<0.7"] },
  { name: "disk", labels: ["gpu=true", "load>=0.5"] },
  { region: "us", version: ">= 1.4, < 2.0", labels: ["!gpu"] },
];
const GRANTED: readonly Query[] = [{}, { name: "math" }, { version: "~> 1.4, != 1.4.3" }, { region: "eu", version: "^1.2" }];

interface Replica {
  readonly holder: string;
  readonly directory: Directory;
  readonly follower: Follower;
  readonly leases: Leases;
  readonly log: Log;
  readonly watchers: Watchers;
  /** What it was told should leave, and may not have written. */
  readonly leaving: Set<string>;
  close(): Promise<void>;
  /** As with -9: whatever it has not written is lost, and nobody is told. */
  kill(): Promise<void>;
}

interface Watch extends Told {
  readonly lines: ReturnType<typeof lineOf>[];
  replica: Replica;
  events: AsyncIterator<Parameters<typeof lineOf>[0]>;
  reading: Promise<IteratorResult<Parameters<typeof lineOf>[0]>> | undefined;
}

/** What a run was like: it is worth something when all of it happened. */
export interface Roughness {
  connections: number;
  replicas: number;
  cuts: number;
  snapshots: number;
  changes: number;
}

/** A world to be run, settled and asked. Whoever opened it closes it. */
export class World implements AsyncDisposable {
  readonly roughness: Roughness = { connections: 0, replicas: 0, cuts: 0, snapshots: 0, changes: 0 };
  readonly watches: Watch[] = [];
  /** The registrations that were told to leave, by a kontrol that lived to write it. */
  readonly left = new Set<string>();
  readonly #databaseUrl: string;
  readonly #admin: pg.Client;
  readonly #random: () => number;
  readonly #generations = new Map<string, number>();
  readonly #underway = new Set<Promise<unknown>>();
  readonly #grants: string[] = [];
  readonly #dead: string[] = [];
  readonly #replicas: Replica[] = [];

  private constructor(databaseUrl: string, admin: pg.Client, seed: number) {
    this.#databaseUrl = databaseUrl;
    this.#admin = admin;
    this.#random = seeded(seed);
  }

  static async open(databaseUrl: string, seed: number): Promise<World> {
    const admin = new pg.Client({ connectionString: databaseUrl, application_name: "test" });
    await admin.connect();
    const world = new World(databaseUrl, admin, seed);
    for (let index = 0; index < REPLICAS; index++) world.#replicas.push(await openReplica(databaseUrl));
    const [first] = world.#replicas as [Replica];
    for (const username of PEOPLE) await ensureAccount(first.log, { username, kind: "person", admin: false });
    await admin.query("create table cut (like kontrol.log)");
    for (const query of QUERIES)
      for (const username of PEOPLE) {
        const replica = world.#pick(world.#replicas);
        const request = { query, username };
        world.watches.push({ ...request, lines: [], replica, events: watchAt(replica, request), reading: undefined });
      }
    return world;
  }

  get directories(): Directory[] {
    return this.#replicas.map(({ directory }) => directory);
  }

  get deadHolders(): readonly string[] {
    return this.#dead;
  }

  async act(step: number): Promise<void> {
    const id = `kite-${Math.floor(this.#random() * IDS)}`;
    const replica = this.#pick(this.#replicas);
    const dice = this.#random();
    if (dice < 0.38) this.#follow(this.#register(replica, id, step));
    else if (dice < 0.6) this.#follow(this.#relabel(replica, id));
    else if (dice < 0.78) this.#leave(replica, id);
    else if (dice < 0.81) this.#follow(this.#grant(replica));
    else if (dice < 0.94) await this.#read(this.#pick(this.watches));
    else if (dice < 0.98) await this.#moveOn(this.#pick(this.watches));
    else if (dice < 0.994) await this.#killConnections(this.#pick(["kontrol", "kontrol follower"]));
    else if (dice < 0.998) await this.#cutLog();
    else await this.#killReplica(replica);
    // Some of it together, so that it is written in batches, and all of it soon.
    if (this.#underway.size >= 24) await Promise.all(this.#underway);
  }

  /** Half of the kites leave and nobody takes their places, while the connections that should write it are killed. */
  async leaveInTrouble(): Promise<void> {
    await Promise.all(this.#underway);
    for (let index = 0; index < IDS; index += 2) {
      this.#leave(this.#pick(this.#replicas), `kite-${index}`, { late: false });
      // A round trip later the transaction is under way.
      await this.#killConnections("kontrol");
    }
  }

  /** Until everything is written, the kites of the killed are gone, all kontrols have it, and every watcher has read it. */
  async settle(): Promise<void> {
    await Promise.all(this.#underway);
    await vi.waitFor(
      async () => {
        // Those that leave are retried until they are written; this comes behind them in the queue.
        for (const { leases } of this.#replicas) await leases.label({ id: "nobody", generation: 0, labels: {} }).catch(ended);
        const { rows: orphans } = await this.#admin.query(ORPHANS, [this.#dead]);
        if (orphans.length > 0) throw new Error(`${orphans.length} kites of killed kontrols are still there`);
        const head = (await this.#admin.query<{ revision: number }>(HEAD)).rows[0]?.revision;
        for (const { directory } of this.#replicas)
          if (directory.revision !== head) throw new Error(`a directory is at ${directory.revision}, and the log at ${head}`);
      },
      { timeout: SETTLE_LIMIT_MS, interval: 50 },
    );
    for (const watch of this.watches) await this.#read(watch);
  }

  /** All of the log, what was cut off included. */
  async log(): Promise<LogEntry[]> {
    const { rows } = await this.#admin.query<{ revision: number; kind: string; data: object }>(LOG);
    return rows.map(({ revision, kind, data }) => ({ revision, change: { kind, ...data } as LogEntry["change"] }));
  }

  /** The kites in the table, as `id generation`. */
  async stored(): Promise<string[]> {
    const { rows } = await this.#admin.query<{ lease: string }>(STORED);
    return rows.map(({ lease }) => lease).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { events } of this.watches) await events.return?.();
    for (const replica of this.#replicas) await replica.close();
    await this.#admin.end();
  }

  async #register({ holder, leases }: Replica, id: string, step: number): Promise<void> {
    const [name, version, region] = [this.#pick(["math", "disk"]), this.#pick(VERSIONS), this.#pick(["eu", "us"])];
    const kite = { username: "alice", environment: "e", name, version, region, hostname: "h", id };
    const visibility = this.#pick(["private", "private", "mesh"] as const);
    const url = `http://10.0.0.1:${step}`;
    const { generation } = await leases.enter({ kite, url, visibility, labels: this.#labels(), jti: null, holder, registeredAt: step });
    this.#generations.set(id, Math.max(generation, this.#generations.get(id) ?? 0));
  }

  async #relabel({ leases }: Replica, id: string): Promise<void> {
    // Now and then by somebody who has not heard of a newer registration.
    const generation = (this.#generations.get(id) ?? 0) - (this.#random() < 0.2 ? 1 : 0);
    await leases.label({ id, generation, labels: this.#labels() });
  }

  #leave({ leases, leaving }: Replica, id: string, { late = this.#random() < 0.2 } = {}): void {
    const generation = (this.#generations.get(id) ?? 0) - (late ? 1 : 0);
    this.left.add(`${id} ${generation}`);
    leaving.add(`${id} ${generation}`);
    leases.leave({ id, generation, reason: "it left" });
  }

  async #grant({ log }: Replica): Promise<void> {
    // Drawn in any case: how many were written by now is chance, and what comes after must not depend on it.
    const role = this.#pick(["viewer", "operator", "owner"] as const);
    const given = { username: this.#pick(["bob", "carol"]), role, query: this.#pick(GRANTED) };
    if (this.#grants.length > 4) {
      const id = this.#grants.shift() ?? "";
      await removeGrant(log, id, ALICE, () => 0);
      return;
    }
    const { result } = await addGrant(log, ALICE, given);
    this.#grants.push(result.id);
  }

  /** Reads what is there. A watch that has nothing to tell does not answer within a turn of the event loop. */
  async #read(watch: Watch): Promise<void> {
    for (;;) {
      watch.reading ??= watch.events.next();
      const turn = new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
      const result = await Promise.race([watch.reading, turn]);
      if (result === undefined) return;
      watch.reading = undefined;
      const line = lineOf(result.value);
      watch.lines.push(line);
      this.roughness[line.type === "snapshot" ? "snapshots" : "changes"]++;
    }
  }

  /** Ends the watch, and goes on after what it has seen, at the same kontrol or another one. */
  async #moveOn(watch: Watch): Promise<void> {
    if (this.#replicas.includes(watch.replica)) await this.#read(watch);
    await watch.events.return?.();
    watch.reading = undefined;
    watch.replica = this.#pick(this.#replicas);
    const since = watch.lines.at(-1)?.revision;
    watch.events = watchAt(watch.replica, watch, since === undefined ? undefined : String(since));
  }

  /** The connections that follow the log, or some of those that write it, in the middle of whatever they do. */
  async #killConnections(name: string): Promise<void> {
    const { rowCount } = await this.#admin.query(KILL, [name, 1 + Math.floor(this.#random() * 3)]);
    this.roughness.connections += rowCount ?? 0;
  }

  /** As a week later: nobody who was away goes on by revision. Followers that are cut off now find nothing to go on from. */
  async #cutLog(): Promise<void> {
    await this.#killConnections("kontrol follower");
    await this.#admin.query(CUT);
    this.roughness.cuts++;
  }

  /** One kontrol ends in the middle of its writes, and another takes its place. Its watchers go on elsewhere. */
  async #killReplica(replica: Replica): Promise<void> {
    for (const watch of this.watches) if (watch.replica === replica) await this.#read(watch);
    await replica.kill();
    for (const lease of replica.leaving) this.left.delete(lease);
    this.#dead.push(replica.holder);
    this.#replicas[this.#replicas.indexOf(replica)] = await openReplica(this.#databaseUrl);
    for (const watch of this.watches) if (watch.replica === replica) await this.#moveOn(watch);
    this.roughness.replicas++;
  }

  #labels(): Record<string, string> {
    const gpu = this.#pick([undefined, "true", "false"]);
    return { load: this.#random().toFixed(2), zone: this.#pick(["a", "b"]), ...(gpu === undefined ? {} : { gpu }) };
  }

  /** What fails because something was killed is not what is looked at here. */
  #follow(work: Promise<unknown>): void {
    const tracked = work.catch(() => {}).finally(() => this.#underway.delete(tracked));
    this.#underway.add(tracked);
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }
}

const HEAD = "select revision::float8 as revision from kontrol.head";
const ORPHANS = "select id from kontrol.kites where gone_at is null and holder = any($1::uuid[])";
const STORED = "select id || ' ' || generation as lease from kontrol.kites where gone_at is null";
const LOG = `
  select revision::float8 as revision, kind, data from (select * from cut union all select * from kontrol.log) as whole order by revision`;
const CUT = `
  with gone as (delete from kontrol.log where revision <= (select revision from kontrol.head) returning *) insert into cut select * from gone`;
const KILL = `
  select pg_terminate_backend(pid) from pg_stat_activity
   where datname = current_database() and application_name = $1 order by pid limit $2`;

/** The answer to labels for nobody when they were written; anything else means that the database was not there. */
function ended(error: { code?: string }): void {
  if (error.code !== "disconnected") throw error;
}

/** The parts of a kontrol that the database is behind, without its door. */
async function openReplica(databaseUrl: string): Promise<Replica> {
  const pool = await openDatabase(databaseUrl, () => {});
  const pids = new Set<number>();
  pool.on("connect", (client) => pids.add((client as unknown as { processID: number }).processID));
  const directory = new Directory({ revocationsMs: 600_000 });
  const holder = randomUUID();
  const follower = await untilOpen(() => Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent }));
  const log = new Log(pool, (entries) => follower.offer(entries));
  const leases = new Leases({ log, present: directory, logger: silent, onWritten: (revision) => follower.reached(revision) });
  const watchers = new Watchers(directory, () => 0);
  const heartbeatMs = HEARTBEAT_MS;
  const replicas = new Replicas({ pool, holder, heartbeatMs });
  const own = { holder, replicas, replicaUrl: "http://127.0.0.1:4000", heartbeatMs };
  const isExpected = () => false;
  const beats = { pool, directory, follower, leases, isExpected, log, ...own, logger: silent, now: Date.now };
  const upkeep = await untilOpen(() => Upkeep.start(beats));
  const end = async () => {
    await upkeep.close();
    await leases.close();
    await follower.close();
  };
  const close = async () => {
    await end();
    await pool.end();
  };
  const kill = async () => {
    const ending = pool.end();
    const admin = new pg.Client({ connectionString: databaseUrl });
    await admin.connect();
    await admin.query("select pg_terminate_backend(pid) from unnest($1::int[]) as pid", [[...pids]]);
    await admin.end();
    watchers.close(new KiteError("disconnected", "kontrol was killed"));
    await Promise.all([ending, end()]);
  };
  return { holder, directory, follower, leases, log, watchers, leaving: new Set(), close, kill };
}

/** Its connection may be killed while it starts; a process would be started again. */
async function untilOpen<T>(open: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await open();
    } catch (cause) {
      if (tries === 5) throw cause;
    }
  }
}

function watchAt({ watchers }: Replica, { query, username }: Pick<Told, "query" | "username">, since?: string) {
  return watchers.watch({ query, username, since })[Symbol.asyncIterator]();
}

/** Mulberry32: the same numbers every time. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
