import { KiteError, type WatchEvent } from "@kite-mesh/kite";
import { testIdentity } from "@kite-mesh/kite/testing";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { startBusyProcess } from "./presence/test-busy-process.ts";
import { startTestKontrol, type WhoContract } from "./testing.ts";

// Real processes, which take seconds to start where others run beside them.
vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000, interval: 50 };
const databaseUrl = await freshDatabase();

test("kites in processes of their own stay in a watcher's view while kontrol restarts; who does not come back leaves it", async () => {
  const first = await startTestKontrol(databaseUrl, { heartbeatMs: 2_000 });
  const port = Number(new URL(first.kontrol.url).port);
  const { kiteKey, kite: make, kontrol } = await first.person("alice");
  await Promise.all(["one", "two", "three"].map((id) => startBusyProcess({ id, kiteKey, kontrolUrl: first.kontrol.url })));
  await kontrol.register({ kite: testIdentity({ name: "busy", id: "leaves" }), url: "ws://127.0.0.1:1" });
  const watcher = make({ name: "watcher" });
  const seen: WatchEvent[] = [];
  const watching = (async () => {
    for await (const event of watcher.watch({ name: "busy" })) seen.push(event);
  })();
  await vi.waitFor(() => expect(seen[0]).toMatchObject({ type: "snapshot", kites: { length: 4 } }), LONG);

  await first.kontrol.close();
  await using _second = await startTestKontrol(databaseUrl, { port, heartbeatMs: 2_000 });
  const gone = () => seen.flatMap((event) => (event.type === "gone" ? [event.kite.id] : []));
  await vi.waitFor(() => expect(gone()).toContain("leaves"), LONG);

  expect(gone()).toEqual(["leaves"]);
  const back = seen.flatMap((event) => (event.type === "registered" ? [event.kite.kite.id] : []));
  expect(new Set(back)).toEqual(new Set(["one", "two", "three"]));
  expect(seen.filter(({ type }) => type === "snapshot")).toHaveLength(1);
  await first[Symbol.asyncDispose]();
  await watching;
});

test("who goes on with a watch at a kontrol that was started anew hears what was missed, and gets no snapshot", async () => {
  const database = await freshDatabase();
  await using staying = await startTestKontrol(database);
  const first = await startTestKontrol(database);
  const alice = await staying.person("alice");
  const [leaving, before] = [testIdentity({ name: "math", id: "leaving" }), testIdentity({ name: "math", id: "before" })];
  const leaver = alice.kite();
  await alice.kontrol.register({ kite: before, url: "ws://127.0.0.1:1" });
  await leaver.kontrol().register({ kite: leaving, url: "ws://127.0.0.1:1" });
  const query = { name: "math" };
  const watching = (await alice.kontrol.watch({ query }))[Symbol.asyncIterator]();
  const { revision } = (await watching.next()).value as WatchEvent;
  await watching.return?.();

  await first[Symbol.asyncDispose]();
  await leaver.close();
  await vi.waitFor(async () => expect(await alice.kontrol.why({ id: "leaving" })).toMatchObject({ state: "gone" }), LONG);
  await alice.kontrol.updateLabels({ labels: { load: "0.9" } });
  await using second = await startTestKontrol(database);
  const asking = second.closing(alice.kite({ kontrolUrl: second.kontrol.url })).kontrol();

  const told: WatchEvent[] = [];
  for await (const event of await asking.watch({ query, since: revision })) if (told.push(event) === 2) break;
  expect(told).toMatchObject([
    { type: "gone", kite: { id: "leaving" }, reason: "its session closed" },
    { type: "registered", kite: { kite: { id: "before" }, labels: { load: "0.9" } } },
  ]);
});

test("while kontrol is down, kites that were found are found, connected to and called, and the answer says how old it is", async () => {
  const mesh = await startTestKontrol(databaseUrl);
  const alice = await mesh.person("alice");
  const [who, other] = [alice.kite({ name: "who" }), alice.kite({ name: "other" })];
  for (const kite of [who, other]) {
    await kite.listen();
    await kite.register();
  }
  const caller = alice.kite({ name: "caller" });
  const connected = await caller.connect<WhoContract>({ name: "who" });
  await connected.who();
  expect(await caller.find({ name: "other" })).toMatchObject([{ kite: other.identity }]);

  await mesh.kontrol.close();

  expect(await connected.who()).toEqual({ username: "alice", role: "owner" });
  expect(await caller.find({ name: "other" })).toMatchObject([{ kite: other.identity, staleMs: expect.any(Number) }]);
  const later = await caller.connect<WhoContract>({ name: "other" });
  expect(await later.who()).toEqual({ username: "alice", role: "owner" });
  await expect(caller.find({ name: "never-asked" })).rejects.toMatchObject({ code: "unavailable" });
  await mesh[Symbol.asyncDispose]();
});

test("a token that is asked for anew is another one", async () => {
  await using mesh = await startTestKontrol(databaseUrl);
  const { kontrol } = await mesh.person("alice");
  const query = { name: "kontrol" };

  const [first, again] = [await kontrol.getToken({ query }), await kontrol.getToken({ query })];
  const renewed = await kontrol.getToken({ query, renew: true });

  expect(again.token).toBe(first.token);
  expect(renewed.token).not.toBe(first.token);
});

test("a kontrol that stops tells each of its kites when to come back", async () => {
  const mesh = await startTestKontrol(databaseUrl);
  const alice = await mesh.person("alice");
  const heard: Promise<unknown>[] = [];
  for (const id of ["four", "five", "six"]) {
    const session = alice.kite({ name: "by-hand", id });
    const { revocations } = await session.kontrol().register({ kite: session.identity, url: "ws://127.0.0.1:1" });
    heard.push(revocations[Symbol.asyncIterator]().next().catch(KiteError.from));
  }

  await mesh.kontrol.close();

  for (const end of await Promise.all(heard))
    expect(end).toMatchObject({ code: "disconnected", details: { retryAfterMs: expect.any(Number) } });
  await mesh[Symbol.asyncDispose]();
});
