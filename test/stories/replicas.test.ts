import { Kite, KiteError, method, type Remote, type WatchEvent } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { freshDatabase } from "../postgres.ts";
import { program } from "../programs.ts";
import { type Replicas, startReplicas } from "../replicas.ts";
import { until } from "../until.ts";

// Three kontrols as processes on one PostgreSQL, behind a balancer that knows nothing but TCP.

const LIMIT_MS = 180_000;
const SOON_MS = 60_000;
const EACH = [0, 1, 2];
vi.setConfig({ testTimeout: LIMIT_MS, hookTimeout: LIMIT_MS });
let replicas: Replicas;
let kiteKey: string;
let made = 0;

beforeAll(async () => {
  replicas = await startReplicas(await freshDatabase(), { kontrol: [program("kontrol")] });
  kiteKey = await replicas.person("alice");
});
afterAll(() => replicas?.[Symbol.asyncDispose]());

test("a caller comes to any replica for anything: to register, find, watch, label, and call directly or through the relay", async () => {
  const name = unique("any");
  const watcher = kiteAt(undefined, { name: "watcher" });
  const seen = collect(watcher.watch({ name }));
  const direct = kiteAt(undefined, { name, methods });
  await direct.listen();
  await direct.register({ labels: { load: "0.1" } });
  const hidden = await Promise.all(EACH.map((home) => registered(home, name)));

  await direct.updateLabels({ load: "0.9" });
  const answers = await Promise.all(EACH.flatMap((door) => [direct, ...hidden].map(async (kite) => (await callerOf(door, kite)).add(1))));
  const found = await Promise.all(EACH.map(async (door) => (await kiteAt(door, { name: "finder" }).find({ name })).length));

  expect(answers).toHaveLength(12);
  expect(found).toEqual([4, 4, 4]);
  await until("the watcher to be told of all", SOON_MS, () => stateOf(seen).size === 4 && stateOf(seen).get(direct.identity.id) === "0.9");
  await hidden[0]?.close();
  await until("the watcher to be told that one left", SOON_MS, () => stateOf(seen).size === 3);
});

test("a replica that is killed, restarted, and a rolling restart are no more than a reconnect", async () => {
  const name = unique("busy");
  const seen = collect(kiteAt(undefined, { name: "watcher" }).watch({ name }));
  const kites = await Promise.all(Array.from({ length: 6 }, () => registered(undefined, name)));
  await until("the watcher to be told of all", SOON_MS, () => stateOf(seen).size === kites.length);
  const load = await startLoad(kites);

  await replicas.kill9(0);
  await load.goOn();
  await until("the kites to be held by others", SOON_MS, () => allOpen(kites));
  await replicas.start(0);
  await load.goOn();
  for (const index of EACH) {
    await replicas.stop(index);
    await load.goOn();
    await replicas.start(index);
    await load.goOn();
  }
  await load.stop();

  expect(load.wrong()).toEqual([]);
  expect(load.failures.filter(({ code }) => !["disconnected", "unavailable"].includes(code))).toEqual([]);
  await until("the kites to be back", SOON_MS, () => allOpen(kites));
  expect(seen.filter(({ type }) => type === "gone")).toEqual([]);
  expect([...stateOf(seen).keys()].sort()).toEqual(kites.map(({ identity: { id } }) => id).sort());
  expect(revisionsOf(seen)).toEqual(revisionsOf(seen).toSorted((one, other) => one - other));
});

test("a person who is removed is out everywhere, and what was opened by any way is closed", async () => {
  const name = unique("left");
  const [direct, hidden] = [kiteAt(undefined, { name, methods }), await registered(0, name)];
  await direct.listen();
  await direct.register();
  const bobKey = await replicas.person("bob");
  const alice = kiteAt(undefined, { name: "alice" });
  await alice.kontrol<KontrolContract>().grants.add({ username: "bob", role: "viewer", query: { name } });
  const remotes = await Promise.all(EACH.flatMap((door) => [direct, hidden].map((kite) => callerOf(door, kite, bobKey))));
  await Promise.all(remotes.map((remote) => remote.add(1)));

  await replicas.root.people.remove({ username: "bob" });

  await until("the sessions to end", SOON_MS, () => [direct, hidden].every((kite) => [...kite.sessions].length === 0));
  for (const remote of remotes) await expect(remote.add(1)).rejects.toThrow();
});

interface CountContract {
  add(number: number): Promise<number>;
}

/** How often each number was added, at whichever kite. */
const added = new Map<number, number>();
const methods = {
  add: method({ role: "viewer", input: z.number() }, (number) => {
    added.set(number, (added.get(number) ?? 0) + 1);
    return number;
  }),
};

