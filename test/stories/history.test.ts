import { Kite, type Logger, method } from "@kite-mesh/kite";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { seeded } from "../../kontrol/src/test-history.ts";
import { type LogEntry, lineOf, Model, type Told, wrongHistories } from "../../kontrol/src/test-history-model.ts";
import { KontrolProcess } from "../kontrol-process.ts";
import { lastingPort } from "../lasting-port.ts";
import { freshDatabase } from "../postgres.ts";
import { until } from "../until.ts";

// Real kontrols that are killed with -9 in the middle of what real kites make them write; what watchers saw, over the wire and
// through every loss, is held against the log. `HISTORY_KILLS=100 HISTORY_SEED=7 npx vitest run test/stories/history` for longer.

const KILLS = Number(process.env["HISTORY_KILLS"] ?? 2);
const SEED = Number(process.env["HISTORY_SEED"] ?? 11);
const KONTROLS = 2;
const KITES = 10;
const HEARTBEAT_MS = 1_500;
const SOON_MS = 90_000;
vi.setConfig({ testTimeout: 240_000 + KILLS * 60_000 });

test(`kontrols killed in the middle of writes lose nothing, and leave no kite behind (HISTORY_SEED=${SEED})`, async () => {
  await using world = await openWorld(await freshDatabase());

  for (let kill = 0; kill < KILLS; kill++) {
    await world.stir();
    await world.killAndRestart();
  }
  await world.settle();

  const log = await world.log();
  expect(log.map(({ revision }) => revision)).toEqual(log.map((_, index) => index + 1));
  expect(wrongHistories(world.watches, log)).toEqual([]);
  for (const { lines } of world.watches) expect(lines.length).toBeGreaterThan(KILLS);
});

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

async function openWorld(databaseUrl: string) {
  const random = seeded(SEED);
  const pick = <T>(items: readonly T[]) => items[Math.floor(random() * items.length)] as T;
  const admin = new pg.Client({ connectionString: databaseUrl, application_name: "test" });
  await admin.connect();
  const start = (port: number, people: string[]) => KontrolProcess.start({ databaseUrl, heartbeatMs: HEARTBEAT_MS, port, people });
  const kontrols = [await start(await lastingPort(), ["alice"])];
  const kiteKey = kontrols[0]?.keys["alice"] ?? "";
  while (kontrols.length < KONTROLS) kontrols.push(await start(await lastingPort(), []));
  const urls = kontrols.map(({ url }) => url);
  const watches = urls.map((url) => follow(new Kite({ name: "watcher", version: "1.0.0", kiteKey, kontrolUrl: url, log: silent })));
  const kites: Kite[] = [];
  const open = async () => {
    const methods = { who: method({ role: "viewer" }, () => "me") };
    const fields = { name: pick(["math", "disk"]), version: pick(["1.0.0", "1.4.3", "2.0.0"]) };
    const kite = new Kite({ ...fields, methods, kiteKey, kontrolUrl: pick(urls), log: silent });
    kites.push(kite);
    await kite.register({ labels: { load: "0" } });
  };
  for (let index = 0; index < KITES; index++) await open();
  let underway: Promise<unknown>[] = [];

  return {
    watches,
    /** Kites come, go and change while connections break; all of it is still on its way when this returns. */
    stir: async () => {
      const leaving = kites.splice(Math.floor(random() * KITES), 1);
      underway = [...leaving.map((kite) => kite.close()), open()];
      for (const kite of kites) underway.push(kite.updateLabels({ load: random().toFixed(2) }));
      // A kite that waits for a killed kontrol is not looked at here: it is the next registration's.
      for (const work of underway) work.catch(() => {});
      await admin.query(KILL, [1 + Math.floor(random() * 3)]);
    },
    killAndRestart: async () => {
      const index = Math.floor(random() * KONTROLS);
      await kontrols[index]?.kill9();
      kontrols[index] = await start(Number(new URL(urls[index] ?? "").port), []);
      await Promise.allSettled(underway);
    },
    /** Until the kites that are there are the directory, everywhere, and every watcher knows it. */
    settle: async () => {
      await Promise.allSettled(underway);
      await until("the log and every watcher to come to rest", SOON_MS, async () => {
        const model = new Model();
        const log = await readLog(admin);
        for (const entry of log) model.take(entry);
        const there = [...model.kites.values()].filter(({ kite }) => kite.username === "alice");
        expect(there.map(({ kite }) => kite.id).sort()).toEqual(kites.map(({ identity }) => identity.id).sort());
        const last = log.findLast(({ change }) => isAboutOurs(change))?.revision ?? 0;
        for (const { lines } of watches) expect(lines.at(-1)?.revision).toBeGreaterThanOrEqual(last);
        return true;
      });
    },
    log: () => readLog(admin),
    [Symbol.asyncDispose]: async () => {
      for (const { watcher } of watches) await watcher.close();
      await Promise.all(kites.map((kite) => kite.close()));
      for (const kontrol of kontrols) await kontrol[Symbol.asyncDispose]();
      await admin.end();
    },
  };
}

const KILL = `
  select pg_terminate_backend(pid) from pg_stat_activity
   where datname = current_database() and application_name like 'kontrol%' order by pid limit $1`;
const LOG = "select revision::float8 as revision, kind, data from kontrol.log order by revision";

async function readLog(admin: pg.Client): Promise<LogEntry[]> {
  const { rows } = await admin.query<{ revision: number; kind: string; data: object }>(LOG);
  return rows.map(({ revision, kind, data }) => ({ revision, change: { kind, ...data } as LogEntry["change"] }));
}

/** kontrol enters itself as well, and nobody here watches it. */
function isAboutOurs(change: LogEntry["change"]): boolean {
  return change.kind === "kite.registered" ? change.record.kite.username === "alice" : change.kind.startsWith("kite.");
}

/** Everything that a watcher is told until it is closed, through every loss of its connection. */
function follow(watcher: Kite): Told & { watcher: Kite } {
  const query = { username: "alice" };
  const lines: ReturnType<typeof lineOf>[] = [];
  const reading = async () => {
    for await (const event of watcher.watch(query)) lines.push(lineOf(event));
  };
  reading().catch(() => {}); // ends with the watcher
  return { watcher, query, username: "alice", lines };
}
