import { afterEach, expect, test, vi } from "vitest";
import { sleep } from "../abortable.ts";
import { KiteError } from "../errors.ts";
import { testIdentity, until } from "../testing.ts";
import { Registrar } from "./registrar.ts";
import type { OwnBeats } from "./registration.ts";
import type { Register, Revocation } from "./registry.ts";
import { FAST, serveRegistry, TestRegistry } from "./test-registry.ts";

const math = testIdentity({ name: "math", id: "math-1" });

afterEach(() => {
  vi.useRealTimers();
});

test("a registered kite beats, and is in the directory under what kontrol made of it", async () => {
  const registry = new TestRegistry({ heartbeatMs: 5 });
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach });

  const registered = await client.register({ kite: math, url: "ws://here" });

  expect(registered).toMatchObject({ kite: math, url: "ws://here", generation: "1" });
  expect(client.state).toMatchObject({ state: "registered" });
  await until(() => registry.beats >= 3);
});

test("a registered kite registers again when its session is lost, and says so meanwhile", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });
  await client.register({ kite: math });
  const states: string[] = [];
  client.onState((state) => states.push(state?.state ?? "none"));

  served.restart();

  await until(() => registry.registrations === 2);
  await until(() => client.state?.state === "registered");
  expect(states).toEqual(["registering", "registered"]);
});

test("a kite says that it comes back, as the same instance, and every other is another one", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });
  await using other = new Registrar({ reach: served.reach, backoff: FAST });
  await client.register({ kite: math });

  registry.drop();
  await until(() => registry.registrations === 2);
  await other.register({ kite: math });

  const [first, again, apart] = registry.registered;
  expect(first).toMatchObject({ instance: expect.any(String), again: false });
  expect(again).toMatchObject({ instance: first?.instance, again: true });
  expect(apart?.again).toBe(false);
  expect(apart?.instance).not.toBe(first?.instance);
});

test("a kite whose place another process took says so once, asks seldom, and comes back when it may", async () => {
  vi.useFakeTimers();
  const warnings: unknown[] = [];
  const log = { debug() {}, info() {}, warn: (said: unknown) => warnings.push(said), error() {} };
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST, log });
  await client.register({ kite: math });

  registry.refuse = new KiteError("already_exists", "another process has registered with the id");
  registry.drop(registry.refuse);
  await vi.advanceTimersByTimeAsync(25_000);
  expect(registry.refusals).toBe(0);
  await vi.advanceTimersByTimeAsync(300_000);

  expect(registry.refusals).toBeGreaterThan(3);
  expect(warnings).toEqual([{ code: "already_exists", error: expect.stringContaining("another process") }]);
  registry.refuse = undefined;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(client.state).toMatchObject({ state: "registered" });
});

test("labels that were changed stay through a registration to come", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });
  await expect(client.updateLabels({ load: "0.1" })).rejects.toMatchObject({ code: "failed_precondition" });
  await client.register({ kite: math, labels: { load: "0.1", zone: "a" } });

  await client.updateLabels({ load: "0.9", zone: null });
  served.restart();
  await until(() => registry.registrations === 2);

  expect(registry.labelChanges).toEqual([{ load: "0.9", zone: null }]);
  expect(registry.labelled).toEqual([{ load: "0.1", zone: "a" }, { load: "0.9" }]);
});

test("labels that change while kontrol is away are in the next registration; those it refuses are in none", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });
  await client.register({ kite: math, labels: { load: "0.1" } });
  registry.away = new KiteError("invalid_argument", "no such labels");
  await expect(client.updateLabels({ "?": "1" })).rejects.toMatchObject({ code: "invalid_argument" });

  served.pair.block();
  served.restart();
  await until(() => client.state?.state === "registering" && client.state.tries >= 1);
  await client.updateLabels({ load: "0.5" });
  served.pair.mend();

  await until(() => registry.registrations === 2);
  expect(registry.labelled.at(-1)).toEqual({ load: "0.5" });
});

test("labels that kontrol cannot write are told again until it can, as they are by then, and the registration stands", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });
  await client.register({ kite: math, labels: { load: "0.1", zone: "a" } });

  registry.away = new KiteError("unavailable", "kontrol cannot reach its database");
  await client.updateLabels({ load: "0.5", zone: null });
  await client.updateLabels({ load: "0.9" });
  registry.away = undefined;

  await until(() => registry.labelChanges.length > 0);
  expect(registry.labelChanges).toEqual([{ load: "0.9", zone: null }]);
  expect(registry.registrations).toBe(1);
});

test("a registered kite goes on trying while kontrol is away", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });
  await client.register({ kite: math });

  served.pair.block();
  served.restart();
  await until(() => client.state?.state === "registering" && client.state.tries >= 3);
  expect(client.state).toMatchObject({ error: { code: expect.stringMatching(/unavailable|disconnected/) } });
  served.pair.mend();

  await until(() => client.state?.state === "registered");
});

