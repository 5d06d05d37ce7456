import type { KiteError } from "@kite-mesh/kite";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { OperationStarted } from "./contract.ts";
import { builtinEngine } from "./engine/builtin.ts";
import { execute } from "./execute.ts";
import type { Workshop } from "./job.ts";
import { KloudService } from "./service.ts";
import type { OperationDocument } from "./store/documents.ts";
import { memoryStore } from "./store/memory.ts";
import type { Store } from "./store/store.ts";
import { type ExampleMesh, exampleMesh } from "./testing/example-mesh.ts";
import { type ExampleProvider, exampleProvider } from "./testing/example-provider.ts";
import { readStack, readStacks, watchOperation, watchStacks } from "./watch.ts";
import { Worker } from "./worker.ts";

const ANY = new AbortController().signal;
const ADA = "ada";
const HELLO = stackFile("s", "hello: { size: 1 }");

let store: Store;
let provider: ExampleProvider;
let mesh: ExampleMesh;
let service: KloudService;
let worker: Worker;

beforeEach(() => {
  store = memoryStore();
  provider = exampleProvider();
  mesh = exampleMesh();
  worker = open().worker;
  worker.start();
});

afterEach(() => worker.close());

test("a plan shows what would be made, and makes nothing", async () => {
  const plan = await service.plan(ADA, { template: stackFile("s", "hello: { size: 2, password: top }", "world:") }, ANY);

  expect(plan).toMatchObject({ stack: "s", empty: false, engine: "builtin; example: things in memory" });
  expect(plan.changes.map(({ action, address }) => `${action} ${address}`)).toEqual([
    "create example_instance.hello",
    "create example_instance.world",
  ]);
  expect(plan.machines.map(({ label }) => label)).toEqual(["hello", "world"]);
  expect(provider.things.size).toBe(0);
  expect(await readStacks(store, ADA)).toEqual([]);
});

test("after an apply the machines run, their klients are there, and another plan is empty", async () => {
  const operation = await end(service.apply(ADA, { template: HELLO }, ANY));

  expect(operation).toMatchObject({ state: "succeeded", percentage: 100, error: null });
  expect(await readStacks(store, ADA)).toMatchObject([
    {
      name: "s",
      state: "running",
      operationId: null,
      machines: [{ label: "hello", state: "Running", kiteId: "kite-of-hello", attributes: { size: 1 } }],
    },
  ]);
  expect(mesh.tokensMade).toEqual(["ada: machine hello of stack s"]);
  expect(await service.plan(ADA, { template: HELLO }, ANY)).toMatchObject({ empty: true, changes: [{ action: "none" }] });
});

test("the percentages never fall and have Koding's milestones", async () => {
  const { events } = await end(service.apply(ADA, { template: HELLO }, ANY));

  const percentages = events.map(({ percentage }) => percentage);
  expect(percentages).toEqual([...percentages].sort((a, b) => a - b));
  for (const milestone of [0, 20, 50, 70, 90, 100]) expect(percentages).toContain(milestone);
});

test("a plan that was agreed to is applied as it was shown, or not at all", async () => {
  const plan = await service.plan(ADA, { template: HELLO }, ANY);
  const other = await service.plan(ADA, { template: HELLO, name: "other" }, ANY);

  await expect(service.apply(ADA, { template: HELLO, planId: other.id }, ANY)).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(service.apply("mallory", { template: HELLO, planId: plan.id }, ANY)).rejects.toMatchObject({ code: "not_found" });
  await end(service.apply(ADA, { template: HELLO, planId: plan.id }, ANY));
  await expect(service.apply(ADA, { template: HELLO, planId: plan.id }, ANY)).rejects.toMatchObject({
    code: "failed_precondition",
    message: /plan again/,
  });
});

test("an apply while another operation works on the stack is refused, and says which", async () => {
  mesh.absent.add("hello");
  const first = await service.apply(ADA, { template: HELLO }, ANY);

  await expect(service.apply(ADA, { template: HELLO }, ANY)).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining(`operation ${first.operationId} (apply)`),
  });
  await expect(service.destroy(ADA, "s")).rejects.toMatchObject({ code: "failed_precondition" });
  expect((await store.operations.find({})).map(({ id }) => id)).toEqual([first.operationId]);
});

