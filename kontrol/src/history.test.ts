import { type Identity, matcher, type Query, type WatchEvent } from "@kite-mesh/kite";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { openDatabase } from "./database.ts";
import { Directory } from "./directory.ts";
import { Follower } from "./follower.ts";
import { Leases } from "./leases.ts";
import { Log } from "./log.ts";
import { ensureAccount } from "./people.ts";
import type { Change, KiteRecord } from "./record.ts";
import { silent } from "./testing.ts";
import { Watchers } from "./watch.ts";

// Two kontrols on one database, at random and always in the same way: kites register, change their labels and leave,
// connections to the database are killed, watchers read slowly and go on elsewhere. Afterwards every history that a
// watcher saw is held against the log, folded here by code that knows nothing of the directory.

vi.setConfig({ testTimeout: 90_000 });
const STEPS = 1_000;
const IDS = 40;
const QUERIES: readonly Query[] = [
  {},
  { name: "math" },
  { id: "kite-7" },
  { version: "^1" },
  { labels: ["load<0.5"] },
  { name: "disk", labels: ["gpu"] },
];

test.each([11, 4_711])("every watcher's history is a piece of the log, without gap, duplicate or zombie (seed %d)", async (seed) => {
  await using world = await makeWorld(await freshDatabase(), seed);

  for (let step = 0; step < STEPS; step++) await act(world, step);
  await leaveInTrouble(world);
  await settle(world);

  const log = await readLog(world.admin);
  expect(log.map(({ revision }) => revision)).toEqual(log.map((_, index) => index + 1));
  const final = foldTo(log, log.length);
  for (const { directory } of world.kontrols) expect(idsOf(directory.kites())).toEqual(idsOf(final.values()));
  expect(await storedIds(world.admin)).toEqual(idsOf(final.values()));
  for (const { kite, generation } of final.values())
    expect(world.left.has(`${kite.id} ${generation}`), `${kite.id} is a zombie`).toBe(false);
  for (const watch of world.watches)
    expect(wrongIn(watch, log), `a watch of ${JSON.stringify(watch.query)} by ${watch.username}`).toBeUndefined();
  // What makes the rest worth something: it was rough, and much of it went through.
  expect(log.length).toBeGreaterThan(STEPS / 4);
  expect(world.kills).toBeGreaterThan(10);
  expect(world.watches.reduce((sum, { seen }) => sum + seen.length, 0)).toBeGreaterThan(STEPS);
});

interface Kontrol {
  readonly directory: Directory;
  readonly follower: Follower;
  readonly leases: Leases;
  readonly watchers: Watchers;
}

interface Watch {
  readonly query: Query;
  readonly username: string;
  /** Everything it was told, on whichever kontrol. */
  readonly seen: WatchEvent[];
  events: AsyncIterator<WatchEvent>;
  reading: Promise<IteratorResult<WatchEvent>> | undefined;
}

interface World extends AsyncDisposable {
  readonly admin: pg.Client;
  readonly kontrols: readonly Kontrol[];
  readonly watches: readonly Watch[];
  readonly random: () => number;
  /** The generation under which each kite last knew itself registered. */
  readonly generations: Map<string, number>;
  /** What was told to leave. */
  readonly left: Set<string>;
  readonly underway: Set<Promise<unknown>>;
  kills: number;
}

async function makeWorld(databaseUrl: string, seed: number): Promise<World> {
  const closers: (() => unknown)[] = [];
  const kontrols: Kontrol[] = [];
  for (let index = 0; index < 2; index++) {
    const pool = await openDatabase(databaseUrl, () => {});
    if (index === 0)
      for (const username of ["alice", "bob"]) await ensureAccount(new Log(pool), { username, kind: "person", admin: false });
    const directory = new Directory({ tokenTtlMs: 600_000 });
    const follower = await Follower.start({ databaseUrl, directory, tokenTtlMs: 600_000, log: silent });
    const log = new Log(pool, (entries) => follower.offer(entries));
    const leases = new Leases({ log, logger: silent, onWritten: (revision) => follower.reached(revision) });
    const watchers = new Watchers(directory, () => 0);
    kontrols.push({ directory, follower, leases, watchers });
    closers.push(
      () => pool.end(),
      () => follower.close(),
      () => leases.close(),
    );
  }
  const admin = new pg.Client({ connectionString: databaseUrl, application_name: "test" });
  await admin.connect();
  const random = seeded(seed);
  const watches = QUERIES.flatMap((query) => ["alice", "bob"].map((username) => newWatch(pick(kontrols, random), query, username)));
  return {
    admin,
    kontrols,
    watches,
    random,
    generations: new Map(),
    left: new Set(),
    underway: new Set(),
    kills: 0,
    [Symbol.asyncDispose]: async () => {
      for (const { events } of watches) await events.return?.();
      for (const close of closers.reverse()) await close();
      await admin.end();
    },
  };
}

