import { setTimeout as pause } from "node:timers/promises";
import { type FoundKite, Kite, type KiteOptions, type Logger, method, type WatchEvent } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { expect, test, vi } from "vitest";
import { KontrolProcess } from "../kontrol-process.ts";
import { type PostgresServer, startPostgresServer } from "../postgres-server.ts";
import { until } from "../until.ts";

// Two kontrols in processes of their own on a PostgreSQL of their own, which goes away for a while: it stands still, or is
// shut down hard. `OUTAGE_MS=30000 npx vitest run test/stories/database-outage` takes it away for longer.

vi.setConfig({ testTimeout: 240_000 });
const OUTAGE_MS = Number(process.env["OUTAGE_MS"] ?? 4_000);
// A kite is given up after two beats, a kontrol's kites likewise: the outage is longer than either.
const HEARTBEAT_MS = 1_500;
// A connection is waited for as long as a statement; a caller is told before a minute is over.
const TOLD_LIMIT_MS = 40_000;
// For what takes a few seconds on a machine of its own.
const SOON_MS = 60_000;

interface WhoContract {
  who(): Promise<string>;
}

const OUTAGES: readonly [string, (server: PostgresServer) => Promise<void>, (server: PostgresServer) => Promise<void>][] = [
  ["stands still", (server) => server.freeze(), async (server) => server.thaw()],
  ["is shut down hard", (server) => server.stopHard(), (server) => server.start()],
];

// Beside each other: most of it is waiting for leases to be over, each of which belongs to a mesh of its own.
test.concurrent.each(OUTAGES)(
  "while PostgreSQL %s the mesh goes on, and afterwards all is well without a restart",
  async (_title, stop, start) => {
    await using server = await startPostgresServer();
    await using mesh = await startKontrols(await server.createDatabase("mesh"));
    const { near, far } = mesh;
    const direct = await mesh.kite({ name: "direct" }, near);
    const relayed = await mesh.kite({ name: "relayed" }, far, { relayed: true });
    const leaving = await mesh.kite({ name: "leaving" }, far);
    const watchers = [mesh.watch(near), mesh.watch(far)];
    const before = await mesh.found(far, "direct", "relayed", "leaving");
    await mesh.found(near, "direct", "relayed", "leaving");
    for (const { seen } of watchers) await until("a snapshot", SOON_MS, () => seen.length > 0);

    await stop(server);
    const outage = pause(OUTAGE_MS);
    // Queries, tokens, watches and calls go on from memory.
    for (const url of [near, far]) {
      await mesh.found(url, "direct", "relayed");
      expect((await mesh.kontrol(url).getToken({ query: { name: "direct" } })).token).toMatch(/\./);
      for (const name of ["direct", "relayed"]) expect(await mesh.call(url, name)).toBe(name);
    }
    const late = mesh.watch(near);
    await until("a snapshot from memory", SOON_MS, () => late.seen.length > 0);
    // What has to be written is not, and says so.
    await expect(mesh.kontrol(near).people.create({ username: "newcomer" })).rejects.toMatchObject({ code: "unavailable" });
    // Said again by the kite itself until it is written.
    const labelling = relayed.updateLabels({ load: "0.9" });
    const closedAt = performance.now();
    await leaving.close();
    expect(performance.now() - closedAt).toBeLessThan(TOLD_LIMIT_MS);
    for (const url of [near, far]) await until(`${url} to say that it is not ready`, SOON_MS, () => isReady(url).then((ready) => !ready));
    await outage;

    await start(server);
    for (const url of [near, far]) await until(`${url} to be ready`, SOON_MS, () => isReady(url));
    expect((await mesh.kontrol(near).people.create({ username: "newcomer" })).created).toBe(true);
    await mesh.kite({ name: "newcomer" }, far);
    await direct.updateLabels({ load: "0.5" });
    await labelling;
    for (const url of [near, far])
      await until("what was said meanwhile", SOON_MS, () => mesh.labels(url, "relayed").then(({ load }) => load === "0.9"));
    for (const url of [near, far])
      await until("who left to be gone", SOON_MS, () => mesh.names(url).then((names) => !names.includes("leaving")));
    // Longer than any lease: nobody may be taken out for what happened to the database.
    await pause(3 * HEARTBEAT_MS);
    for (const url of [near, far]) {
      const after = await mesh.found(url, "direct", "relayed", "newcomer");
      for (const name of ["direct", "relayed"]) expect(after.get(name)?.registeredAt).toBe(before.get(name)?.registeredAt);
      for (const name of ["direct", "relayed", "newcomer"]) expect(await mesh.call(url, name)).toBe(name);
    }
    for (const { seen } of [...watchers, late]) expectNoGap(seen, leaving);
    expect(relayed.url).toBeUndefined();
  },
);

