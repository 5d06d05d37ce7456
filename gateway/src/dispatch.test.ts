import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type Bus, KiteError, memoryBus } from "@kite-mesh/kite";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { type Database, openDatabase } from "./database.ts";
import { Dispatcher, type DispatcherOptions, type GitlabEvent } from "./dispatch.ts";
import { readEvent } from "./events.ts";
import { listDeliveries, recordDelivery, replayDelivery } from "./ledger.ts";
import { takeDeliveries } from "./queue.ts";

const silent = pino({ enabled: false });
let url: string;
let database: Database;

beforeAll(async () => {
  url = await freshDatabase();
  database = await openDatabase(url, silent);
}, 60_000);

afterAll(() => database?.end());

beforeEach(() => database.query("truncate gateway.deliveries"));

test("a recorded delivery reaches the subscribers, and is then done", async () => {
  await using bus = memoryBus();
  const seen = listen(bus);
  await using dispatcher = dispatch(bus);

  await record("w1", 41);
  dispatcher.wake();

  await vi.waitFor(async () => expect(await states()).toEqual(["done"]));
  expect(seen).toMatchObject([{ webhookId: "w1", kind: "user_create", scope: "system", replayed: false, body: { user_id: 41 } }]);
});

test("what was recorded while no gateway ran is dispatched at start", async () => {
  await using bus = memoryBus();
  const seen = listen(bus);
  await record("w1", 1);

  await using _dispatcher = dispatch(bus);

  await vi.waitFor(() => expect(seen).toHaveLength(1));
});

test("an event that nobody listens to is done too", async () => {
  await using bus = memoryBus();
  await record("w1", 1);

  await using _dispatcher = dispatch(bus);

  await vi.waitFor(async () => expect(await states()).toEqual(["done"]));
});

test("with nothing to wait for, the next look has no time of its own", async () => {
  const empty = await takeDeliveries(database, { limit: 1, leaseMs: 1_000 });
  await record("w1", 1);
  await takeDeliveries(database, { limit: 1, leaseMs: 60_000 });
  const leased = await takeDeliveries(database, { limit: 1, leaseMs: 1_000 });

  expect(empty.nextInMs).toBeUndefined();
  expect(leased.nextInMs).toBeGreaterThan(30_000);
});

test("events about one object come one after the other and in order, those about others side by side", async () => {
  await using bus = memoryBus();
  const order = new Map<unknown, number[]>();
  let busy = 0;
  let mostBusy = 0;
  const busyUsers = new Set<unknown>();
  bus.subscribe("gitlab.>", async (event) => {
    const { user_id: user, step } = (event as GitlabEvent).body as { user_id: number; step: number };
    expect(busyUsers.has(user)).toBe(false);
    busyUsers.add(user);
    mostBusy = Math.max(mostBusy, ++busy);
    await new Promise((resolve) => setImmediate(resolve));
    order.set(user, [...(order.get(user) ?? []), step]);
    busyUsers.delete(user);
    busy--;
  });
  for (let step = 0; step < 10; step++) {
    for (let user = 0; user < 6; user++) await record(`w${user}-${step}`, user, { step });
  }

  await using first = dispatch(bus, { concurrency: 3 });
  await using second = dispatch(bus, { concurrency: 3 });

  await vi.waitFor(async () => expect(new Set(await states())).toEqual(new Set(["done"])));
  expect(order.size).toBe(6);
  for (const steps of order.values()) expect(steps).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(mostBusy).toBeGreaterThan(1);
  expect([first, second]).toHaveLength(2);
});

