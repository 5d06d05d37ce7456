import { randomUUID } from "node:crypto";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { Log } from "../database/log.ts";
import { Directory } from "../directory/directory.ts";
import { Follower } from "../directory/follower.ts";
import { silent } from "../testing.ts";
import { Leases } from "./leases.ts";
import { Replicas } from "./replicas.ts";
import { Upkeep } from "./upkeep.ts";

vi.setConfig({ testTimeout: 90_000 });
// What is two and a half beats old stays so for longer than a busy machine needs to say it anew.
const BEAT_MS = 3_000;
const LONG = { timeout: 60_000, interval: 100 };

test("the kites of a kontrol that said it was leaving wait two beats, of one that could not say so three, and of one that lives for ever", async () => {
  const databaseUrl = await freshDatabase();
  const pool = await openDatabase(databaseUrl, () => {});
  const directory = new Directory({ revocationsMs: 600_000 });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent });
  const log = new Log(pool, (entries) => follower.offer(entries));
  const leases = new Leases({ log, present: directory, logger: silent, onWritten: (revision) => follower.reached(revision) });
  const holder = randomUUID();
  const replicas = new Replicas({ pool, holder, heartbeatMs: BEAT_MS });
  /** Says of a replica when it beat last, in beats, and whether it has said that it leaves. */
  const beat = (id: string, beatsAgo: number, url: string | null) => pool.query(SAID, [id, (beatsAgo * BEAT_MS) / 1_000, url, BEAT_MS]);
  const [said, unsaid, lost, alive] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];
  for (const [id, of] of Object.entries({ said, unsaid, lost, alive, unknown: randomUUID() })) {
    const kite = { username: "alice", environment: "e", name: "math", version: "1.0.0", region: "r", hostname: "h", id };
    const told = { url: "http://127.0.0.1:1", visibility: "private", labels: {}, jti: randomUUID() } as const;
    await leases.enter({ kite, ...told, holder: of, registeredAt: Date.now() });
  }
  const now = async () => {
    await beat(said, 2.5, null);
    await beat(unsaid, 2.5, "http://127.0.0.1:2");
    await beat(lost, 3.5, "http://127.0.0.1:3");
    await beat(alive, 0, "http://127.0.0.1:4");
  };
  await now();
  const own = { holder, replicas, replicaUrl: "http://127.0.0.1:1", heartbeatMs: BEAT_MS };
  const upkeep = await Upkeep.start({ pool, directory, follower, leases, log, ...own, logger: silent, now: Date.now });

  // None before two beats have passed in which all could have said that they live; then those at once whose time is over.
  await vi.waitFor(async () => {
    await now();
    expect([...directory.kites()].map(({ kite }) => kite.id).toSorted()).toEqual(["alive", "unsaid"]);
  }, LONG);

  await upkeep.close();
  await leases.close();
  await follower.close();
  await pool.end();
});

const SAID = `
  insert into kontrol.replicas (id, beat_at, url, heartbeat_ms) values ($1, now() - $2::float8 * interval '1 second', $3, $4)
  on conflict (id) do update set beat_at = excluded.beat_at, url = excluded.url`;