async function act(world: World, step: number): Promise<void> {
  const { random, kontrols, underway } = world;
  const id = `kite-${Math.floor(random() * IDS)}`;
  const kontrol = pick(kontrols, random);
  const dice = random();
  if (dice < 0.4) follow(underway, register(world, kontrol, id, step));
  else if (dice < 0.65) follow(underway, relabel(world, kontrol, id));
  else if (dice < 0.85) leave(world, kontrol, id);
  else if (dice < 0.95) await read(pick(world.watches, random));
  else if (dice < 0.985) await moveOn(world, pick(world.watches, random));
  else await kill(world);
  // Some of it together, so that it is written in batches, and all of it soon.
  if (underway.size >= 24) await Promise.all(underway);
}

async function register({ random, generations }: World, { leases }: Kontrol, id: string, step: number): Promise<void> {
  const kite = {
    username: "alice",
    environment: "e",
    name: pick(["math", "disk"], random),
    version: pick(["1.0.0", "1.4.0", "2.0.0"], random),
    region: "r",
    hostname: "h",
    id,
  };
  const visibility = pick(["private", "mesh"] as const, random);
  const lease = {
    kite,
    url: `http://10.0.0.1:${step}`,
    visibility,
    labels: someLabels(random),
    jti: null,
    holder: HOLDER,
    registeredAt: step,
  };
  const { generation } = await leases.enter(lease);
  generations.set(id, Math.max(generation, generations.get(id) ?? 0));
}

async function relabel({ random, generations }: World, { leases }: Kontrol, id: string): Promise<void> {
  // Now and then by somebody who has not heard of a newer registration.
  const generation = (generations.get(id) ?? 0) - (random() < 0.2 ? 1 : 0);
  await leases.label({ id, generation, labels: someLabels(random) });
}

function leave({ random, generations, left }: World, { leases }: Kontrol, id: string): void {
  const generation = (generations.get(id) ?? 0) - (random() < 0.2 ? 1 : 0);
  left.add(`${id} ${generation}`);
  leases.leave({ id, generation, reason: "it left" });
}

/** Half of the kites leave and nobody takes their places, while the connections that should write it are killed. */
async function leaveInTrouble(world: World): Promise<void> {
  await Promise.all(world.underway);
  for (let index = 0; index < IDS; index += 2) {
    const id = `kite-${index}`;
    const generation = world.generations.get(id) ?? 0;
    world.left.add(`${id} ${generation}`);
    pick(world.kontrols, world.random).leases.leave({ id, generation, reason: "it left" });
    // A round trip later the transaction is under way.
    await kill(world, "kontrol");
  }
}

/** Ends the watch, and goes on after what it has seen, at the same kontrol or the other one. */
async function moveOn({ kontrols, random }: World, watch: Watch): Promise<void> {
  await read(watch);
  await watch.events.return?.();
  watch.reading = undefined;
  watch.events = newWatch(pick(kontrols, random), watch.query, watch.username, watch.seen.at(-1)?.revision).events;
}

const KILL = `
  select pg_terminate_backend(pid) from pg_stat_activity
   where datname = current_database() and application_name = $1 order by pid limit $2`;

/** The connection that follows the log, or some of those that write it, in the middle of whatever they do. */
async function kill(world: World, name = pick(["kontrol", "kontrol follower"], world.random)): Promise<void> {
  const { rowCount } = await world.admin.query(KILL, [name, 1 + Math.floor(world.random() * 3)]);
  world.kills += rowCount ?? 0;
}

/** Reads what is there. A watch that has nothing to tell does not answer within a turn of the event loop. */
async function read(watch: Watch): Promise<void> {
  for (;;) {
    watch.reading ??= watch.events.next();
    const turn = new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
    const result = await Promise.race([watch.reading, turn]);
    if (result === undefined) return;
    watch.reading = undefined;
    watch.seen.push(result.value);
  }
}

/** Until everything is written, both kontrols have it, and every watcher has read it. */
async function settle({ underway, kontrols, admin, watches }: World): Promise<void> {
  await Promise.all(underway);
  // Those that leave are retried until they are written; this comes behind them in the queue.
  for (const { leases } of kontrols) await leases.label({ id: "nobody", generation: 0, labels: {} }).catch(() => {});
  await vi.waitFor(
    async () => {
      for (const { leases } of kontrols) await leases.label({ id: "nobody", generation: 0, labels: {} }).catch(ended);
      const { rows } = await admin.query<{ revision: number }>("select revision::float8 as revision from kontrol.head");
      for (const { directory } of kontrols) expect(directory.revision).toBe(rows[0]?.revision);
    },
    { timeout: 30_000, interval: 50 },
  );
  for (const watch of watches) await read(watch);
}