test("a failed delivery is tried again, and the later ones of its object wait for it", async () => {
  await using bus = memoryBus();
  const seen: string[] = [];
  let failures = 2;
  bus.subscribe("gitlab.>", (event) => {
    const { webhookId } = event as GitlabEvent;
    if (webhookId === "a1" && failures-- > 0) throw new KiteError("unavailable", "kontrol is away");
    seen.push(webhookId);
  });
  await record("a1", 1);
  await record("a2", 1);

  await using _dispatcher = dispatch(bus, { backoff: () => 10 });

  await vi.waitFor(async () => expect(await states()).toEqual(["done", "done"]));
  expect(seen).toEqual(["a1", "a2"]);
  expect(await listDeliveries(database, {})).toMatchObject([{ tries: 1 }, { tries: 3, lastError: null }]);
});

test("tries are bounded: what goes on failing ends as a dead letter with its reason, and can be replayed", async () => {
  await using bus = memoryBus();
  let broken = true;
  const seen: unknown[] = [];
  bus.subscribe("gitlab.>", (event) => {
    if (broken) throw new Error("kloud said no");
    seen.push(event);
  });
  const { id } = await record("a1", 1);
  await using dispatcher = dispatch(bus, { backoff: () => 1, maxTries: 3 });
  await vi.waitFor(async () =>
    expect(await listDeliveries(database, { state: "dead" })).toMatchObject([{ tries: 3, lastError: "kloud said no" }]),
  );

  broken = false;
  await replayDelivery(database, id);
  dispatcher.wake();

  await vi.waitFor(async () => expect(await states()).toEqual(["done"]));
  expect(seen).toMatchObject([{ deliveryId: id, webhookId: "a1", replayed: true }]);
});

test("what a subscriber cannot read is dead at once", async () => {
  await using bus = memoryBus();
  bus.subscribe("gitlab.>", () => {
    throw new KiteError("invalid_argument", "user_create without user_id");
  });
  await record("a1", 1);

  await using _dispatcher = dispatch(bus);

  await vi.waitFor(async () => expect(await listDeliveries(database, { state: "dead" })).toMatchObject([{ tries: 1 }]));
});

test("a subscriber that hangs costs a try, not the dispatcher", async () => {
  await using bus = memoryBus({ drainMs: 1 });
  bus.subscribe("gitlab.>", () => new Promise(() => undefined));
  await record("a1", 1);

  await using _dispatcher = dispatch(bus, { handlingMs: 20, maxTries: 1 });

  await vi.waitFor(async () =>
    expect(await listDeliveries(database, { state: "dead" })).toMatchObject([{ lastError: expect.stringContaining("longer than 20 ms") }]),
  );
});

test("a gateway that was killed between publishing and marking leaves nothing behind but a second publish", async () => {
  await using bus = memoryBus();
  const effects = new Set<string>();
  bus.subscribe("gitlab.>", (event) => effects.add((event as GitlabEvent).webhookId));
  await record("a1", 1);
  await record("a2", 1);
  // The gateway that died: it took a1, its subscribers have had the event, and it never came to mark it.
  const { deliveries } = await takeDeliveries(database, { limit: 1, leaseMs: 300 });
  effects.add(deliveries[0]!.webhookId);

  await using _dispatcher = dispatch(bus);

  await vi.waitFor(async () => expect(await states()).toEqual(["done", "done"]));
  expect([...effects]).toEqual(["a1", "a2"]);
  expect(await listDeliveries(database, {})).toMatchObject([{ tries: 1 }, { webhookId: "a1", tries: 2 }]);
});

test("a gateway killed with SIGKILL between effect and mark: the next one finishes, and each effect is there once", async () => {
  await database.query("create table effects (webhook_id text primary key)");
  await record("a1", 1);
  await record("a2", 1);
  const script = fileURLToPath(new URL("test-killed-dispatcher.ts", import.meta.url));
  const victim = spawn(process.execPath, ["--conditions=mesh-source", "--import", "tsx", script, url], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(victim.stdout, "data");
  } finally {
    victim.kill("SIGKILL");
    await once(victim, "exit");
  }
  expect(await states()).toEqual(["pending", "pending"]);

  await using bus = memoryBus();
  let seen = 0;
  bus.subscribe("gitlab.>", async (event) => {
    seen++;
    await database.query("insert into effects (webhook_id) values ($1) on conflict do nothing", [(event as GitlabEvent).webhookId]);
  });
  await using _dispatcher = dispatch(bus);

  await vi.waitFor(async () => expect(await states()).toEqual(["done", "done"]));
  const { rows } = await database.query("select webhook_id from effects order by 1");
  expect(rows).toEqual([{ webhook_id: "a1" }, { webhook_id: "a2" }]);
  expect(seen).toBe(2);
}, 30_000);

