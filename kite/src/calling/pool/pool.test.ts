import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { KiteError } from "../../errors.ts";
import { silent } from "../../log.ts";
import type { DirectoryKite, WatchEvent } from "../../registry/registry.ts";
import { testIdentity } from "../../testing.ts";
import type { PooledBalance } from "../balance.ts";
import { Pool, type PoolOptions } from "./pool.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] }));
afterEach(() => void vi.useRealTimers());

const refused = new KiteError("unavailable", "nobody answers", { outcome: "not_run" });

test("kites that come are called, those that leave are not, and a snapshot replaces all", async () => {
  const mesh = kites("one");
  await using pool = mesh.pool("round-robin");
  expect(await calls(pool, 2)).toEqual(["one", "one"]);

  await mesh.tell({ type: "registered", revision: "1", kite: entry("two") });
  expect(new Set(await calls(pool, 2))).toEqual(new Set(["one", "two"]));
  await mesh.tell({ type: "gone", revision: "2", kite: entry("one").kite, reason: "closed" });
  expect(new Set(await calls(pool, 2))).toEqual(new Set(["two"]));
  await mesh.tell({ type: "snapshot", revision: "3", kites: [entry("three")] });

  expect(new Set(await calls(pool, 2))).toEqual(new Set(["three"]));
  expect(mesh.open()).toEqual(["three"]);
});

test("sessions are opened with the first call, and to no more kites than the pool holds", async () => {
  const mesh = kites(...Array.from({ length: 20 }, (_, index) => `kite-${index}`));
  await using pool = mesh.pool("round-robin", { size: 3 });
  expect(mesh.open()).toEqual([]);

  const called = new Set(await calls(pool, 30));

  expect(called.size).toBe(3);
  expect(new Set(mesh.open())).toEqual(called);
});

test("a pool that is given no size calls sixteen kites", async () => {
  await using pool = kites(...Array.from({ length: 40 }, (_, index) => `kite-${index}`)).pool("round-robin");

  expect(new Set(await calls(pool, 80)).size).toBe(16);
});

test("callers spread over more kites than one of them calls", async () => {
  const mesh = kites(...Array.from({ length: 20 }, (_, index) => `kite-${index}`));
  const called = new Set<string>();

  for (let caller = 0; caller < 20; caller++) {
    await using pool = mesh.pool("round-robin", { size: 3, caller: `caller-${caller}` });
    for (const id of await calls(pool, 3)) called.add(id);
  }

  expect(called.size).toBeGreaterThan(15);
});

test("another kite takes the place of one that fails, and its session with it", async () => {
  const mesh = kites("one", "two", "three");
  await using pool = mesh.pool("round-robin", { size: 2 });
  const [first = ""] = pool.kites.map(({ kite }) => kite.id);
  await calls(pool, 2);
  expect(mesh.open()).toContain(first);

  mesh.fail(first, refused);
  await calls(pool, 4);

  expect(mesh.open()).toHaveLength(2);
  expect(mesh.open()).not.toContain(first);
});

test("a kite that cannot be reached is passed over for a while, then called again", async () => {
  const mesh = kites("one", "two");
  await using pool = mesh.pool("round-robin");
  mesh.fail("one", refused);
  expect(await calls(pool, 2)).toContain("unavailable");
  expect(pool.hasAnother).toBe(true);

  expect(await calls(pool, 10)).toEqual(Array(10).fill("two"));
  mesh.fail("one", undefined);
  await vi.advanceTimersByTimeAsync(500);

  expect(await calls(pool, 4)).toContain("one");
});

test("when none can be reached they are tried all the same, and there is no other one to go to at once", async () => {
  const mesh = kites("one", "two");
  await using pool = mesh.pool("round-robin");
  mesh.fail("one", refused);
  mesh.fail("two", refused);

  expect(new Set(await calls(pool, 6))).toEqual(new Set(["unavailable"]));

  expect(pool.hasAnother).toBe(false);
});

