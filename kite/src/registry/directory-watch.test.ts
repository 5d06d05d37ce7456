import { expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { testIdentity, until } from "../testing.ts";
import { RegistryClient } from "./kontrol.ts";
import type { WatchEvent } from "./registry.ts";
import { FAST, serveRegistry, TestRegistry } from "./test-registry.ts";

const math = testIdentity({ name: "math", id: "math-1" });

test("a watch goes on from its revision after a lost session", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new RegistryClient({ reach: served.reach, backoff: FAST });
  registry.enter(math);
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of client.watch({ name: "math" })) if (seen.push(describeEvent(event)) === 4) break;
  })();
  await until(() => seen.length === 1);

  registry.enter({ ...math, id: "math-2" });
  await until(() => seen.length === 2);
  served.restart();
  registry.enter({ ...math, id: "math-3" });
  registry.leave("math-1");
  await watching;

  expect(seen).toEqual(["snapshot 1: math-1", "registered 2: math-2", "registered 3: math-3", "gone 4: math-1"]);
  expect(registry.watchedSince).toEqual([undefined, "2"]);
  await until(() => registry.watchers === 0);
});

test("a watch starts again with a snapshot when kontrol does not know its revision", async () => {
  const registry = new TestRegistry();
  registry.enter(math);
  await using client = new RegistryClient({ reach: () => registry, backoff: FAST });
  const events = client.watch({});
  await events.next();

  registry.compacted = true;
  const next = events.next();
  registry.drop();

  expect(await next).toMatchObject({ value: { type: "snapshot" } });
  expect(registry.watchedSince).toEqual([undefined, "1", undefined]);
  await events.return?.();
});

test("a watch says since when it may have missed changes, while kontrol is away", async () => {
  let now = 1_000;
  const registry = new TestRegistry();
  registry.enter(math);
  await using client = new RegistryClient({ reach: () => registry, backoff: FAST, now: () => now });
  const events = client.watch({});
  expect([events.stale, events.asOf]).toEqual([true, undefined]);
  await events.next();

  now = 5_000;
  expect([events.stale, events.asOf]).toEqual([false, 5_000]);
  const next = events.next();
  registry.away = new KiteError("unavailable", "no connection");
  registry.drop();
  await until(() => events.stale);
  now = 65_000;
  expect(events.asOf).toBe(5_000);
  registry.away = undefined;

  // Nothing has changed, and that is known again.
  await until(() => !events.stale);
  expect(events.asOf).toBe(65_000);
  registry.enter({ ...math, id: "math-2" });
  expect(await next).toMatchObject({ value: { type: "registered" } });
  await events.return?.();
});

test("a watch is refused to who may not watch", async () => {
  const registry = new TestRegistry();
  registry.away = new KiteError("permission_denied", "anonymous callers may not watch");
  await using client = new RegistryClient({ reach: () => registry });

  await expect(client.watch({}).next()).rejects.toMatchObject({ code: "permission_denied" });
  expect(() => client.watch({ nme: "math" } as never)).toThrow("and labels, and not nme");
});

test.each<[string, (end: { client: RegistryClient; signal: AbortController; events: AsyncIterator<WatchEvent> }) => unknown]>([
  ["its reader stops", ({ events }) => events.return?.()],
  ["its signal is aborted", ({ signal }) => signal.abort()],
  ["the client is closed", ({ client }) => client[Symbol.asyncDispose]()],
])("a watch that waits ends when %s, and kontrol's side ends too", async (_title, end) => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new RegistryClient({ reach: served.reach });
  const signal = new AbortController();
  const events = client.watch({}, { signal: signal.signal });
  await events.next();
  const waiting = events.next();

  await end({ client, signal, events });

  expect(await waiting).toMatchObject({ done: true });
  await until(() => registry.watchers === 0);
});

function describeEvent(event: WatchEvent): string {
  if (event.type === "snapshot") return `snapshot ${event.revision}: ${event.kites.map(({ kite }) => kite.id).join(" ")}`;
  return `${event.type} ${event.revision}: ${event.type === "gone" ? event.kite.id : event.kite.kite.id}`;
}
