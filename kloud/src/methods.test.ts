import type { Remote } from "@kite-mesh/kite";
import { connectedPair, testCaller, until } from "@kite-mesh/kite/testing";
import { expect, test } from "vitest";
import type { KloudContract, OperationEvent } from "./contract.ts";
import { builtinEngine } from "./engine/builtin.ts";
import { execute } from "./execute.ts";
import type { Workshop } from "./job.ts";
import { kloudMethods } from "./methods.ts";
import { KloudService } from "./service.ts";
import { memoryStore } from "./store/memory.ts";
import type { Store } from "./store/store.ts";
import { exampleMesh } from "./testing/example-mesh.ts";
import { exampleProvider } from "./testing/example-provider.ts";
import { Worker } from "./worker.ts";

const HELLO = "name: s\nresource:\n  example_instance:\n    hello:\n";

test("the whole life of a stack, called over a session as its contract says", async () => {
  await using kloud = await serve("ada");
  const { client } = kloud;

  const plan = await client.stack.plan({ template: HELLO });
  const events = await follow(client, await client.stack.apply({ template: HELLO, planId: plan.id }));
  const [machine] = await client.machine.list();
  const machineId = machine?.id ?? "";
  await follow(client, await client.machine.stop({ machineId }));
  expect(await client.machine.info({ machineId })).toMatchObject({ label: "hello", state: "Stopped" });
  await follow(client, await client.machine.start({ machineId }));
  expect(await client.stack.get({ name: "s" })).toMatchObject({ state: "running", machines: [{ state: "Running" }] });
  const destroyed = await client.stack.destroy({ name: "s" });
  await follow(client, destroyed);

  expect(events.at(-1)).toMatchObject({ state: "succeeded", percentage: 100 });
  expect(await client.stack.list()).toEqual([]);
  expect(await client.operation.get({ operationId: destroyed.operationId })).toMatchObject({
    kind: "destroy",
    state: "succeeded",
    percentage: 100,
  });
});

test("only an administrator releases what others own", async () => {
  await using kloud = await serve("ada");
  await using admin = await serve("root", { role: "owner", store: kloud.store });
  await follow(kloud.client, await kloud.client.stack.apply({ template: HELLO }));

  await expect(kloud.client.stack.release({ username: "ada" })).rejects.toMatchObject({ code: "permission_denied" });
  const { operations } = await admin.client.stack.release({ username: "ada" });

  expect(operations).toHaveLength(1);
  await until(() => kloud.provider.things.size === 0);
});

test("arguments of the wrong shape are refused before anything happens", async () => {
  await using kloud = await serve("ada");
  const wrong = { template: 12 } as unknown as { template: string };

  await expect(kloud.client.stack.apply(wrong)).rejects.toMatchObject({
    code: "invalid_argument",
    message: expect.stringContaining("template"),
  });
});

test("a watcher that goes, or whose session ends, leaves nothing behind", async () => {
  const store = memoryStore();
  let listeners = 0;
  const counted: Store = {
    ...store,
    onChange(listener) {
      listeners++;
      const stop = store.onChange(listener);
      return () => {
        listeners--;
        stop();
      };
    },
  };
  const kloud = await serve("ada", { store: counted, worker: false });

  const first = await kloud.client.watch();
  for await (const event of first) {
    expect(event).toEqual({ type: "snapshot", stacks: [] });
    break;
  }
  await until(() => listeners === 0);
  await kloud.client.watch();
  expect(listeners).toBe(1);
  await kloud[Symbol.asyncDispose]();

  await until(() => listeners === 0);
});

interface ServeOptions {
  role?: "viewer" | "owner";
  store?: Store;
  worker?: boolean;
}

async function serve(username: string, { role = "viewer", store = memoryStore(), worker: works = true }: ServeOptions = {}) {
  const provider = exampleProvider();
  const now = () => new Date();
  const engine = builtinEngine({ store, providers: [provider], newId: () => crypto.randomUUID(), now });
  const workshop: Workshop = { store, engine, providers: [provider], mesh: exampleMesh(), now, klientTimeoutMs: 5_000 };
  const log = { warn: () => undefined };
  const worker = new Worker({ store, execute: (run) => execute(workshop, run), log, now });
  if (works) worker.start();
  const methods = kloudMethods(new KloudService({ ...workshop, wake: () => worker.wake(), log }), store);
  const pair = await connectedPair(methods, { authenticate: async () => testCaller({ username, role }) });
  // What is served is what the contract promises: this line does not compile otherwise.
  const client: Remote<KloudContract> = pair.client;
  return {
    client,
    store,
    provider,
    async [Symbol.asyncDispose]() {
      await pair[Symbol.asyncDispose]();
      await worker.close();
    },
  };
}

async function follow(client: Remote<KloudContract>, { operationId }: { operationId: string }): Promise<OperationEvent[]> {
  const events: OperationEvent[] = [];
  for await (const event of await client.operation.watch({ operationId })) events.push(event);
  return events;
}