test("two machines of a stack are stopped at the same time, one machine not twice", async () => {
  await end(service.apply(ADA, { template: stackFile("s", "hello:", "world:") }, ANY));
  const [hello = "", world = ""] = (await store.machines.find({})).map(({ id }) => id);

  const both = await Promise.all([service.stop(ADA, hello, ANY), service.stop(ADA, world, ANY)]);
  await expect(service.start(ADA, hello, ANY)).rejects.toMatchObject({ code: "failed_precondition" });

  for (const started of both) expect((await ended(started)).state).toBe("succeeded");
});

test("a machine is not started while it runs, and what is allowed is said", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));
  const { id = "" } = (await store.machines.find({})).at(0) ?? {};

  await expect(service.start(ADA, id, ANY)).rejects.toMatchObject({
    code: "failed_precondition",
    message: /while machine hello is Running; allowed: stop/,
  });
});

test("a machine that its owner has stopped stays stopped when the stack is applied again", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));
  const { id = "" } = (await store.machines.find({})).at(0) ?? {};
  await end(service.stop(ADA, id, ANY));

  await end(service.apply(ADA, { template: stackFile("s", "hello: { size: 3 }") }, ANY));

  expect(await service.info(ADA, id, ANY)).toMatchObject({ state: "Stopped", resource: { status: "stopped", attributes: { size: 3 } } });
});

test("a klient that never comes fails the apply with what to look at; the next plan replaces that machine", async () => {
  mesh.absent.add("hello");
  restart({ klientTimeoutMs: 50 });

  const operation = await end(service.apply(ADA, { template: HELLO }, ANY));

  expect(operation).toMatchObject({
    state: "failed",
    error: expect.stringMatching(/machine hello did not register within .* kontrol at ws:/),
  });
  expect(await readStacks(store, ADA)).toMatchObject([
    { state: "failed", error: operation.error, operationId: null, machines: [{ state: "Unknown" }] },
  ]);
  expect(await service.plan(ADA, { template: HELLO }, ANY)).toMatchObject({
    changes: [{ action: "replace", replaceReasons: ["its klient has never registered"] }],
  });
});

test("a machine that ends while its klient is awaited fails the apply at once", async () => {
  mesh.absent.add("hello");
  const started = await service.apply(ADA, { template: HELLO }, ANY);
  await vi.waitFor(async () => expect((await store.operations.get(started.operationId))?.percentage).toBe(70));

  provider.tamper("hello", (state) => ({ ...state, status: "stopped" }));

  expect(await ended(started)).toMatchObject({ state: "failed", error: expect.stringContaining("ended before it had registered") });
});

test("a machine whose klient never came is started with a new join token, and is not made twice", async () => {
  mesh.absent.add("hello");
  restart({ klientTimeoutMs: 50 });
  await end(service.apply(ADA, { template: HELLO }, ANY));
  provider.tamper("hello", (state) => ({ ...state, status: "stopped" }));
  mesh.absent.clear();
  const { id = "" } = (await store.machines.find({})).at(0) ?? {};

  const operation = await end(service.start(ADA, id, ANY));

  expect(operation).toMatchObject({ state: "succeeded" });
  expect(provider.effects).toEqual(["create hello", "start hello"]);
  expect(mesh.tokensMade).toHaveLength(2);
});

test("operations that have ended are forgotten when there are many, open ones never", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));
  for (let round = 0; round < 60; round++) await end(service.apply(ADA, { template: HELLO }, ANY));

  expect((await store.operations.find({ owner: ADA })).length).toBeLessThanOrEqual(51);
});

test("one resource that fails does not stop the others; applying again makes only what is missing", async () => {
  provider.failOn("create", "world");
  const template = stackFile("s", "hello:", "world:");

  const operation = await end(service.apply(ADA, { template }, ANY));

  expect(operation).toMatchObject({ state: "failed", error: "example_instance.world: the cloud cannot create world today" });
  provider.failOn(null);
  await end(service.apply(ADA, { template }, ANY));
  expect([...provider.things.values()].map(({ label }) => label).sort()).toEqual(["hello", "world"]);
  expect(await readStacks(store, ADA)).toMatchObject([{ state: "running", error: null }]);
});

test("a stack whose apply failed can be destroyed, half made resources and all", async () => {
  provider.failOn("create", "world");
  await end(service.apply(ADA, { template: stackFile("s", "hello:", "world:") }, ANY));

  await end(service.destroy(ADA, "s"));

  expect(provider.things.size).toBe(0);
  expect(await readStacks(store, ADA)).toEqual([]);
  expect(await store.resources.find({})).toEqual([]);
});