test("a delivery that ends the gateway each time it is handled ends as a dead letter", async () => {
  await using bus = memoryBus();
  const seen = listen(bus);
  await record("poison", 1);
  await takeDeliveries(database, { limit: 1, leaseMs: 0 });
  await takeDeliveries(database, { limit: 1, leaseMs: 0 });

  await using _dispatcher = dispatch(bus, { maxTries: 2 });

  await vi.waitFor(async () => expect(await states()).toEqual(["dead"]));
  expect(seen).toEqual([]);
});

test("the lease of a delivery that takes long is kept", async () => {
  // Time passes by hand, here and in the database: of a clock, a busy machine is too late for a lease that a test can wait for.
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  await using bus = memoryBus();
  let calls = 0;
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  bus.subscribe("gitlab.>", () => {
    calls++;
    return held;
  });
  await record("a1", 1);
  const leaseMs = 60_000;
  await using _slow = dispatch(bus, { leaseMs });
  await vi.waitFor(() => expect(calls).toBe(1));
  await using _other = dispatch(bus, { leaseMs, safetyMs: 20 });

  for (let third = 0; third < 4; third++) {
    await database.query("update gateway.deliveries set leased_until = leased_until - interval '20 s'");
    const before = await leasedUntil();
    vi.advanceTimersByTime(leaseMs / 3);
    await vi.waitFor(async () => expect(await leasedUntil()).toBeGreaterThan(before));
  }
  release();

  await vi.waitFor(async () => expect(await states()).toEqual(["done"]));
  expect(calls).toBe(1);
});

test("closing waits for the delivery at work, and takes no next one", async () => {
  await using bus = memoryBus();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const seen: string[] = [];
  bus.subscribe("gitlab.>", (event) => {
    seen.push((event as GitlabEvent).webhookId);
    return held;
  });
  await record("a1", 1);
  await record("a2", 1);
  const dispatcher = dispatch(bus);
  await vi.waitFor(() => expect(seen).toEqual(["a1"]));

  const closing = dispatcher[Symbol.asyncDispose]();
  release();
  await closing;

  expect(await states()).toEqual(["pending", "done"]);
  expect(await takeDeliveries(database, { limit: 1, leaseMs: 1_000 })).toMatchObject({ deliveries: [{ webhookId: "a2", tries: 1 }] });
});

function dispatch(bus: Bus, options: Partial<DispatcherOptions> = {}): Dispatcher {
  return new Dispatcher({ database, bus, log: silent, ...options });
}

function listen(bus: Bus): GitlabEvent[] {
  const seen: GitlabEvent[] = [];
  bus.subscribe("gitlab.>", (event) => seen.push(event as GitlabEvent));
  return seen;
}

/** Until when the one delivery is somebody's, by the database's clock. */
async function leasedUntil(): Promise<number> {
  const { rows } = await database.query<{ leased_until: Date }>("select leased_until from gateway.deliveries");
  return rows[0]?.leased_until.getTime() ?? 0;
}

async function states(): Promise<string[]> {
  return (await listDeliveries(database, {})).map(({ state }) => state);
}

async function record(webhookId: string, userId: number, more: object = {}) {
  const body = Buffer.from(JSON.stringify({ event_name: "user_create", user_id: userId, ...more }));
  const reading = readEvent({ headers: { "webhook-id": webhookId, "x-gitlab-event": "System Hook" }, body, instance: "default" });
  if (!reading.ok) throw new Error(reading.sentence);
  return recordDelivery(database, reading.event, body);
}
