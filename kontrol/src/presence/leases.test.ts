import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { openDatabase } from "../database/database.ts";
import { Log } from "../database/log.ts";
import { Directory } from "../directory/directory.ts";
import { Follower } from "../directory/follower.ts";
import { silent } from "../testing.ts";
import { Leases } from "./leases.ts";
import type { NewLease, Present } from "./standing.ts";

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();
const holder = randomUUID();
let pool: pg.Pool;

beforeAll(async () => {
  pool = await openDatabase(databaseUrl, () => {});
});
afterAll(() => pool.end());

test("the generation of a kite grows, and a late word about an older one removes nothing", async () => {
  const leases = open();
  const first = await leases.enter(lease("k1"));
  const second = await leases.enter(lease("k1"));
  expect(second.generation).toBeGreaterThan(first.generation);

  leases.leave({ id: "k1", generation: first.generation, reason: "late" });
  await leases.close();
  expect(await state("k1")).toMatchObject({ generation: second.generation, reason: null });

  const later = open();
  later.leave({ id: "k1", generation: second.generation, reason: "its session closed" });
  await later.close();
  expect(await state("k1")).toMatchObject({ reason: "its session closed" });
});

test.each(["the table", "the directory"])(
  "a kite of somebody else keeps its id, and the others of the batch are entered, by %s",
  async (by) => {
    await using mesh = await follow(by);
    const { leases } = mesh;
    const [mine, fine] = [`mine by ${by}`, `fine by ${by}`] as const;
    await leases.enter(lease(mine));

    const [stolen, entered] = await Promise.allSettled([leases.enter(lease(mine, "mallory")), leases.enter(lease(fine, "mallory"))]);

    expect(stolen).toMatchObject({ status: "rejected", reason: { code: "already_exists" } });
    expect(entered.status).toBe("fulfilled");
    expect(await state(mine)).toMatchObject({ username: "alice" });
    expect(mesh.asked.has(fine)).toBe(by === "the directory");
  },
);

test.each(["the table", "the directory"])(
  "a process that stood still with a registration in its hands does not overwrite the one that came after, by %s",
  async (by) => {
    await using mesh = await follow(by);
    const { leases } = mesh;
    const id = `fenced by ${by}`;
    const { generation } = await leases.enter(lease(id));
    const stale = { ...lease(id), known: generation };
    const successor = await leases.enter({ ...lease(id), holder: randomUUID(), known: generation });

    await expect(leases.enter({ ...stale, holder: randomUUID() })).rejects.toMatchObject({ code: "disconnected" });
    expect(await state(id)).toMatchObject({ generation: successor.generation, reason: null });

    const back = await leases.enter({ ...stale, known: successor.generation });
    expect(await state(id)).toMatchObject({ generation: back.generation });
  },
);

test.each(["the table", "the directory"])(
  "a process that comes back leaves its place to another with its id, and has it again when that is gone, by %s",
  async (by) => {
    await using mesh = await follow(by);
    const { leases } = mesh;
    const id = `shared by ${by}`;
    const [older, newer] = ["older", "newer"].map((instance) => ({ ...lease(id), instance }) as NewLease) as [NewLease, NewLease];
    await leases.enter(older);
    const { generation } = await leases.enter(newer);

    const refused = leases.enter({ ...older, again: true });
    await expect(refused).rejects.toMatchObject({ code: "already_exists", details: { hostname: "h", url: "http://127.0.0.1:1" } });
    await expect(refused).rejects.toThrow(
      /another process .* "shared by the \w+": math 1\.0\.0 on h, at http:\/\/127\.0\.0\.1:1, since \d{4}-.*id of its own/,
    );
    expect(await state(id)).toMatchObject({ generation, reason: null });

    const again = await leases.enter({ ...newer, again: true });
    leases.leave({ id, generation: again.generation, reason: "its session closed" });
    expect(await leases.enter({ ...older, again: true })).toMatchObject({ instance: "older" });
  },
);

test("a directory that was read anew knows whose process has an id", async () => {
  const { generation } = await open().enter({ ...lease("reread"), instance: "there" });
  await using mesh = await follow("the directory");

  const refused = mesh.leases.enter({ ...lease("reread"), instance: "another", again: true });

  await expect(refused).rejects.toMatchObject({ code: "already_exists" });
  expect(mesh.asked.has("reread")).toBe(true);
  expect(await state("reread")).toMatchObject({ generation });
});

