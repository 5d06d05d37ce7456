import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { builtinEngine } from "./engine/builtin.ts";
import { execute } from "./execute.ts";
import { isFinished } from "./operation.ts";
import { KloudService } from "./service.ts";
import type { OperationDocument } from "./store/documents.ts";
import { memoryStore } from "./store/memory.ts";
import type { Store } from "./store/store.ts";
import { type CrashPoint, crashPoint } from "./testing/crash-point.ts";
import { exampleMesh } from "./testing/example-mesh.ts";
import { type ExampleProvider, exampleProvider } from "./testing/example-provider.ts";
import { Worker } from "./worker.ts";

/**
 * Every operation is killed at every step that leaves its process: each call of the store, the provider and the mesh, once
 * before it had its effect and once after. Another worker must bring it to the same end, with nothing made twice.
 */
const TWO = stackFile("hello: { size: 1 }", "world: { size: 1 }");
const scenarios = [
  {
    title: "the first apply",
    given: async () => {},
    when: (service: KloudService) => service.apply(ADA, { template: TWO }, ANY),
    effects: ["create disk", "create hello", "create world"],
    machines: { hello: "Running", world: "Running" },
  },
  {
    title: "an apply that changes, replaces, adds and removes",
    given: async (service: KloudService) => void (await service.apply(ADA, { template: TWO }, ANY)),
    when: (service: KloudService) =>
      service.apply(ADA, { template: stackFile("hello: { size: 2 }", "world: { image: large }", "third:") }, ANY),
    effects: ["create third", "create world", "delete world", "update hello"],
    machines: { hello: "Running", third: "Running", world: "Running" },
  },
  {
    title: "a destroy",
    given: async (service: KloudService) => void (await service.apply(ADA, { template: TWO }, ANY)),
    when: (service: KloudService) => service.destroy(ADA, "s"),
    effects: ["delete disk", "delete hello", "delete world"],
    machines: {},
  },
  {
    title: "a stop",
    given: async (service: KloudService) => void (await service.apply(ADA, { template: TWO }, ANY)),
    when: async (service: KloudService, store: Store) => service.stop(ADA, await machineId(store, "hello"), ANY),
    effects: ["stop hello"],
    machines: { hello: "Stopped", world: "Running" },
  },
  {
    title: "a start",
    given: async (service: KloudService, store: Store, settle: () => Promise<void>) => {
      await service.apply(ADA, { template: TWO }, ANY);
      await settle();
      await service.stop(ADA, await machineId(store, "hello"), ANY);
    },
    when: async (service: KloudService, store: Store) => service.start(ADA, await machineId(store, "hello"), ANY),
    effects: ["start hello"],
    machines: { hello: "Running", world: "Running" },
  },
] as const;

for (const when of ["before", "after"] as const) {
  test.each(scenarios)(
    `$title, killed ${when} the effect of any of its steps, is finished by another worker`,
    async (scenario) => {
      const killAt = async (step: number): Promise<boolean> => {
        const world = await prepare(scenario);
        const crash = crashPoint(step, when);

        await killedAt(crash, world, (service, store) => scenario.when(service, store));
        await recover(world);

        const where = `${when} step ${step}`;
        // A request that was killed before its intent was in the store never happened, and its caller was told so.
        const intended = (await everyOperation(world)).length > world.operationsBefore;
        if (intended) await expectEnd(world, scenario, where);
        else expect(world.effects(), where).toEqual([]);
        return crash.crashed;
      };

      let steps = 0;
      let survived = false;
      while (!survived) {
        // Worlds know nothing of each other, and spend their time waiting for leases: many at once.
        const crashed = await Promise.all(Array.from({ length: 24 }, (_, index) => killAt(steps + index + 1)));
        steps += crashed.filter(Boolean).length;
        survived = crashed.includes(false);
      }
      expect(steps, "steps that were killed").toBeGreaterThan(10);
    },
    60_000,
  );
}

test("a worker that was only slow, and wakes up after another has taken over, changes nothing", async () => {
  const world = await newWorld();
  const slow = crashPoint(Number.POSITIVE_INFINITY, "before");
  const gate = signpost();
  const reached = signpost();
  const provider = slow.provider(world.provider);
  const instance = provider.resources.example_instance ?? unreachable();
  const stalling = {
    ...provider,
    resources: {
      ...provider.resources,
      example_instance: {
        ...instance,
        create: async (request: Parameters<typeof instance.create>[0]) => {
          reached.resolve();
          await gate.promise;
          // What every provider does once it had to wait.
          request.signal.throwIfAborted();
          return await instance.create(request);
        },
      },
    },
  };
  const sleeper = workshop(world.store, stalling);
  const sleeping = new Worker({
    store: stalled(world.store, gate.promise, reached.promise),
    execute: (run) => execute(sleeper, run),
    log: quiet,
    now,
    leaseMs: LEASE_MS,
  });
  sleeping.start();
  const service = new KloudService({ ...sleeper, wake: () => sleeping.wake(), log: quiet });
  await service.apply(ADA, { template: stackFile("hello: {}") }, ANY);
  await reached.promise;

  await recover(world);
  await new KloudService({ ...workshop(world.store, world.provider), wake: () => undefined, log: quiet }).destroy(ADA, "s");
  await recover(world);
  gate.resolve();
  await sleeping.close();

  expect(await world.store.resources.find({})).toEqual([]);
  expect(await world.store.machines.find({})).toEqual([]);
  expect([...world.provider.things.values()].map(({ label }) => label)).toEqual([]);
});

