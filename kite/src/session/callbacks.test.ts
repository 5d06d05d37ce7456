import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { method, type SessionState } from "../method.ts";
import { connectedPair, type PairOptions, until } from "../testing.ts";
import type { RemoteFunction } from "./callbacks.ts";

const callback = z.custom<RemoteFunction>((value) => typeof value === "function");
const anything = z.custom<unknown>(() => true);

/** A pair whose serving side keeps the functions that it is given. */
async function holder(options?: PairOptions) {
  const held: RemoteFunction[] = [];
  const methods = { hold: method({ input: callback }, (fn) => void held.push(fn)), back: method({}, () => held[0]) };
  const pair = await connectedPair(methods, options);
  return Object.assign(pair, { held, exported: () => pair.peer.session.counts.exported });
}

test.each<[way: string, letGo: (fn: RemoteFunction) => void]>([
  ["release()", (fn) => fn.release()],
  ["using", (fn) => fn[Symbol.dispose]()],
])("a function is let go by %s, once, and cannot be called any more", async (_, letGo) => {
  await using pair = await holder();
  await pair.client.hold((async () => 1) as never);
  const [fn] = pair.held as [RemoteFunction];
  expect([await fn(), fn.state, pair.exported()]).toEqual([1, "open", 1]);

  letGo(fn);
  letGo(fn);
  await pair.fence();

  expect([fn.state, pair.exported()]).toEqual(["closed", 0]);
  await expect(fn()).rejects.toMatchObject({ code: "failed_precondition" });
});

test("every copy of a function counts: it stays until the last one is let go", async () => {
  await using pair = await holder();
  const fn = (async () => "here") as never;
  await pair.client.hold(fn);
  await pair.client.hold(fn);
  const [first, second] = pair.held as [RemoteFunction, RemoteFunction];
  expect(first).toBe(second);

  // The third copy is on its way while the first two are let go.
  const third = pair.client.hold(fn);
  first.release();
  await third;
  await pair.fence();

  expect(pair.exported()).toBe(1);
  expect(await pair.held[2]?.()).toBe("here");
});

test("a function that is given to two calls at work goes on for the second when the first lets it go", async () => {
  const begin: (() => void)[] = [];
  await using pair = await connectedPair({
    tell: method({ input: [z.number(), callback] }, async (index, tell) => {
      using own = tell;
      await new Promise<void>((resolve) => (begin[index] = resolve));
      await own(index);
    }),
  });
  const told: unknown[] = [];
  const tell = ((index: number) => void told.push(index)) as never;
  const calls = [0, 1].map((index) => pair.client.tell(index, tell));
  await until(() => begin.length === 2);

  for (const index of [0, 1]) {
    begin[index]?.();
    await calls[index];
  }
  await pair.fence();

  expect([told, pair.peer.session.counts.exported]).toEqual([[0, 1], 0]);
});

test("a function that is passed back arrives as the one that was sent", async () => {
  await using pair = await holder();
  const fn = async () => "mine";
  await pair.client.hold(fn as never);

  const back = await pair.client.back();

  expect(back).toBe(fn);
  expect(pair.exported()).toBe(1);
});

test("a function is not forgotten while it is on its way back, though it is let go meanwhile", async () => {
  const fn = async () => "mine";
  await using pair = await connectedPair({
    swap: method({ input: callback }, (given) => {
      queueMicrotask(() => given.release());
      return { given, text: "x".repeat(2_000_000) };
    }),
  });

  const { given } = (await pair.client.swap(fn as never)) as unknown as { given: unknown };
  await pair.fence();

  expect(given).toBe(fn);
  expect(pair.peer.session.counts.exported).toBe(0);
});

test("what was called before the release is still answered", async () => {
  await using pair = await holder({ limits: { callbackCredit: 2 } });
  await pair.client.hold((async (n: number) => n) as never);
  const [fn] = pair.held as [RemoteFunction];

  const answers = [1, 2, 3, 4, 5].map((n) => fn(n));
  fn.release();

  expect(await Promise.all(answers)).toEqual([1, 2, 3, 4, 5]);
  await until(() => pair.exported() === 0);
});

test("a producer is ahead of a slow function by its credit, and the rest waits in order", async () => {
  await using pair = await holder({ limits: { callbackCredit: 3 } });
  const seen: number[] = [];
  const gates: (() => void)[] = [];
  await pair.client.hold((async (n: number) => {
    seen.push(n);
    await new Promise<void>((resolve) => gates.push(resolve));
  }) as never);
  const [fn] = pair.held as [RemoteFunction];

  const all = Array.from({ length: 50 }, (_, n) => fn(n));
  await pair.fence();
  await pair.fence();
  expect(seen).toEqual([0, 1, 2]);

  while (seen.length < 50 || gates.length > 0) {
    for (const open of gates.splice(0)) open();
    await pair.fence();
    expect(gates.length).toBeLessThanOrEqual(3);
  }
  await Promise.all(all);
  expect(seen).toEqual(Array.from({ length: 50 }, (_, n) => n));
});

