import { type Kite, KiteError, type Query, type WatchEvent } from "@kite-mesh/kite";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import { seeded } from "../test-history.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";
import { Directory } from "./directory.ts";
import { Watchers } from "./watch.ts";

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();
let mesh: TestKontrol;
let alice: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl);
  alice = await mesh.person("alice");
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("a change of labels is seen by watchers, in answers and by other kontrols, and changes nothing else", async () => {
  const kite = await registered("loaded", { region: "eu", load: "0.1", old: "yes" });
  await using other = await startTestKontrol(databaseUrl);
  const watching = (await alice.kontrol.watch({ query: { name: "loaded" } }))[Symbol.asyncIterator]();
  const before = await watching.next();

  await kite.updateLabels({ load: "0.9", old: null });

  const labels = { region: "eu", load: "0.9" };
  const { kites } = before.value as Extract<WatchEvent, { type: "snapshot" }>;
  expect((await watching.next()).value).toMatchObject({ type: "registered", kite: { ...kites[0], labels } });
  expect(only((await alice.kontrol.getKites({ query: { name: "loaded" } })).kites).labels).toEqual(labels);
  const there = (await other.person("alice")).kontrol;
  await vi.waitFor(async () => expect(only((await there.getKites({ query: { name: "loaded" } })).kites).labels).toEqual(labels));
  await watching.return?.();
});

test("a kite whose labels leave what a watcher asked for goes, and comes back with them", async () => {
  const kite = await registered("balanced", { load: "0.1" });
  const watching = (await alice.kontrol.watch({ query: { name: "balanced", labels: ["load<0.7"] } }))[Symbol.asyncIterator]();
  const next = async () => (await watching.next()).value as WatchEvent;
  expect(await next()).toMatchObject({ type: "snapshot", kites: [{ labels: { load: "0.1" } }] });

  await kite.updateLabels({ load: "0.8" });
  await kite.updateLabels({ load: "0.9" });
  await kite.updateLabels({ load: "0.2" });

  expect(await next()).toMatchObject({ type: "gone", kite: { id: kite.identity.id }, reason: expect.stringContaining("labels") });
  expect(await next()).toMatchObject({ type: "registered", kite: { labels: { load: "0.2" } } });
  await watching.return?.();
});

test("changes that are sent at once are written in their order", async () => {
  const kite = await registered("busy", {});

  await Promise.all(Array.from({ length: 50 }, (_, step) => kite.updateLabels({ step: String(step), [`only-${step % 3}`]: String(step) })));

  const { labels } = only((await alice.kontrol.getKites({ query: { name: "busy" } })).kites);
  expect(labels).toEqual({ step: "49", "only-0": "48", "only-1": "49", "only-2": "47" });
});

