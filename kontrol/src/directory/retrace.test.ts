import { randomUUID } from "node:crypto";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { type Entry, Log } from "../database/log.ts";
import type { Change, KiteRecord } from "../database/record.ts";
import { ensureAccount } from "../people/people.ts";
import { Leases } from "../presence/leases.ts";
import type { NewLease } from "../presence/standing.ts";
import { silent } from "../testing.ts";
import { removeKites } from "../trust/revocations.ts";
import { Directory } from "./directory.ts";
import { retrace } from "./retrace.ts";
import { readSnapshot } from "./snapshot.ts";

vi.setConfig({ testTimeout: 60_000 });
const holder = randomUUID();

test("a directory that is read from the tables remembers what one does that heard it all", async () => {
  const databaseUrl = await freshDatabase();
  await using mesh = await openMesh(databaseUrl);
  for (let seed = 1; seed <= 40; seed++) await mesh.step(seed);
  await mesh.log.write((tx) => removeKites(tx, { username: "alice" }, "the account was removed"));
  for (let seed = 41; seed <= 80; seed++) await mesh.step(seed);

  const past = (await mesh.snapshot()).past ?? [];

  expect(past.length).toBeGreaterThan(60);
  expect(past.map(seen)).toEqual(mesh.heard.since(mesh.heard.revision - past.length)?.map(seen));
  expect(past.filter(({ before, after }) => before !== undefined && after !== undefined)).not.toHaveLength(0);
});

test("it is remembered as far as the log reaches", async () => {
  const databaseUrl = await freshDatabase();
  await using mesh = await openMesh(databaseUrl);
  for (let seed = 1; seed <= 30; seed++) await mesh.step(seed);
  const cut = mesh.heard.revision - 5;
  await mesh.pool.query("delete from kontrol.log where revision <= $1", [cut]);

  const { past = [] } = await mesh.snapshot();

  expect(past.map(({ revision }) => revision)).toEqual([1, 2, 3, 4, 5].map((after) => cut + after));
});

test.each<[string, Change]>([
  ["a registration", { kind: "kite.registered", record: recordOf("a", 2) }],
  ["a change of labels", { kind: "kite.labelled", id: "a", generation: 1, labels: {} }],
  ["an end", { kind: "kite.gone", id: "a", generation: 1, reason: "its session closed" }],
])("an entry of an earlier version, %s, is where memory ends", (_, change) => {
  const entries: Entry[] = [
    { revision: 1, change: { kind: "kite.registered", record: recordOf("a", 1), before: null } },
    { revision: 2, change },
    { revision: 3, change: { kind: "kite.registered", record: recordOf("b", 3), before: null } },
  ];

  const past = retrace([recordOf("a", 1), recordOf("b", 3)], 3, entries);

  expect(past.map(({ revision }) => revision)).toEqual([3]);
});

test("a log that ends before the tables do is not believed", () => {
  const entry: Entry = { revision: 4, change: { kind: "kite.registered", record: recordOf("a", 4), before: null } };

  expect(retrace([recordOf("a", 4)], 5, [entry])).toEqual([]);
});

/** What is told, and what decides to whom. */
function seen({ revision, before, after }: { revision: number; before: KiteRecord | undefined; after: KiteRecord | undefined }) {
  const [was, is] = [before, after].map((record) => {
    if (record === undefined) return undefined;
    const { kite, url, visibility, labels, registeredAt } = record;
    return { kite, url, visibility, labels, registeredAt };
  });
  return { revision, was, is };
}

async function openMesh(databaseUrl: string) {
  const pool = await openDatabase(databaseUrl, () => {});
  const heard = new Directory({ revocationsMs: 600_000 });
  heard.reset({ revision: 0, kites: [], accounts: [], grants: [], teams: [], members: [], keys: [], revocations: [] });
  const log = new Log(pool, (entries) => {
    for (const entry of entries) heard.apply(entry);
  });
  const leases = new Leases({ log, present: heard, logger: silent, onWritten: async () => {} });
  await ensureAccount(log, { username: "alice", kind: "person", admin: false });
  return {
    pool,
    log,
    heard,
    snapshot: async () => {
      const client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
      try {
        return await readSnapshot(client, 600_000);
      } finally {
        await client.end();
      }
    },
    /** One of everything that can happen to one of four kites. */
    step: async (seed: number) => {
      const id = `k${(seed * 7) % 4}`;
      const present = heard.kite(id);
      if (present === undefined || seed % 3 === 0) return leases.enter(leaseOf(id, seed));
      if (seed % 3 === 1) return leases.label({ id, generation: present.generation, labels: { load: String(seed) } });
      leases.leave({ id, generation: present.generation, reason: "its session closed" });
      await vi.waitFor(() => expect(heard.kite(id)).toBeUndefined(), { timeout: 10_000, interval: 5 });
    },
    [Symbol.asyncDispose]: async () => {
      await leases.close();
      await pool.end();
    },
  };
}

function leaseOf(id: string, seed: number): NewLease {
  const { generation: _, ...record } = recordOf(id, 0);
  const name = seed % 2 === 0 ? "math" : "disk";
  const visibility = seed % 5 === 0 ? "mesh" : "private";
  const told = { url: `http://127.0.0.1:${seed % 4}`, registeredAt: seed, labels: seed % 7 === 0 ? { zone: "b" } : {} };
  return { ...record, ...told, kite: { ...record.kite, name }, visibility, holder };
}

function recordOf(id: string, generation: number): KiteRecord {
  const kite = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id };
  return { kite, url: "http://127.0.0.1:1", visibility: "private", labels: {}, jti: null, generation, holder, registeredAt: 0 };
}