const ADA = "ada";
const ANY = new AbortController().signal;
// So short that recovery after each of some hundred crashes is quick, so long that a busy test machine keeps its leases.
const LEASE_MS = 150;
const quiet = { warn: () => undefined };
const now = () => new Date();

interface World {
  store: Store;
  provider: ExampleProvider;
  operationsBefore: number;
  /** What happened at the provider since the scenario began. */
  effects: () => string[];
}

async function newWorld(): Promise<World> {
  const provider = exampleProvider();
  return { store: memoryStore(), provider, operationsBefore: 0, effects: () => [...provider.effects].sort() };
}

async function prepare(scenario: {
  given: (service: KloudService, store: Store, settle: () => Promise<void>) => Promise<void>;
}): Promise<World> {
  const world = await newWorld();
  const service = new KloudService({ ...workshop(world.store, world.provider), wake: () => undefined, log: quiet });
  await scenario.given(service, world.store, () => recover(world));
  await recover(world);
  const before = world.provider.effects.length;
  return { ...world, operationsBefore: (await everyOperation(world)).length, effects: () => world.provider.effects.slice(before).sort() };
}

/** Runs request and worker in a process that dies at its step. */
async function killedAt(
  crash: CrashPoint,
  world: World,
  request: (service: KloudService, store: Store) => Promise<unknown>,
): Promise<void> {
  const store = crash.store(world.store);
  const shop = workshop(store, crash.provider(world.provider), crash);
  const worker = new Worker({ store, execute: (run) => execute(shop, run), log: quiet, now, leaseMs: LEASE_MS * 10 });
  // Whether the request was answered or lost its process: what counts is what it left in the store.
  await request(new KloudService({ ...shop, wake: () => undefined, log: quiet }), world.store).catch(() => undefined);
  worker.start();
  await until(async () => crash.crashed || (await world.store.operations.find({ open: true })).length === 0);
  await worker.close();
}

/** A new process with a new worker, until nothing is left to do. */
async function recover(world: World): Promise<void> {
  const shop = workshop(world.store, world.provider);
  const worker = new Worker({ store: world.store, execute: (run) => execute(shop, run), log: quiet, now, leaseMs: LEASE_MS });
  worker.start();
  await until(async () => (await world.store.operations.find({ open: true })).length === 0);
  await worker.close();
}

async function expectEnd(
  world: World,
  scenario: { effects: readonly string[]; machines: Readonly<Record<string, string>>; title: string },
  where: string,
): Promise<void> {
  const operations = await everyOperation(world);
  expect(
    operations.map(({ state, error }) => ({ state, error })),
    where,
  ).toEqual(operations.map(() => ({ state: "succeeded", error: null })));
  for (const { events } of operations)
    expect(
      events.map(({ sequence }) => sequence),
      where,
    ).toEqual(events.map((_, index) => index + 1));

  expect(world.effects(), `${where}: made once, nothing twice`).toEqual(scenario.effects);
  const machines = await world.store.machines.find({ owner: ADA });
  expect(Object.fromEntries(machines.map(({ label, state }) => [label, state])), where).toEqual(scenario.machines);
  const known = (await world.store.resources.find({})).map(({ id }) => id).sort();
  expect([...world.provider.things.keys()].sort(), `${where}: no orphan, no phantom`).toEqual(known);
  const stacks = await world.store.stacks.find({ owner: ADA });
  // A lock may outlive its operation by a crash; the next claim sees that it is stale.
  for (const { locks } of stacks)
    for (const { operationId } of locks) expect(isFinished((await world.store.operations.get(operationId)) ?? unreachable())).toBe(true);
  expect(
    stacks.map(({ state }) => state),
    where,
  ).toEqual(scenario.title === "a destroy" ? [] : ["running"]);
}

function workshop(store: Store, provider: ExampleProvider | ReturnType<CrashPoint["provider"]>, crash?: CrashPoint) {
  const engine = builtinEngine({ store, providers: [provider], newId: () => crypto.randomUUID(), now });
  const mesh = exampleMesh();
  return { store, engine, providers: [provider], mesh: crash === undefined ? mesh : crash.mesh(mesh), now, klientTimeoutMs: 5_000 };
}

async function everyOperation({ store }: World): Promise<OperationDocument[]> {
  return await store.operations.find({});
}

async function machineId(store: Store, label: string): Promise<string> {
  return (await store.machines.find({ owner: ADA, label })).at(0)?.id ?? unreachable();
}

/** A store that answers nothing from one moment until another: how a paused process sees it. */
function stalled(store: Store, until: Promise<void>, from: Promise<void>): Store {
  let paused = false;
  void from.then(() => (paused = true));
  void until.then(() => (paused = false));
  const operations = {
    ...store.operations,
    replace: async (document: OperationDocument) => {
      if (paused) await until;
      return await store.operations.replace(document);
    },
  };
  return { ...store, operations };
}

function signpost(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error("the operations did not end within 30 s");
    await pause(10);
  }
}

function stackFile(...machines: string[]): string {
  return [
    "name: s",
    "resource:",
    "  example_disk:",
    "    disk: { gigabytes: 1 }",
    "  example_instance:",
    ...machines.map((machine) => `    ${machine}`),
  ].join("\n");
}

function unreachable(): never {
  throw new Error("this cannot happen");
}