test("a kite is left alone as long as it asks for", async () => {
  const mesh = kites("one", "two");
  await using pool = mesh.pool("round-robin");
  mesh.fail("one", new KiteError("overloaded", "too much to do", { outcome: "not_run", details: { retryAfterMs: 20_000 } }));
  await calls(pool, 2);
  mesh.fail("one", undefined);

  await vi.advanceTimersByTimeAsync(19_000);
  expect(await calls(pool, 4)).not.toContain("one");
  await vi.advanceTimersByTimeAsync(1_001);

  expect(await calls(pool, 4)).toContain("one");
});

test("new labels do not end the rest of a kite, its new registration does", async () => {
  const mesh = kites("one", "two");
  await using pool = mesh.pool("round-robin");
  mesh.fail("one", new KiteError("overloaded", "too much to do", { outcome: "not_run", details: { retryAfterMs: 20_000 } }));
  await calls(pool, 2);
  mesh.fail("one", undefined);

  await mesh.tell({ type: "registered", revision: "1", kite: { ...entry("one"), labels: { load: "0.9" } } });
  expect(await calls(pool, 4)).not.toContain("one");
  await mesh.tell({ type: "registered", revision: "2", kite: { ...entry("one"), registeredAt: 1 } });

  expect(await calls(pool, 4)).toContain("one");
});

test("a session that was let go while its kite was measured is not opened again", async () => {
  let opened = 0;
  const open: PoolOptions["open"] = () => {
    opened++;
    const connection = { call: async () => void pool[Symbol.asyncDispose](), [Symbol.asyncDispose]: async () => {} };
    return { connection, isIdle: () => true };
  };
  const pool = kites("one").pool("nearest", { open });

  await expect(pool.call("whoami", [])).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
  await vi.advanceTimersByTimeAsync(100);

  expect(opened).toBe(1);
});

test("what a rule of the caller's throws is the call's failure", async () => {
  const stickyBy = () => {
    throw new KiteError("invalid_argument", "no key in these arguments");
  };
  await using pool = kites("one").pool({ stickyBy });

  await expect(pool.call("whoami", [])).rejects.toMatchObject({ code: "invalid_argument" });
});

test("that a method fails, or what it calls, is not held against its kite", async () => {
  const mesh = kites("one", "two");
  await using pool = mesh.pool("round-robin");
  mesh.fail("one", new KiteError("unavailable", "the printer is off"));

  const answers = await calls(pool, 10);

  expect(answers.filter((answer) => answer === "unavailable")).toHaveLength(5);
});