/** A kite whose kontrol is one replica, or whichever the balancer gives it. */
function kiteAt(
  index: number | undefined,
  { name, key = kiteKey, ...more }: { name: string; key?: string; methods?: typeof methods },
): Kite {
  const kontrolUrl = index === undefined ? replicas.url : replicas.at(index);
  return replicas.closing(new Kite({ name, version: "1.0.0", kiteKey: key, kontrolUrl, ...more }));
}

/** A kite that is reached through the relay alone. */
async function registered(home: number | undefined, name: string): Promise<Kite> {
  const kite = kiteAt(home, { name, methods });
  await kite.register();
  return kite;
}

/** Called through one replica, or whichever the balancer gives; directly when the kite can be dialled. */
async function callerOf(door: number | undefined, { identity: { id } }: Kite, key = kiteKey): Promise<Remote<CountContract>> {
  const at = door === undefined ? replicas.url : replicas.at(door);
  const route = ({ url }: { url: string }) => (url.includes("/relay/") ? `${at}/relay/${id}` : url);
  const caller = replicas.closing(new Kite({ name: "caller", version: "1.0.0", kiteKey: key, kontrolUrl: replicas.url, route }));
  return caller.connect<CountContract>({ id });
}

interface Load {
  readonly failures: KiteError[];
  /** Until every caller has been answered often, since now. */
  goOn(): Promise<void>;
  stop(): Promise<void>;
  /** Numbers that were not added as often as their callers were told. */
  wrong(): string[];
}

/** Callers who add number after number through the balancer, one call at a time each. */
async function startLoad(kites: readonly Kite[]): Promise<Load> {
  const failures: KiteError[] = [];
  const answers = new Map<number, KiteError | undefined>();
  const answered = kites.map(() => 0);
  let stopped = false;
  let number = 1_000;
  const remotes = await Promise.all(kites.map((kite) => callerOf(undefined, kite)));
  const running = remotes.map(async (remote, index) => {
    const kite = kites[index] as Kite;
    while (!stopped) {
      const own = ++number;
      try {
        await remote.add(own);
        answers.set(own, undefined);
        answered[index] = (answered[index] ?? 0) + 1;
      } catch (thrown) {
        const error = KiteError.from(thrown);
        answers.set(own, error);
        failures.push(error);
        // As a caller would, who is told that nobody is there.
        await until("the kite to be there again", SOON_MS, () => stopped || isOpen(kite));
      }
    }
  });
  return {
    failures,
    goOn: async () => {
      const before = [...answered];
      await until("every caller to be answered again", SOON_MS, () => answered.every((count, index) => count > (before[index] ?? 0) + 20));
    },
    stop: async () => {
      stopped = true;
      await Promise.all(running);
    },
    wrong: () =>
      [...answers].flatMap(([own, error]) => {
        const times = added.get(own) ?? 0;
        const right = error === undefined ? times === 1 : error.outcome === "not_run" ? times === 0 : times <= 1;
        return right ? [] : [`${own} was added ${times} times, and its caller was told ${error?.message ?? "that it was added"}`];
      }),
  };
}

/** Whether a kite is in the directory with a session that is open, as any replica knows it. */
async function isOpen({ identity: { id } }: Kite): Promise<boolean> {
  const answer = await replicas.root.why({ id });
  return answer.found && answer.state === "present" && /session is (open|with another)/.test(answer.reason);
}

async function allOpen(kites: readonly Kite[]): Promise<boolean> {
  return (await Promise.all(kites.map(isOpen))).every(Boolean);
}

function collect(events: AsyncIterable<WatchEvent>): WatchEvent[] {
  const seen: WatchEvent[] = [];
  void (async () => {
    for await (const event of events) seen.push(event);
  })().catch(() => {});
  return seen;
}

/** What a watcher believes: the kites by their ids, each with its load. */
function stateOf(seen: readonly WatchEvent[]): Map<string, string | undefined> {
  const state = new Map<string, string | undefined>();
  for (const event of seen) {
    if (event.type === "snapshot") state.clear();
    if (event.type === "gone") state.delete(event.kite.id);
    const told = event.type === "snapshot" ? event.kites : event.type === "registered" ? [event.kite] : [];
    for (const { kite, labels } of told) state.set(kite.id, labels["load"]);
  }
  return state;
}

function revisionsOf(seen: readonly WatchEvent[]): number[] {
  return seen.map(({ revision }) => Number(revision));
}

function unique(name: string): string {
  return `${name}-${made++}`;
}