test("what another process wrote since the directory had its last word is found in the table", async () => {
  const { rows } = await pool.query<Pick<Present, "revision">>("select revision::float8 as revision from kontrol.head");
  const present = { ...(rows[0] as Pick<Present, "revision">), kite: vi.fn() };
  await open().enter(lease("elsewhere", "mallory"));

  await expect(open(present).enter(lease("elsewhere"))).rejects.toMatchObject({ code: "already_exists" });
  expect(present.kite).not.toHaveBeenCalled();
});

test("a process that has just started takes the place of one that has not left yet", async () => {
  const leases = open();
  await leases.enter({ ...lease("restarted"), instance: "before" });

  const { generation } = await leases.enter({ ...lease("restarted"), instance: "after", again: false });

  expect(await state("restarted")).toMatchObject({ generation, reason: null });
});

test("an instance that is not of the registration that is there, or not known, keeps nobody away", async () => {
  const leases = open();
  await leases.enter({ ...lease("upgraded"), instance: "before" });
  // As a version writes it that knows no instances.
  await pool.query("update kontrol.kites set generation = generation + 1 where id = 'upgraded'");

  await leases.enter({ ...lease("upgraded"), instance: "after", again: true });
  await leases.enter(lease("upgraded"));

  expect(await leases.enter({ ...lease("upgraded"), instance: "after", again: true })).toMatchObject({ instance: "after" });
});

test("words about one kite keep their order in a batch", async () => {
  const leases = open();

  const [first, second] = await Promise.all([leases.enter(lease("same")), leases.enter(lease("same"))]);
  leases.leave({ id: "same", generation: first.generation, reason: "late" });
  await leases.close();

  expect(await state("same")).toMatchObject({ generation: second.generation, reason: null });
});

test("a kite that leaves while the database is away is removed when it is back", async () => {
  const leases = open();
  const { generation } = await leases.enter(lease("leaver"));
  const blocker = await pool.connect();
  await blocker.query("begin");
  await blocker.query("select 1 from kontrol.head for update");

  leases.leave({ id: "leaver", generation, reason: "its session closed" });
  await vi.waitFor(async () => expect(await endWhoWaitsForTheHead()).toBe(1));
  await blocker.query("commit");
  blocker.release();

  await vi.waitFor(async () => expect(await state("leaver")).toMatchObject({ reason: "its session closed" }));
});

test("3,000 kites that register at once are written in a few batches", async () => {
  const leases = open();

  const records = await Promise.all(Array.from({ length: 3_000 }, (_, index) => leases.enter(lease(`bulk-${index}`))));

  expect(new Set(records.map(({ generation }) => generation)).size).toBe(3_000);
  // Six of 500, and one more each time that the first of a batch had to wait for none.
  const { rows } = await pool.query("select count(distinct xmin::text)::int as writes from kontrol.kites where id like 'bulk-%'");
  expect(rows[0].writes).toBeLessThan(20);
});

// Everything has to be asked of the table.
const NOTHING_KNOWN: Present = { revision: Number.NaN, kite: () => undefined };

function open(present = NOTHING_KNOWN): Leases {
  return new Leases({ log: new Log(pool), present, logger: silent, onWritten: async () => {} });
}

/** With a directory, and whose ids were looked for there. */
async function follow(by: string) {
  const directory = new Directory({ revocationsMs: 600_000 });
  const follower = await Follower.start({ databaseUrl, directory, revocationsMs: 600_000, log: silent });
  const asked = new Set<string>();
  const present = {
    get revision() {
      return by === "the directory" ? directory.revision : Number.NaN;
    },
    kite: (id: string) => directory.kite(asked.add(id) && id),
  };
  const log = new Log(pool, (entries) => follower.offer(entries));
  const leases = new Leases({ log, present, logger: silent, onWritten: (revision) => follower.reached(revision) });
  const close = async () => {
    await leases.close();
    await follower.close();
  };
  return { leases, asked, [Symbol.asyncDispose]: close };
}

function lease(id: string, username = "alice"): NewLease {
  const kite = { username, environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id };
  return { kite, url: "http://127.0.0.1:1", visibility: "private", labels: {}, jti: null, holder, registeredAt: Date.now() };
}

async function state(id: string): Promise<unknown> {
  const sql = "select username, generation::float8 as generation, gone_reason as reason from kontrol.kites where id = $1";
  return (await pool.query(sql, [id])).rows[0];
}

/** Breaks the connection of the transaction under way, as a database that goes away does. */
async function endWhoWaitsForTheHead(): Promise<number | null> {
  const waiting = "datname = current_database() and wait_event_type = 'Lock'";
  return (await pool.query(`select pg_terminate_backend(pid) from pg_stat_activity where ${waiting}`)).rowCount;
}