test("a flood through one function ends at a limit that names itself, and leaves room for other calls", async () => {
  await using pair = await holder({ limits: { callbackCredit: 2, pendingCalls: 20 } });
  await pair.client.hold((() => new Promise(() => {})) as never);
  await pair.client.hold((async () => "other") as never);
  const [slow, other] = pair.held as [RemoteFunction, RemoteFunction];

  const flood = Array.from({ length: 11 }, () => slow());

  await expect(flood.at(-1)).rejects.toMatchObject({ code: "limit_exceeded", details: { limit: "callbackCredit" } });
  expect(await other()).toBe("other");
});

test("more functions than the limit are refused where they are sent, by its name, and what was let go makes room", async () => {
  const keep = { limits: { callbacks: 1_000 }, clientLimits: { callbacks: 2 } };
  await using pair = await holder(keep);
  for (let count = 0; count < 2; count++) await pair.client.hold((() => {}) as never);

  const tooMany = pair.client.hold((() => {}) as never);
  await expect(tooMany).rejects.toMatchObject({ code: "limit_exceeded", details: { limit: "callbacks", allowed: 2 } });
  pair.held[0]?.release();
  await pair.fence();
  await pair.fence();

  await pair.client.hold((() => {}) as never);
  expect(pair.exported()).toBe(2);
});

test("invocations that wait for their turn fail with the session, and did not run", async () => {
  const pair = await holder({ limits: { callbackCredit: 1 } });
  await pair.client.hold((() => new Promise(() => {})) as never);
  const [fn] = pair.held as [RemoteFunction];
  const [first, second] = [fn(), fn()];
  await pair.fence();

  for (const session of pair.acceptor.sessions) session.end(new KiteError("disconnected", "over"));

  await expect(first).rejects.toMatchObject({ code: "disconnected", outcome: "unknown" });
  await expect(second).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
  expect(fn.state).toBe("closed");
  await pair[Symbol.asyncDispose]();
});

test("a function says when its connection is lost, restored and gone", async () => {
  const pair = await holder();
  await pair.client.hold((async () => 1) as never);
  const [fn] = pair.held as [RemoteFunction];
  const states: SessionState[] = [];
  const unheard: SessionState[] = [];
  fn.onState((state) => states.push(state));
  fn.onState((state) => unheard.push(state))();

  pair.cut();
  await until(() => states.includes("open"));
  expect(await fn()).toBe(1);
  await pair[Symbol.asyncDispose]();

  expect(states).toEqual(["suspended", "open", "closed"]);
  expect([unheard, fn.state]).toEqual([[], "closed"]);
});

test("a function with an unanswered invocation is kept, though nobody else holds it", async () => {
  let answer = (_: string) => {};
  await using pair = await connectedPair({
    ask: method({ input: callback }, (fn) => {
      void fn();
    }),
  });
  await pair.client.ask((() => new Promise<string>((resolve) => (answer = resolve))) as never);

  for (let turn = 0; turn < 5; turn++) {
    collectGarbage();
    await new Promise(setImmediate);
  }
  await pair.fence();
  expect(pair.peer.session.counts.exported).toBe(1);

  answer("now");
  await until(() => {
    collectGarbage();
    return pair.peer.session.counts.exported === 0;
  });
});

test("a function that was collected, but not told of yet, stays while it has come again, and is let go with that", async () => {
  const held: RemoteFunction[] = [];
  const methods = { drop: method({ input: callback }, () => {}), hold: method({ input: callback }, (fn) => void held.push(fn)) };
  await using pair = await connectedPair(methods);
  const fn = (async () => "here") as never;
  for (let round = 0; round < 10; round++) {
    await pair.client.drop(fn);
    await new Promise(setImmediate);

    collectGarbage();
    // In the same turn, in which nobody is told yet.
    await pair.client.hold(fn);
    held.splice(0)[0]?.release();
  }

  await until(() => pair.peer.session.counts.exported === 0);
  expect([...pair.acceptor.sessions].map(({ counts }) => counts.imported)).toEqual([0]);
});

test("a hundred thousand functions that are made, called and let go leave nothing on the heap", async () => {
  await using pair = await connectedPair({ once: method({ input: anything }, async (fn) => useOnce(fn as RemoteFunction)) });
  pair.frames.push = () => 0;
  const round = async (count: number) => {
    for (let n = 0; n < count; n += 100) await Promise.all(Array.from({ length: 100 }, () => pair.client.once(async () => n)));
  };
  await round(5_000);
  const before = await heapBytes();

  await round(Number(process.env.KITE_TEST_CALLBACKS ?? 100_000));

  expect(pair.peer.session.counts.exported).toBe(0);
  expect([...pair.acceptor.sessions].map(({ counts }) => counts.imported)).toEqual([0]);
  // A hundredth of what as many functions would hold that were kept.
  expect((await heapBytes()) - before).toBeLessThan(4 * 1024 * 1024);
  // Work for a core, half a minute of it where ten want one.
}, 180_000);

async function useOnce(fn: RemoteFunction): Promise<unknown> {
  using held = fn;
  return await held();
}

async function heapBytes(): Promise<number> {
  // What was collected is told to those who asked in a later turn, and only then is what they kept for it free.
  for (let turn = 0; turn < 3; turn++) {
    collectGarbage();
    await new Promise(setImmediate);
  }
  return process.memoryUsage().heapUsed;
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}