test("a kite that leaves keeps its session until its calls are answered", async () => {
  const mesh = kites("one");
  await using pool = mesh.pool("round-robin");
  const answer = mesh.hold("one");
  const call = pool.call("whoami", []);

  await mesh.tell({ type: "gone", revision: "1", kite: entry("one").kite, reason: "closed" });
  await vi.advanceTimersByTimeAsync(5_000);
  expect(mesh.open()).toEqual(["one"]);
  answer();

  expect(await call).toBe("one");
  await vi.advanceTimersByTimeAsync(1_000);
  expect(mesh.open()).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

test("a call for which there is nobody did not run", async () => {
  const mesh = kites("one");
  await using pool = mesh.pool("least-pending");
  await mesh.tell({ type: "snapshot", revision: "1", kites: [] });

  await expect(pool.call("whoami", [])).rejects.toMatchObject({
    code: "unavailable",
    outcome: "not_run",
    message: expect.stringContaining("no kite matches ///math"),
  });
});

test("a directory that may not be watched leaves what was found", async () => {
  const warn = vi.fn();
  const mesh = kites("one");
  await using pool = mesh.pool("round-robin", {
    log: { ...silent, warn },
    watch: () => {
      throw new KiteError("permission_denied", "anonymous callers may not watch");
    },
  });

  await vi.advanceTimersByTimeAsync(0);

  expect(await calls(pool, 2)).toEqual(["one", "one"]);
  expect(warn).toHaveBeenCalledOnce();
});

test("the nearest is found by two small calls to each, made now and then while there are calls", async () => {
  const mesh = kites("far", "near");
  mesh.delay("far", 40);
  mesh.delay("near", 5);
  await using pool = mesh.pool("nearest");
  const first = pool.call("whoami", []);
  await vi.advanceTimersByTimeAsync(100);
  await first;

  const answers = Promise.all(Array.from({ length: 10 }, () => pool.call("whoami", [])));
  await vi.advanceTimersByTimeAsync(100);
  expect(await answers).toEqual(Array(10).fill("near"));
  await vi.advanceTimersByTimeAsync(60_000);

  expect(mesh.pings("far")).toBe(2);
});

test("closing ends all sessions and the watch, and calls are refused", async () => {
  const mesh = kites("one", "two");
  const pool = mesh.pool("round-robin");
  await calls(pool, 2);

  await pool[Symbol.asyncDispose]();

  expect([mesh.open(), mesh.watchers(), vi.getTimerCount(), pool.state]).toEqual([[], 0, 0, "closed"]);
  await expect(pool.call("whoami", [])).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
});

test.each([0, 1.5, Number.NaN])("a pool of %s is refused", (size) => {
  expect(() => kites("one").pool("round-robin", { size })).toThrow("poolSize");
});

/** Answers in the order of the calls, made one after the other: who answered, or with what it failed. */
async function calls(pool: Pool, count: number): Promise<string[]> {
  const answers: string[] = [];
  for (let call = 0; call < count; call++) answers.push(String(await pool.call("whoami", []).catch((error: KiteError) => error.code)));
  return answers;
}

function entry(id: string): DirectoryKite {
  const kite = testIdentity({ name: "math", id });
  return { kite, url: `memory:${id}`, visibility: "mesh", labels: {}, role: "viewer", registeredAt: 0 };
}

/** Kites that answer with their names, and a directory that says what it is told to. */
function kites(...ids: string[]) {
  const failures = new Map<string, KiteError>();
  const delays = new Map<string, number>();
  const pings = new Map<string, number>();
  const held = new Map<string, Promise<void>>();
  const open = new Set<string>();
  const events: WatchEvent[] = [];
  let wake = () => {};
  let watchers = 0;
  const watch: PoolOptions["watch"] = async function* (signal) {
    watchers++;
    signal.addEventListener("abort", () => wake());
    while (!signal.aborted) {
      yield* events.splice(0);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    watchers--;
  };
  const answer = async (id: string, method: string) => {
    if (method === "kite.ping") pings.set(id, (pings.get(id) ?? 0) + 1);
    await held.get(id);
    const delayMs = delays.get(id);
    if (delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, delayMs));
    const failure = failures.get(id);
    if (failure !== undefined) throw failure;
    return id;
  };
  const openMember: PoolOptions["open"] = ({ kite }) => {
    const { id } = kite().kite;
    open.add(id);
    const connection = { call: (method: string) => answer(id, method), [Symbol.asyncDispose]: async () => void open.delete(id) };
    return { connection, isIdle: () => true };
  };
  return {
    pool: (balance: PooledBalance, options: Partial<PoolOptions> = {}) =>
      new Pool({
        query: "///math",
        balance,
        caller: "me",
        found: ids.map(entry),
        watch,
        open: openMember,
        log: silent,
        random: () => 0,
        ...options,
      }),
    tell: async (event: WatchEvent) => {
      await vi.advanceTimersByTimeAsync(0);
      events.push(event);
      wake();
      await vi.advanceTimersByTimeAsync(0);
    },
    fail: (id: string, error: KiteError | undefined) => void (error === undefined ? failures.delete(id) : failures.set(id, error)),
    delay: (id: string, ms: number) => void delays.set(id, ms),
    hold: (id: string) => {
      let release = () => {};
      held.set(
        id,
        new Promise((resolve) => {
          release = resolve;
        }),
      );
      return release;
    },
    open: () => [...open],
    pings: (id: string) => pings.get(id) ?? 0,
    watchers: () => watchers,
  };
}