test("a destroy that fails says so, and can be repeated", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));
  provider.failOn("delete");
  expect(await end(service.destroy(ADA, "s"))).toMatchObject({ state: "failed" });

  provider.failOn(null);

  expect(await end(service.destroy(ADA, "s"))).toMatchObject({ state: "succeeded" });
  expect(provider.things.size).toBe(0);
});

test("what is gone at the provider is made again", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));
  provider.tamper("hello", null);

  await end(service.apply(ADA, { template: HELLO }, ANY));

  expect(provider.effects).toEqual(["create hello", "create hello"]);
  expect(await store.machines.find({})).toHaveLength(1);
});

test("a machine name that another stack of the same owner has is refused; another owner may have it", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));

  await expect(service.apply(ADA, { template: HELLO, name: "second" }, ANY)).rejects.toMatchObject({
    code: "already_exists",
    message: /stack s already has a machine called hello/,
  });

  expect(await end(service.apply("grace", { template: HELLO }, ANY))).toMatchObject({ state: "succeeded" });
});

test("to everybody else a stack, a machine or an operation is the same as none", async () => {
  const started = await service.apply(ADA, { template: HELLO }, ANY);
  await ended(started);
  const { id = "" } = (await store.machines.find({})).at(0) ?? {};

  const answers = async (owner: string, name: string, machine: string, operation: string) =>
    await Promise.all(
      [
        service.stack(owner, name),
        service.destroy(owner, name),
        service.info(owner, machine, ANY),
        service.stop(owner, machine, ANY),
        service.operation(owner, operation),
      ].map((answer) => answer.then(String, ({ code, message }: KiteError) => `${code}: ${message.replaceAll(/[0-9a-f-]{36}/g, "ID")}`)),
    );

  const ofOthers = await answers("mallory", "s", id, started.operationId);
  expect(ofOthers).toEqual(await answers("mallory", "s", crypto.randomUUID(), crypto.randomUUID()));
  expect(ofOthers.every((answer) => answer.startsWith("not_found"))).toBe(true);
});

test("everything of a person who left is destroyed, also what is being applied", async () => {
  mesh.absent.add("slow");
  restart({ klientTimeoutMs: 300 });
  await end(service.apply(ADA, { template: HELLO }, ANY));
  await service.apply(ADA, { template: stackFile("busy", "slow:") }, ANY);

  const first = await service.release(ADA);
  const again = await service.release(ADA);

  expect(again).toEqual(first);
  expect(first).toHaveLength(2);
  await vi.waitFor(async () => expect(await readStacks(store, ADA)).toEqual([]));
  expect(provider.things.size).toBe(0);
});

test("machines that should run are started when kloud starts, those that were stopped are not", async () => {
  await end(service.apply(ADA, { template: stackFile("s", "hello:", "world:") }, ANY));
  const world = (await store.machines.find({ label: "world" })).at(0)?.id ?? "";
  await end(service.stop(ADA, world, ANY));
  provider.tamper("hello", (state) => ({ ...state, status: "stopped" }));

  await service.bringBack(ANY);

  await vi.waitFor(async () =>
    expect(await readStacks(store, ADA)).toMatchObject([
      {
        machines: [
          { label: "hello", state: "Running" },
          { label: "world", state: "Stopped" },
        ],
      },
    ]),
  );
  await idle();
  expect(provider.effects.filter((effect) => effect.startsWith("start"))).toEqual(["start hello"]);
});

test("a watcher of an operation sees every event once, also when it comes back later", async () => {
  const started = await service.apply(ADA, { template: HELLO }, ANY);
  const operation = await service.operation(ADA, started.operationId);

  const seen = [];
  for await (const event of watchOperation(store, operation, 0, ANY)) seen.push(event);
  const rest = [];
  for await (const event of watchOperation(store, operation, 3, ANY)) rest.push(event);

  expect(seen.map(({ sequence }) => sequence)).toEqual(seen.map((_, index) => index + 1));
  expect(seen.at(-1)).toMatchObject({ state: "succeeded", percentage: 100, operationId: started.operationId });
  expect(rest).toEqual(seen.slice(3));
});

test("a watcher of stacks gets a snapshot, every change, and is told when one is gone; nothing of others", async () => {
  await end(service.apply(ADA, { template: HELLO }, ANY));
  const over = new AbortController();
  const events = watchStacks(store, ADA, over.signal);
  expect((await events.next()).value).toMatchObject({ type: "snapshot", stacks: [{ name: "s", state: "running" }] });

  await end(service.apply("mallory", { template: HELLO }, ANY));
  await end(service.destroy(ADA, "s"));

  const seen = [];
  for await (const event of events) {
    seen.push(event);
    if (event.type === "stack" && event.stack.state === "gone") break;
  }
  expect(seen.some((event) => event.type === "operation" && event.event.message === "destroy started")).toBe(true);
  expect(JSON.stringify(seen)).not.toContain("mallory");
  over.abort();
});