/** One snapshot at the start, then changes in their order, of which the one kite's end is one, and no other kite's. */
function expectNoGap(seen: readonly WatchEvent[], leaving: Kite): void {
  const told = seen.map((event) => `${event.type} ${event.type === "snapshot" ? "" : nameOf(event)}`.trim());
  expect(told[0]).toBe("snapshot");
  expect(told.filter((one) => one === "snapshot")).toHaveLength(1);
  expect(told.filter((one) => one.startsWith("gone"))).toEqual([`gone ${leaving.identity.name}`]);
  expect(told).toContain("registered newcomer");
  expect(told).toContain("registered direct");
  const revisions = seen.map(({ revision }) => Number(revision));
  expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b));
}

function nameOf(event: Exclude<WatchEvent, { type: "snapshot" }>): string {
  return event.type === "registered" ? event.kite.kite.name : event.kite.name;
}

async function isReady(url: string): Promise<boolean> {
  return (await fetch(`${url}/readyz`)).status === 200;
}

const silent: Logger = { debug() {}, info() {}, warn() {}, error() {} };

async function startKontrols(databaseUrl: string) {
  const options = { databaseUrl, heartbeatMs: HEARTBEAT_MS, port: 0 };
  const opened: AsyncDisposable[] = [];
  const closing = <T extends AsyncDisposable>(resource: T): T => {
    opened.push(resource);
    return resource;
  };
  const close = async () => {
    for (const resource of opened.splice(0).reverse()) await resource[Symbol.asyncDispose]();
  };
  try {
    const near = closing(await KontrolProcess.start({ ...options, people: ["alice"] }));
    const far = closing(await KontrolProcess.start({ ...options, people: [] }));
    const kiteKey = near.keys["alice"] ?? "";
    const make = (more: Partial<KiteOptions>, kontrolUrl: string) =>
      closing(new Kite({ name: "caller", version: "1.0.0", kiteKey, kontrolUrl, log: silent, ...more }));
    const callers = new Map([near.url, far.url].map((url) => [url, make({}, url)]));
    const caller = (url: string) => callers.get(url) as Kite;
    const kontrol = (url: string) => caller(url).kontrol<KontrolContract>();
    const names = async (url: string) => (await kontrol(url).getKites({ query: { username: "alice" } })).kites.map(({ kite }) => kite.name);
    return {
      near: near.url,
      far: far.url,
      kontrol,
      names,
      kite: async (more: Partial<KiteOptions>, url: string, { relayed = false } = {}) => {
        const kite = make({ ...more, methods: { who: method({ role: "viewer" }, () => more.name) } }, url);
        if (!relayed) await kite.listen();
        await kite.register();
        return kite;
      },
      call: async (url: string, name: string) => {
        await using client = await make({ name: "once" }, url).connect<WhoContract>({ name });
        return await client.who();
      },
      labels: async (url: string, name: string) => (await kontrol(url).getKites({ query: { name } })).kites[0]?.labels ?? {},
      watch: (url: string) => follow(caller(url)),
      /** The kites of these names and no others, by name. */
      found: (url: string, ...expected: string[]) =>
        until(`${expected} at ${url}`, SOON_MS, async () => {
          const { kites } = await kontrol(url).getKites({ query: { username: "alice" } });
          const byName = new Map(kites.map((found) => [found.kite.name, found] as [string, FoundKite]));
          return expected.every((name) => byName.has(name)) ? byName : undefined;
        }),
      [Symbol.asyncDispose]: close,
    };
  } catch (cause) {
    await close();
    throw cause;
  }
}

function follow(caller: Kite): { seen: WatchEvent[] } {
  const seen: WatchEvent[] = [];
  const reading = async () => {
    for await (const event of caller.watch({ username: "alice" })) seen.push(event);
  };
  // Ends with the caller.
  reading().catch(() => {});
  return { seen };
}