/** The answer to labels for nobody when they were written; anything else means that the database was not there. */
function ended(error: { code?: string }): void {
  if (error.code !== "disconnected") throw error;
}

interface LogEntry {
  readonly revision: number;
  readonly change: Change;
}

async function readLog(admin: pg.Client): Promise<LogEntry[]> {
  const { rows } = await admin.query<{ revision: number; kind: string; data: object }>(
    "select revision::float8 as revision, kind, data from kontrol.log order by revision",
  );
  return rows.map(({ revision, kind, data }) => ({ revision, change: { kind, ...data } as Change }));
}

async function storedIds(admin: pg.Client): Promise<string[]> {
  const { rows } = await admin.query<{ id: string }>("select id from kontrol.kites where gone_at is null");
  return rows.map(({ id }) => id).sort();
}

type State = Map<string, KiteRecord>;

/** What one entry does to the kites; answers with the record before and after it. */
function fold(state: State, { change }: LogEntry): { before?: KiteRecord | undefined; after?: KiteRecord | undefined } {
  if (change.kind === "kite.registered") {
    const before = state.get(change.record.kite.id);
    state.set(change.record.kite.id, change.record);
    return { before, after: change.record };
  }
  if (change.kind !== "kite.gone" && change.kind !== "kite.labelled") return {};
  const before = state.get(change.id);
  if (before?.generation !== change.generation) return {};
  if (change.kind === "kite.gone") {
    state.delete(change.id);
    return { before };
  }
  const after = { ...before, labels: change.labels };
  state.set(change.id, after);
  return { before, after };
}

function foldTo(log: readonly LogEntry[], revision: number): State {
  const state: State = new Map();
  for (const entry of log.slice(0, revision)) fold(state, entry);
  return state;
}

/** The first thing in a watch's history that the log does not bear out, in words. */
function wrongIn({ query, username, seen }: Watch, log: readonly LogEntry[]): string | undefined {
  const means = matcher(query);
  const sees = (record: KiteRecord | undefined) =>
    record !== undefined && (username === "alice" || record.visibility === "mesh") && means(record.kite, record.labels);
  let state: State = new Map();
  let at = 0;
  /** What is due between two revisions; a watch that is told of the second has been told of all before. */
  const due = (upTo: number): string[] => {
    const told: string[] = [];
    for (; at < upTo; at++) {
      const { before, after } = fold(state, log[at] as LogEntry);
      if (after !== undefined && sees(after)) told.push(tell("registered", at + 1, after.kite, after.labels));
      else if (before !== undefined && sees(before)) told.push(tell("gone", at + 1, before.kite));
    }
    return told;
  };
  for (const event of seen) {
    const revision = Number(event.revision);
    if (event.type === "snapshot") {
      [state, at] = [foldTo(log, revision), revision];
      const expected = idsOf([...state.values()].filter(sees)).join();
      const got = idsOf(event.kites).join();
      if (got !== expected) return `the snapshot at ${revision} has ${got}, not ${expected}`;
      continue;
    }
    if (revision <= at) return `${event.type} at ${revision} came after ${at}`;
    const told =
      event.type === "registered" ? tell("registered", revision, event.kite.kite, event.kite.labels) : tell("gone", revision, event.kite);
    const expected = due(revision).join("; ");
    if (expected !== told) return `it was told "${told}", and was due "${expected}"`;
  }
  const missing = due(log.length);
  return missing.length === 0 ? undefined : `it was not told "${missing.join("; ")}"`;
}

function tell(type: string, revision: number, kite: Identity, labels: object = {}): string {
  return `${revision} ${type} ${kite.id} ${kite.name} ${kite.version} ${JSON.stringify(Object.entries(labels).sort())}`;
}

function idsOf(records: Iterable<{ kite: Identity }>): string[] {
  return [...records].map(({ kite }) => kite.id).sort();
}

const HOLDER = "00000000-0000-4000-8000-000000000000";

function newWatch({ watchers }: Kontrol, query: Query, username: string, since?: string): Watch {
  return { query, username, seen: [], events: watchers.watch({ query, username, since })[Symbol.asyncIterator](), reading: undefined };
}

function someLabels(random: () => number): Record<string, string> {
  return { load: random().toFixed(2), ...(random() < 0.5 ? { gpu: "true" } : {}) };
}

/** What fails because a connection was killed is not what is looked at here. */
function follow(underway: Set<Promise<unknown>>, work: Promise<unknown>): void {
  const tracked = work.catch(() => {}).finally(() => underway.delete(tracked));
  underway.add(tracked);
}

function pick<T>(items: readonly T[], random: () => number): T {
  return items[Math.floor(random() * items.length)] as T;
}

/** Mulberry32: the same numbers every time. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
