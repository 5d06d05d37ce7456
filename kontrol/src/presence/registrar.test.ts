import { type Call, KiteError, type Register, type Revocation } from "@kite-mesh/kite";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { Directory } from "../directory/directory.ts";
import { silent } from "../testing.ts";
import type { LeavingLease } from "./leases.ts";
import { type Held, Registrar } from "./registrar.ts";
import { Slots } from "./slots.ts";
import type { NewLease } from "./standing.ts";

// What a kontrol does with the registrations that it looks after, by a clock of the test's.

const BEAT_MS = 10_000;
const HERE = "here";
let upMs = 0;

beforeEach(() => {
  vi.useFakeTimers({ now: 1_700_000_000_000 });
  upMs = 1_000;
  vi.spyOn(performance, "now").mockImplementation(() => upMs);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

test("a kite that misses two beats leaves, and not before", async () => {
  const { registrar, left } = opened();
  const held = await registered(registrar, "a");
  await passes(1.9);
  expect(left).toEqual([]);

  await passes(0.5);

  expect(left).toEqual([{ id: "a", generation: held.record.generation, reason: "it missed 2 heartbeats" }]);
  expect(registrar.beat(held)).toBe(false);
  registrar.close();
});

test("a kontrol that stood still itself blames nobody: the beats of that time wait in its sockets", async () => {
  const { registrar, left } = opened();
  const held = await registered(registrar, "a");
  await passes(1);

  // As when its process was stopped: the clock went on, its timers did not.
  upMs += 60 * BEAT_MS;
  await passes(0.5);

  expect(left).toEqual([]);
  expect(registrar.beat(held)).toBe(true);
  await passes(2.5);
  expect(left).toMatchObject([{ id: "a", reason: "it missed 2 heartbeats" }]);
  registrar.close();
});

test("what was entered for a kite that never got the answer leaves after two beats; what others hold, and kontrol's own, stays", async () => {
  const { registrar, left, enter } = opened();
  enter(recordOf("abandoned", { holder: HERE }));
  enter(recordOf("elsewhere", { holder: "there" }));
  enter(recordOf("kontrol", { holder: HERE, jti: null }));

  await passes(1.5);
  expect(left).toEqual([]);
  await passes(1);

  expect(new Set(left.map(({ id }) => id))).toEqual(new Set(["abandoned"]));
  expect(left[0]).toMatchObject({ generation: 1, reason: "its registration was not completed" });
  registrar.close();
});

test("a kite that does not read what was revoked is let go when a thousand wait, and keeps no more of them", async () => {
  const { registrar, change } = opened();
  const held = await registered(registrar, "deaf");
  const heard = held.revocations[Symbol.asyncIterator]();

  for (let n = 0; n < 1_500; n++) change({ kind: "revoked", revocation: { username: `person-${n}`, reason: "removed" }, at: Date.now() });

  expect(held.revocations.size).toBe(1_000);
  const read: Revocation[] = [];
  const end = await (async () => {
    for (;;) read.push((await heard.next()).value as Revocation);
  })().catch(KiteError.from);
  expect(read.map(({ username }) => username)).toEqual(Array.from({ length: 1_000 }, (_, n) => `person-${n}`));
  expect(end).toMatchObject({ code: "overloaded", message: expect.stringContaining("register again") });
  registrar.close();
});

test("of what was revoked lately a kite that registers hears what is about it or about everybody, and of no other kite's", async () => {
  const { registrar, change } = opened();
  for (const revocation of [{ username: "bob" }, { kite: "mine", username: "bob" }, { kite: "other", username: "bob" }, { jti: "j" }])
    change({ kind: "revoked", revocation: { ...revocation, reason: "taken back" }, at: Date.now() });

  const { revocations } = await registrar.register(asked("mine"), callOf("s"));

  const heard = revocations[Symbol.asyncIterator]();
  const told = [await heard.next(), await heard.next(), await heard.next()].map(({ value }) => value);
  expect(told).toMatchObject([{ username: "bob" }, { kite: "mine" }, { jti: "j" }]);
  change({ kind: "revoked", revocation: { kite: "other", reason: "taken back" }, at: Date.now() });
  change({ kind: "revoked", revocation: { kite: "mine", reason: "taken back" }, at: Date.now() });
  expect((await heard.next()).value).toMatchObject({ kite: "mine", revision: "7" });
  registrar.close();
});

test("a session that ended while its kite was being written does not leave it behind", async () => {
  const { registrar, left } = opened();
  const ended = callOf("s", AbortSignal.abort());

  const held = await registrar.enter(asked("a"), ended, 2 * BEAT_MS);

  expect(left).toEqual([{ id: "a", generation: held.record.generation, reason: "its session closed" }]);
  expect(registrar.size).toBe(0);
  registrar.close();
});

test("a registration whose place was taken while it was being written is not looked after, and says so", async () => {
  const { registrar, left, enter, during } = opened();
  during(() => enter(recordOf("a", { holder: "there" })));

  await expect(registered(registrar, "a")).rejects.toMatchObject({ code: "disconnected", message: expect.stringContaining("replaced") });

  expect(registrar.size).toBe(0);
  await passes(5);
  expect(left).toEqual([]);
  registrar.close();
});

function opened() {
  const directory = new Directory({ revocationsMs: 3_600_000 });
  directory.reset({ revision: 0, kites: [], accounts: [], grants: [], teams: [], members: [], keys: [], revocations: [] });
  const change = (change: Change) => directory.apply({ revision: directory.revision + 1, change });
  const enter = (record: KiteRecord) => {
    const written = { ...record, generation: directory.revision + 1 };
    change({ kind: "kite.registered", record: written });
    return written;
  };
  const left: LeavingLease[] = [];
  let meanwhile: () => unknown = () => undefined;
  const leases = {
    enter: async ({ machine: _, known: __, again: ___, ...lease }: NewLease) => {
      const record = enter({ ...lease, generation: 0 });
      meanwhile();
      return record;
    },
    leave: (leaving: LeavingLease) => {
      left.push(leaving);
      const { id, generation, reason } = leaving;
      change({ kind: "kite.gone", id, generation, reason });
    },
  };
  const registrar = new Registrar({
    directory,
    leases: leases as unknown as ConstructorParameters<typeof Registrar>[0]["leases"],
    slots: new Slots({ nowMs: () => upMs }),
    holder: HERE,
    relayUrl: () => "http://127.0.0.1:1/relay",
    heartbeatMs: BEAT_MS,
    renewKey: async () => undefined,
    logger: silent,
    now: Date.now,
  });
  const during = (happens: () => unknown) => {
    meanwhile = happens;
  };
  return { registrar, left, change, enter, during };
}

/** So many beats' time, in small steps, as clocks and timers have it. */
async function passes(beats: number): Promise<void> {
  for (let step = 0; step < beats * 20; step++) {
    upMs += BEAT_MS / 20;
    await vi.advanceTimersByTimeAsync(BEAT_MS / 20);
  }
}

function registered(registrar: Registrar, id: string): Promise<Held> {
  return registrar.enter(asked(id), callOf(id), 2 * BEAT_MS);
}

function asked(id: string): Register {
  return { kite: recordOf(id).kite, url: "http://127.0.0.1:1" } as Register;
}

function callOf(session: string, closed: AbortSignal = new AbortController().signal): Call {
  const caller = { username: "alice", credential: { type: "kiteKey", jti: "key", kid: "k" } };
  return { caller, session: { id: session, closed } } as unknown as Call;
}

function recordOf(id: string, more: Partial<KiteRecord> = {}): KiteRecord {
  const kite = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id };
  const told = { url: "http://127.0.0.1:1", visibility: "private" as const, labels: {} };
  return { kite, ...told, jti: "key", generation: 0, holder: HERE, registeredAt: Date.now(), ...more };
}
