import { Kite, type WatchEvent } from "@kite-mesh/kite";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../postgres.ts";
import { program } from "../programs.ts";
import { type Replicas, startReplicas } from "../replicas.ts";
import { until } from "../until.ts";

// Three kontrols as processes behind a balancer; one of them is stopped with SIGSTOP, and its kernel keeps its connections.

const LIMIT_MS = 180_000;
const SOON_MS = 60_000;
// Its kites look for another one after two beats at most, and leave after three: two seconds that a busy machine may take.
const HEARTBEAT_S = 4;
const REPLICAS = [0, 1, 2];
vi.setConfig({ testTimeout: LIMIT_MS, hookTimeout: LIMIT_MS });

test("the kites of a replica that stands still with its connections open are at the others before anybody sees them go", async () => {
  const databaseUrl = await freshDatabase();
  const settings = { KONTROL_HEARTBEAT: `${HEARTBEAT_S}s` };
  await using replicas = await startReplicas(databaseUrl, { kontrol: [program("kontrol")], settings });
  await using database = await openDatabase(databaseUrl);
  const kiteKey = await replicas.person("alice");
  const kites = Array.from({ length: 6 }, () => kiteOf(replicas, { name: "stays", kiteKey, kontrolUrl: replicas.url }));
  for (const kite of kites) await kite.register();
  // Whichever the balancer gave most of them to, and a watcher at another one.
  const holders = await Promise.all(REPLICAS.map((replica) => database.holderAt(replicas.at(replica))));
  const shares = await Promise.all(holders.map((holder) => database.held(holder)));
  const still = shares.indexOf(Math.max(...shares));
  const stopped = holders[still] ?? "";
  const watcher = kiteOf(replicas, { name: "watcher", kiteKey, kontrolUrl: replicas.at((still + 1) % REPLICAS.length) });
  const seen = collect(watcher.watch({ name: "stays" }));
  await until("the watcher to be told of all", SOON_MS, () => present(seen).size === kites.length);
  expect(await database.held(stopped)).toBeGreaterThan(0);

  await database.beaten(stopped);
  replicas.suspend(still);
  await until("the others to have its kites", SOON_MS, async () => (await database.held(stopped)) === 0);
  replicas.wake(still);
  await database.beaten(stopped);

  expect(seen.filter(({ type }) => type === "gone")).toEqual([]);
  expect(present(seen)).toEqual(new Set(kites.map(({ identity: { id } }) => id)));
  expect(await database.held(stopped)).toBe(0);
});

function kiteOf(replicas: Replicas, options: { name: string; kiteKey: string; kontrolUrl: string }): Kite {
  return replicas.closing(new Kite({ version: "1.0.0", ...options }));
}

/** What the database says of replicas, by whom kites are held there. */
async function openDatabase(databaseUrl: string) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const one = async <T>(text: string, value: string) => (await client.query<{ value: T }>(text, [value])).rows[0]?.value;
  const beatAt = (holder: string) => one<number>(BEAT_AT, holder);
  return {
    holderAt: async (url: string) => (await one<string>("select id as value from kontrol.replicas where url = $1", url)) ?? "",
    held: async (holder: string) => Number(await one<string>(HELD, holder)),
    /** Until it has said once more that it lives. */
    beaten: async (holder: string) => {
      const before = await beatAt(holder);
      await until("the replica to beat", SOON_MS, async () => (await beatAt(holder)) !== before);
    },
    [Symbol.asyncDispose]: () => client.end(),
  };
}

const BEAT_AT = "select extract(epoch from beat_at)::float8 as value from kontrol.replicas where id::text = $1";
const HELD = "select count(*) as value from kontrol.kites where gone_at is null and jti is not null and holder::text = $1";

function collect(events: AsyncIterable<WatchEvent>): WatchEvent[] {
  const seen: WatchEvent[] = [];
  void (async () => {
    for await (const event of events) seen.push(event);
  })().catch(() => {});
  return seen;
}

function present(seen: readonly WatchEvent[]): Set<string> {
  const ids = new Set<string>();
  for (const event of seen) {
    if (event.type === "snapshot") for (const { kite } of event.kites) ids.add(kite.id);
    if (event.type === "registered") ids.add(event.kite.kite.id);
    if (event.type === "gone") ids.delete(event.kite.id);
  }
  return ids;
}