test("labels have limits, belong to the session's own kite, and an expression that cannot be read is said", async () => {
  const kite = await registered("limited", Object.fromEntries(Array.from({ length: 32 }, (_, index) => [`l${index}`, ""])));

  await expect(kite.updateLabels({ more: "1" })).rejects.toMatchObject({ code: "limit_exceeded" });
  await expect(kite.updateLabels({ "no spaces": "1" })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(kite.updateLabels({ l0: null, more: "1" })).resolves.toBeUndefined();
  await expect(alice.kontrol.updateLabels({ labels: { a: "b" } })).rejects.toMatchObject({ code: "failed_precondition" });
  await expect(alice.kontrol.getKites({ query: { labels: ["load<high"] } })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(alice.kontrol.watch({ query: { labels: ["a b"] } })).rejects.toMatchObject({ code: "invalid_argument" });
});

test("a grant does not depend on labels, which change without a word", async () => {
  const query = { name: "limited", labels: ["gpu"] };

  await expect(alice.kontrol.grants.add({ username: "root", role: "viewer", query })).rejects.toMatchObject({ code: "invalid_argument" });
});

test("a kite that registers again has the labels it had", async () => {
  const kite = await registered("returning", { load: "0.1" });
  await kite.updateLabels({ load: "0.5" });
  const generation = async () => only((await alice.kontrol.getKites({ query: { name: "returning" } })).kites).registeredAt;
  const before = await generation();

  mesh.kontrol.kite.endSessions(({ kite: from }) => from?.name === "returning", disconnected());

  await vi.waitFor(async () => expect(await generation()).not.toBe(before), { timeout: 15_000 });
  expect(only((await alice.kontrol.getKites({ query: { name: "returning" } })).kites).labels).toEqual({ load: "0.5" });
});

test("one question and a watch mean the same kites, whatever is asked and whatever changes", async () => {
  const directory = new Directory({ revocationsMs: 600_000 });
  directory.reset({ revision: 0, kites: [], accounts: [], grants: [], teams: [], members: [], keys: [], revocations: [] });
  const watchers = new Watchers(directory, () => 0);
  const write = (change: Parameters<Directory["apply"]>[0]["change"]) => directory.apply({ revision: directory.revision + 1, change });
  write({ kind: "account.changed", account: { username: "alice", kind: "person", admin: false, state: "active" } });
  const queries: Query[] = [{}, { labels: ["region"] }, { labels: ["gpu=true"] }, { labels: ["load<0.7"] }, { labels: ["zone!=b"] }];
  queries.push(
    { name: "n1", version: "^1", labels: ["load>=0.5", "!gpu"] },
    { username: "alice", labels: ["load<=0.2", "zone=a"] },
    { id: "k3" },
  );
  const watches = queries.map((query) => ({
    query,
    seen: new Set<string>(),
    events: watchers.watch({ query, username: "alice" })[Symbol.asyncIterator](),
  }));
  const random = seeded(7);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const someLabels = () => ({
    ...pick([{}, { region: "eu" }]),
    ...pick([{}, { gpu: "true" }, { gpu: "false" }]),
    ...pick([{}, { zone: "a" }, { zone: "b" }]),
    ...pick([{}, { load: "high" }, { load: "0.2" }, { load: "0.6" }]),
  });

  for (let step = 0; step < 500; step++) {
    const id = `k${Math.floor(random() * 8)}`;
    const generation = directory.kite(id)?.generation ?? 0;
    const kite = {
      username: "alice",
      environment: "e",
      name: pick(["n1", "n2"]),
      version: pick(["1.0.0", "2.0.0"]),
      region: "r",
      hostname: "h",
      id,
    };
    const record = {
      kite,
      url: "",
      visibility: "private",
      labels: someLabels(),
      jti: null,
      generation: directory.revision + 1,
      holder: "h",
      registeredAt: 0,
    } as const;
    const stale = pick([0, 0, 0, 1]);
    write(
      pick([
        { kind: "kite.registered", record },
        { kind: "kite.labelled", id, generation: generation - stale, labels: someLabels() },
        { kind: "kite.labelled", id, generation, labels: someLabels() },
        { kind: "kite.gone", id, generation: generation - stale, reason: "left" },
      ]),
    );
    if (step % 20 !== 19) continue;
    for (const { query, seen, events } of watches) {
      await replay(events, seen, directory.revision);
      const answer = [...directory.find(query, "alice", 0)].map(({ record: found }) => found.kite.id);
      expect([...seen].sort(), `step ${step}, ${JSON.stringify(query)}`).toEqual(answer.sort());
    }
  }
  watchers.close(disconnected());
});

/** Reads what is queued; a watch that has nothing to say does not answer within a turn of the event loop. */
async function replay(events: AsyncIterator<WatchEvent>, seen: Set<string>, upTo: number): Promise<void> {
  const pending = events as AsyncIterator<WatchEvent> & { pending?: Promise<IteratorResult<WatchEvent>> | undefined };
  for (;;) {
    pending.pending ??= events.next();
    const turn = new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
    const read = await Promise.race([pending.pending, turn]);
    if (read === undefined) return;
    pending.pending = undefined;
    const event = read.value as WatchEvent;
    if (event.type === "snapshot") seen.clear();
    if (event.type === "snapshot") for (const { kite } of event.kites) seen.add(kite.id);
    if (event.type === "registered") seen.add(event.kite.kite.id);
    if (event.type === "gone") seen.delete(event.kite.id);
    expect(Number(event.revision)).toBeLessThanOrEqual(upTo);
  }
}

async function registered(name: string, labels: Record<string, string>): Promise<Kite> {
  const kite = alice.kite({ name });
  await kite.listen();
  await kite.register({ labels });
  return kite;
}

function disconnected(): KiteError {
  return new KiteError("disconnected", "the test ends it");
}