test("a registered kite registers again when heartbeats are no longer answered", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry({ heartbeatMs: 1_000, deaf: true });
  await using client = new Registrar({ reach: () => registry, random: () => 0 });
  await client.register({ kite: math });

  await vi.advanceTimersByTimeAsync(2_900);
  expect(registry.registrations).toBe(1);
  await vi.advanceTimersByTimeAsync(200);

  expect(registry.registrations).toBe(2);
});

test("a kontrol that does not answer for half a beat is doubted, one that ceases to answer beats from elsewhere at once", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry({ heartbeatMs: 4_000, deaf: true });
  const doubt = vi.fn(async () => {});
  const lapse = new AbortController();
  const own: OwnBeats = {
    get answered() {
      return !lapse.signal.aborted;
    },
    wait: (ms, signal) => sleep(ms, { signal: AbortSignal.any([signal, lapse.signal]) }).catch(() => signal.throwIfAborted()),
    [Symbol.dispose]: () => {},
  };
  await using alone = new Registrar({ reach: () => registry, random: () => 0, doubt });
  await using threaded = new Registrar({ beats: () => own, reach: () => registry, random: () => 0, doubt });
  await alone.register({ kite: math });
  await threaded.register({ kite: math });

  await vi.advanceTimersByTimeAsync(5_900);
  expect(doubt).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(200);
  expect(doubt).toHaveBeenCalledExactlyOnceWith(1_000, expect.anything());
  lapse.abort();
  await vi.advanceTimersByTimeAsync(1);

  expect(doubt).toHaveBeenCalledTimes(2);
});

test("a registered kite is told what was revoked, once, also when kontrol repeats it", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  const heard: string[] = [];
  const onRevoked = ({ reason }: Revocation) => {
    heard.push(reason);
    throw new Error("the listener fails");
  };
  await using client = new Registrar({ reach: served.reach, backoff: FAST, onRevoked });
  await client.register({ kite: math });

  registry.revoke({ revision: "7", username: "bob", reason: "removed" });
  await until(() => heard.length === 1);
  served.restart();
  await until(() => registry.registrations === 2);
  registry.revoke({ revision: "8", username: "carol", reason: "left" });

  await until(() => heard.length === 2);
  expect(heard).toEqual(["removed", "left"]);
});

test("a kite that stayed while kontrol's database was restored hears of what is revoked under a revision that was there before", async () => {
  const registry = new TestRegistry();
  await using served = await serveRegistry(registry);
  const heard: string[] = [];
  await using client = new Registrar({ reach: served.reach, backoff: FAST, onRevoked: ({ reason }) => heard.push(reason) });
  await client.register({ kite: math });
  registry.revoke({ revision: "7", username: "bob", reason: "before the backup", at: 1_000 });
  await until(() => heard.length === 1);

  registry.revoke({ revision: "7", username: "carol", reason: "after it", at: 2_000 });

  await until(() => heard.length === 2);
  expect(heard).toEqual(["before the backup", "after it"]);
});

test("a registered kite hands on the kite.key that replaces its own", async () => {
  const registry = new TestRegistry({ kiteKey: "new.key.jwt" });
  const onKey = vi.fn();
  await using client = new Registrar({ reach: () => registry, onKey });

  await client.register({ kite: math });

  await vi.waitFor(() => expect(onKey).toHaveBeenCalledExactlyOnceWith("new.key.jwt"));
});

test("a kite that is refused at first hears why, and nothing goes on", async () => {
  const registry = new TestRegistry();
  registry.refuse = new KiteError("permission_denied", "this key may not register as mesh");
  await using served = await serveRegistry(registry);
  await using client = new Registrar({ reach: served.reach, backoff: FAST });

  await expect(client.register({ kite: math, visibility: "mesh" })).rejects.toMatchObject({ code: "permission_denied" });

  expect(client.state).toEqual({ state: "closed" });
  expect(registry.registrations).toBe(0);
});

test("a kite that is refused later asks again, but seldom", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry();
  await using client = new Registrar({ reach: () => registry, random: () => 0 });
  await client.register({ kite: math });

  registry.refuse = new KiteError("unauthenticated", "the account is unknown");
  registry.drop();
  await vi.advanceTimersByTimeAsync(59_000);
  expect(registry.refusals).toBe(1);
  registry.refuse = undefined;
  await vi.advanceTimersByTimeAsync(2_000);

  expect(client.state).toMatchObject({ state: "registered" });
});

