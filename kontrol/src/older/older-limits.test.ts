import { setMaxListeners } from "node:events";
import { type Call, formatIdentity } from "@kite-mesh/kite";
import { beforeEach, expect, test, vi } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { Directory } from "../directory/directory.ts";
import type { QueryOptions } from "../directory/query.ts";
import { Watchers } from "../directory/watch.ts";
import { writeKites } from "../directory/written-answers.ts";
import { silent } from "../testing.ts";
import type { Tokens } from "../trust/tokens.ts";
import { type KiteEvent, OlderWatches } from "./older-watches.ts";

// Watches of older kites, and answers to them, without a kontrol around.

let directory: Directory;
let watchers: Watchers;
let issued: number;

beforeEach(() => {
  directory = new Directory({ revocationsMs: 60_000 });
  watchers = new Watchers(directory, Date.now);
  issued = 0;
  change({ kind: "account.changed", account: { username: "alice", kind: "person", admin: false, state: "active" } });
});

test("a watch that was cancelled tells nothing more, and keeps nothing", async () => {
  const { watches, call } = opened();
  const events: KiteEvent[] = [];
  const id = watches.start({}, found(), ({ result }) => events.push(result), call);
  enter("a");
  await vi.waitFor(() => expect(events).toHaveLength(1));

  watches.cancel(id, call);
  enter("b");
  leave("a");

  await settled();
  expect(events.map(({ action, kite }) => `${action} ${kite.id}`)).toEqual(["REGISTER a"]);
  expect(watchers.size).toBe(0);
});

test("a session that ends takes its watches with it", async () => {
  const { watches, call, end } = opened();
  for (let watch = 0; watch < 3; watch++) watches.start({}, found(), () => {}, call);
  expect(watchers.size).toBe(3);

  end();

  await vi.waitFor(() => expect(watchers.size).toBe(0));
});

test("a session watches so many queries and no more, and one more when it has cancelled one", () => {
  const { watches, call } = opened();
  const ids = Array.from({ length: 256 }, () => watches.start({}, found(), () => {}, call));

  expect(() => watches.start({}, found(), () => {}, call)).toThrow(expect.objectContaining({ code: "limit_exceeded" }));

  watches.cancel(ids[0] as string, call);
  expect(watches.start({}, found(), () => {}, call)).toEqual(expect.any(String));
  expect(opened().watches.start({}, found(), () => {}, call)).toEqual(expect.any(String));
});

test("every REGISTER is followed by one DEREGISTER and no second REGISTER without news, whatever comes between", async () => {
  const { watches, call } = opened();
  const events: KiteEvent[] = [];
  watches.start({ version: "~> 1.4, != 1.4.3", labels: ["load<0.7"] }, found(), ({ result }) => events.push(result), call);

  const steps: (() => void)[] = [
    () => enter("a", { load: "0.1" }),
    () => label("a", { load: "0.2" }),
    () => label("a", { load: "0.9" }),
    () => label("a", { load: "0.8" }),
    () => label("a", { load: "0.1" }),
    () => enter("a", { load: "0.1" }, "1.4.3"),
    () => enter("a", { load: "0.1" }, "1.5.0"),
    () => leave("a"),
  ];
  for (const step of steps) {
    step();
    await settled();
  }

  const told = events.map(({ action, kite }) => `${action} ${kite.version}`);
  expect(told).toEqual(["REGISTER 1.4.0", "DEREGISTER 1.4.0", "REGISTER 1.4.0", "DEREGISTER 1.4.0", "REGISTER 1.5.0", "DEREGISTER 1.5.0"]);
});

test("what older kites are answered is signed each time it is asked for, so that the next token after a revocation can be another", async () => {
  enter("a");
  const ask = async (kid: string) => {
    const before = issued;
    for (let time = 0; time < 3; time++) await writeKites({ query: {} }, callOf(kid), options);
    return issued - before;
  };

  expect([await ask("ours"), await ask("older")]).toEqual([1, 3]);
});

const options = {
  get directory() {
    return directory;
  },
  tokens: {
    issue: (({ audience }) => {
      issued++;
      return { token: `${formatIdentity(audience)} ${issued}`, expiresAt: Date.now() + 60_000 };
    }) as Tokens["issue"],
  },
  keys: {
    current: { kid: "ours", alg: "EdDSA" },
    get: (kid: string) => (kid === "older" ? { kid, alg: "RS256" } : undefined),
    currentOf: () => ({ kid: "older", alg: "RS256" }),
  },
  now: Date.now,
  random: Math.random,
} as unknown as QueryOptions;

function opened() {
  const closed = new AbortController();
  // As the signals of sessions: many listen.
  setMaxListeners(0, closed.signal);
  const call = { ...callOf("ours"), session: { id: crypto.randomUUID(), closed: closed.signal } } as Call;
  return { watches: new OlderWatches({ ...options, directory, watchers, logger: silent }), call, end: () => closed.abort() };
}

function callOf(kid: string): Call {
  return { caller: { username: "alice", credential: { type: "kiteKey", jti: kid, kid } } } as unknown as Call;
}

/** The answer that a watch begins with. */
function found() {
  return { kites: [], revision: String(directory.revision) };
}

function change(change: Change): void {
  directory.apply({ revision: directory.revision + 1, change });
}

function enter(id: string, labels: KiteRecord["labels"] = {}, version = "1.4.0"): void {
  const kite = { username: "alice", environment: "e", name: "math", version, region: "r", hostname: "h", id };
  const generation = directory.revision + 1;
  const record: KiteRecord = {
    ...{ kite, url: "http://10.0.0.7:1/kite", visibility: "private", labels, jti: "j" },
    ...{ generation, holder: "h", registeredAt: generation },
  };
  change({ kind: "kite.registered", record });
}

function label(id: string, labels: KiteRecord["labels"]): void {
  change({ kind: "kite.labelled", id, labels, generation: directory.kite(id)?.generation ?? 0 });
}

function leave(id: string): void {
  change({ kind: "kite.gone", id, generation: directory.kite(id)?.generation ?? 0, reason: "its session closed" });
}

/** Until all that was told has been taken. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}