test("watching ends with its signal, and when its consumer goes while it waits", async () => {
  const over = new AbortController();
  const byCaller = watchStacks(store, ADA, over.signal);
  const byConsumer = watchStacks(store, ADA, ANY);
  await Promise.all([byCaller.next(), byConsumer.next()]);
  const waiting = [byCaller.next(), byConsumer.next()];

  over.abort();
  await byConsumer.return?.();

  expect(await Promise.all(waiting)).toEqual([
    { done: true, value: undefined },
    { done: true, value: undefined },
  ]);
});

test("a sensitive value is in no event, stack, plan or operation that is shown", async () => {
  const template = `${stackFile("s", `hello: { password: '\${var.pw}' }`)}\nvariable: { pw: { sensitive: true } }`;

  const plan = await service.plan(ADA, { template, variables: { pw: "planted-secret" } }, ANY);
  const operation = await end(service.apply(ADA, { template, variables: { pw: "planted-secret" } }, ANY));

  const stack = await readStack(store, operation.stackId);
  expect(JSON.stringify([plan, operation.events, stack])).not.toContain("planted-secret");
  expect(plan.changes[0]?.after).toMatchObject({ password: "(secret)" });
});

test("a shutdown leaves the operation to the next worker, which begins at once", async () => {
  mesh.absent.add("hello");
  const started = await service.apply(ADA, { template: HELLO }, ANY);
  await vi.waitFor(async () => expect((await store.operations.get(started.operationId))?.percentage).toBe(70));
  await worker.close();
  expect(await store.operations.get(started.operationId)).toMatchObject({ state: "running", lease: null });

  mesh.absent.clear();
  restart({});

  expect((await ended(started)).state).toBe("succeeded");
  expect(provider.effects).toEqual(["create hello"]);
});

test.each([
  ["not YAML", "name: [", "invalid_argument"],
  ["no name", "resource: { example_instance: { a: } }", "invalid_argument"],
  ["a variable that is not declared", HELLO, "invalid_argument"],
])("a stack file with %s is refused and leaves nothing", async (_, template, code) => {
  await expect(service.apply(ADA, { template, variables: { x: "1" } }, ANY)).rejects.toMatchObject({ code });

  expect(await store.operations.find({})).toEqual([]);
});

function open(changes: Partial<Workshop> = {}) {
  const now = () => new Date();
  const engine = builtinEngine({ store, providers: [provider], newId: () => crypto.randomUUID(), now });
  const workshop: Workshop = { store, engine, providers: [provider], mesh, now, klientTimeoutMs: 10_000, ...changes };
  const log = { warn: () => undefined };
  const opened = new Worker({ store, execute: (run) => execute(workshop, run), log, now, leaseMs: 2_000 });
  service = new KloudService({ ...workshop, wake: () => opened.wake(), log });
  return { worker: opened };
}

/** Another worker and service on the same store, as after a restart. */
function restart(changes: Partial<Workshop>): void {
  const before = worker;
  worker = open(changes).worker;
  void before.close().then(() => worker.start());
}

async function end(started: Promise<OperationStarted>): Promise<OperationDocument> {
  return await ended(await started);
}

async function ended({ operationId }: OperationStarted): Promise<OperationDocument> {
  return await vi.waitFor(
    async () => {
      const operation = await store.operations.get(operationId);
      if (operation === null || operation.open) throw new Error(`operation ${operationId} is still ${operation?.state}`);
      await idle();
      return operation;
    },
    { timeout: 8_000, interval: 5 },
  );
}

/** Until stacks are released, which comes right after the end of an operation. */
async function idle(): Promise<void> {
  await vi.waitFor(
    async () => {
      const [stacks, open] = await Promise.all([store.stacks.find({}), store.operations.find({ open: true })]);
      const released = stacks.every(({ locks }) => locks.every(({ operationId }) => open.some(({ id }) => id === operationId)));
      if (!released) throw new Error("a stack is still locked by an operation that has ended");
    },
    { timeout: 8_000, interval: 5 },
  );
}

function stackFile(name: string, ...machines: string[]): string {
  return [`name: ${name}`, "resource:", "  example_instance:", ...machines.map((machine) => `    ${machine}`)].join("\n");
}