test("a kite that kontrol gave a time comes then, and not before", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry();
  await using client = new Registrar({ reach: () => registry, random: () => 0 });
  await client.register({ kite: math });

  registry.drop(new KiteError("disconnected", "kontrol is stopping", { details: { retryAfterMs: 7_000 } }));
  await vi.advanceTimersByTimeAsync(6_900);
  expect(registry.registrations).toBe(1);
  registry.refuse = new KiteError("overloaded", "this one's turn comes later", { details: { retryAfterMs: 3_000 } });
  await vi.advanceTimersByTimeAsync(200);
  registry.refuse = undefined;
  await vi.advanceTimersByTimeAsync(2_800);
  expect(registry).toMatchObject({ registrations: 1, refusals: 1 });
  await vi.advanceTimersByTimeAsync(200);

  expect(client.state).toMatchObject({ state: "registered" });
});

test("a kite that is told to come at once, again and again, waits longer each time", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry();
  registry.refuse = new KiteError("overloaded", "now", { details: { retryAfterMs: 0 } });
  await using client = new Registrar({ reach: () => registry, random: () => 1 });
  const registering = client.register({ kite: math }).catch((thrown) => thrown);

  await vi.advanceTimersByTimeAsync(20_000);

  expect(registry.refusals).toBeLessThan(10);
  await client[Symbol.asyncDispose]();
  expect(await registering).toMatchObject({ code: "overloaded" });
});

test("a registration whose labels could not be brought up to date lets go of what came with it", async () => {
  const registry = new TestRegistry();
  const released = vi.fn();
  let changing = false;
  const register = registry.register.bind(registry);
  registry.register = async (asked: Register) => {
    const registered = await register(asked);
    // While the registration is on its way, so that it comes with the labels of before.
    if (!changing) void client.updateLabels({ load: "0.9" });
    changing = true;
    registry.away ??= new KiteError("unavailable", "the database does not answer");
    return { ...registered, beat: Object.assign(registered.beat, { [Symbol.dispose]: released }) };
  };
  await using client = new Registrar({ reach: () => registry, backoff: FAST });

  const registering = client.register({ kite: math, labels: { load: "0.1" } });
  await until(() => released.mock.calls.length > 0);
  registry.register = register;
  registry.away = undefined;

  await registering;
  expect(registry.labelled.at(-1)).toEqual({ load: "0.9" });
});

test("a kite that beats from elsewhere leaves its session alone while kontrol answers, and beats over it at once when it does not", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry({ heartbeatMs: 1_000 });
  const lapse = new AbortController();
  const ended = vi.fn();
  const own: OwnBeats = {
    get answered() {
      return !lapse.signal.aborted;
    },
    async wait(ms, signal) {
      if (lapse.signal.aborted) return sleep(ms, { signal });
      await sleep(ms, { signal: AbortSignal.any([signal, lapse.signal]) }).catch(() => signal.throwIfAborted());
    },
    [Symbol.dispose]: ended,
  };
  const client = new Registrar({ beats: () => own, reach: () => registry, random: () => 0 });
  await client.register({ kite: math });

  await vi.advanceTimersByTimeAsync(5_500);
  expect(registry.beats).toBe(0);
  lapse.abort();
  await vi.advanceTimersByTimeAsync(1);
  expect(registry.beats).toBe(1);
  await vi.advanceTimersByTimeAsync(2_100);
  expect(registry.beats).toBe(3);
  await client[Symbol.asyncDispose]();

  expect(ended).toHaveBeenCalledOnce();
});

test("a kite that cannot reach kontrol at first gives up in time, with the reason", async () => {
  const reach = () => Promise.reject(new KiteError("unavailable", "connect ECONNREFUSED 127.0.0.1:4000"));
  await using client = new Registrar({ reach, backoff: FAST });

  const registering = client.register({ kite: math }, { timeoutMs: 30 });

  await expect(registering).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("ECONNREFUSED") });
  expect(client.state).toEqual({ state: "closed" });
});

test("a registration ends when the kite is closed, even if kontrol never answers", async () => {
  const client = new Registrar({ reach: () => new Promise(() => {}) });
  const registering = client.register({ kite: math }).catch((thrown) => thrown);

  await client[Symbol.asyncDispose]();

  expect(await registering).toMatchObject({ code: "cancelled" });
  await expect(client.find({})).rejects.toMatchObject({ code: "disconnected" });
});

test("a thousand kites that lose kontrol at once come back spread over time", async () => {
  vi.useFakeTimers();
  const registry = new TestRegistry({ heartbeatMs: 3_600_000 });
  const clients = Array.from({ length: 1_000 }, () => new Registrar({ reach: () => registry }));
  await Promise.all(clients.map((client, index) => client.register({ kite: { ...math, id: `math-${index}` } })));
  const before = registry.registrations;

  registry.drop();
  const perTenth: number[] = [];
  for (let tenth = 0; tenth < 10; tenth++) {
    const seen = registry.registrations;
    await vi.advanceTimersByTimeAsync(50);
    perTenth.push(registry.registrations - seen);
  }

  expect(registry.registrations - before).toBe(1_000);
  expect(Math.max(...perTenth)).toBeLessThan(200);
  await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
}, 60_000);
