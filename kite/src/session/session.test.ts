import { getEventListeners } from "node:events";
import { expect, onTestFinished, test, vi } from "vitest";
import { z } from "zod";
import { callWith } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { method } from "../method.ts";
import { connectedPair, testCaller, until } from "../testing.ts";
import { CLOSE } from "../transport/transport.ts";
import { Session } from "./session.ts";

const aborted = (signal: AbortSignal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve(signal.reason)));
const isFunction = <T extends (...args: never[]) => unknown>() => z.custom<T>((value) => typeof value === "function");

test("a call is answered with the method's result", async () => {
  await using pair = await connectedPair({ square: method({ input: z.number(), output: z.number() }, (n) => n * n) });

  expect(await pair.client.square(12)).toBe(144);
});

test("calls of one tick leave in one frame", async () => {
  await using pair = await connectedPair({ square: method({ input: z.number() }, (n) => n * n) });
  const before = pair.frames.length;

  await Promise.all([1, 2, 3].map((n) => pair.client.square(n)));

  expect(pair.frames.slice(before).filter(({ from }) => from === "client")).toHaveLength(1);
});

test.each([
  ["undefined", undefined],
  ["a date", new Date(5)],
  ["a bigint", 12345678901234567890n],
  ["bytes", new Uint8Array([0, 255, 7])],
  ["not a number", Number.NaN],
  ["an object with a key $", { $: ["u"], other: new Date(1) }],
  ["a nested mixture", { list: [undefined, { at: new Date(9), bytes: new Uint8Array(3) }], text: '"$"' }],
])("%s arrives as it was sent", async (_, value) => {
  await using pair = await connectedPair({ echo: method({ input: z.unknown() }, (given) => given) });

  expect(await pair.client.echo(value)).toEqual(value);
});

test("a signal that many calls share is listened to while one of them waits, and by none of them after", async () => {
  const finish: (() => void)[] = [];
  const work = method({ input: z.unknown() }, () => new Promise<void>((resolve) => finish.push(resolve)));
  await using pair = await connectedPair({ work });
  const { signal } = new AbortController();
  const listeners = () => getEventListeners(signal, "abort").length;
  const call = (value: unknown) => pair.peer.call("work", [value], { signal });

  const answers = [call(1), call(2)];
  await expect(call(Symbol("none"))).rejects.toMatchObject({ code: "invalid_argument" });
  await until(() => finish.length === 2);
  const during = listeners();
  for (const each of finish) each();
  await Promise.all(answers);

  expect([during, listeners()]).toEqual([1, 0]);
});

test("an error crosses with its code, sentence and facts, and without its stack", async () => {
  const failure = new KiteError("failed_precondition", "the machine is off", { reason: "Stopped", details: { machine: "a" } });
  await using pair = await connectedPair({
    fail: method({}, () => {
      throw failure;
    }),
  });

  const seen = KiteError.from(await pair.client.fail().catch((error) => error));

  expect(seen).toMatchObject({ code: "failed_precondition", message: "the machine is off", reason: "Stopped", details: { machine: "a" } });
  expect(JSON.stringify(pair.frames.map(({ raw }) => raw))).not.toContain("session.test.ts");
});

test("a function in an argument is called back, in order, and its answers come back", async () => {
  await using pair = await connectedPair({
    count: method({ input: [z.number(), isFunction<(n: number) => Promise<number>>()] }, async (upTo, each) => {
      let sum = 0;
      for (let n = 1; n <= upTo; n++) sum += await each(n);
      return sum;
    }),
  });
  const seen: number[] = [];

  const sum = await pair.client.count(3, async (n) => {
    seen.push(n);
    return n * 10;
  });

  expect(seen).toEqual([1, 2, 3]);
  expect(sum).toBe(60);
});

test("a function that is disposed of is let go on the other side", async () => {
  await using pair = await connectedPair({
    use: method({ input: isFunction<(() => Promise<void>) & Disposable>() }, async (fn) => {
      using held = fn;
      await held();
    }),
  });

  await pair.client.use(Object.assign(async () => {}, { [Symbol.dispose]() {} }));
  await pair.fence();

  expect(pair.peer.session.counts.exported).toBe(0);
});

test("a stream stops its producer when the reader leaves the loop", async () => {
  let stopped = false;
  await using pair = await connectedPair({
    numbers: method({}, async function* () {
      try {
        for (let n = 0; ; n++) yield n;
      } finally {
        stopped = true;
      }
    }),
  });

  const seen: unknown[] = [];
  for await (const n of (await pair.client.numbers()) as AsyncIterable<number>) {
    seen.push(n);
    if (n === 2) break;
  }
  await until(() => stopped);

  expect(seen).toEqual([0, 1, 2]);
  expect([...pair.acceptor.sessions].map(({ counts }) => counts.sending)).toEqual([0]);
});

test("a reader that does not read stops the producer at the window", async () => {
  let produced = 0;
  await using pair = await connectedPair(
    {
      bytes: method({}, async function* () {
        for (;;) {
          produced++;
          yield new Uint8Array(1000);
        }
      }),
    },
    { limits: { streamWindow: 10_000 } },
  );

  const stream = (await pair.client.bytes()) as AsyncIterable<Uint8Array>;
  await pair.fence();
  await pair.fence();
  const reader = stream[Symbol.asyncIterator]();
  expect(produced).toBeLessThanOrEqual(11);

  for (let n = 0; n < 100; n++) await reader.next();
  expect(produced).toBeGreaterThanOrEqual(100);
});

test("a stream as an argument reaches the method, and its error too", async () => {
  await using pair = await connectedPair({
    sum: method({ input: z.custom<AsyncIterable<number>>() }, async (numbers) => {
      let sum = 0;
      for await (const n of numbers) sum += n;
      return sum;
    }),
  });

  const sum = await pair.client.sum(
    (async function* () {
      yield 1;
      yield 2;
    })(),
  );
  const failed = pair.client.sum(
    // biome-ignore lint/correctness/useYield: a stream that fails before its first value is the case.
    (async function* () {
      throw new KiteError("not_found", "no such file");
    })(),
  );

  expect(sum).toBe(3);
  await expect(failed).rejects.toMatchObject({ code: "not_found" });
});

test("cancelling a call aborts the method's signal", async () => {
  let reason: unknown;
  await using pair = await connectedPair({
    wait: method({}, async (call) => {
      reason = await aborted(call.signal);
    }),
  });
  const controller = new AbortController();

  const waiting = callWith(pair.client, { signal: controller.signal }).wait();
  await pair.fence();
  controller.abort();

  await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
  await until(() => reason !== undefined);
  expect(reason).toMatchObject({ code: "cancelled" });
});

test("a deadline ends the wait here and the work there", async () => {
  let reason: unknown;
  await using pair = await connectedPair({
    wait: method({}, async (call) => {
      reason = await aborted(call.signal);
    }),
  });

  await expect(callWith(pair.client, { timeoutMs: 20 }).wait()).rejects.toMatchObject({ code: "deadline_exceeded", outcome: "unknown" });

  await until(() => reason !== undefined);
});

test("a connection that is silent is given up after three heartbeats, also when it never tells that it was closed", () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const close = vi.fn();
  const transport = { start: () => {}, send: () => {}, close, bufferedBytes: 0 };
  const session = new Session({ id: "silent", limits: LIMITS, serve: () => undefined, caller: testCaller(), heartbeatMs: 1_000 });
  session.attach(transport, 0);

  vi.advanceTimersByTime(2_999);
  const before = session.state;
  vi.advanceTimersByTime(1);

  expect([before, session.state]).toEqual(["open", "suspended"]);
  expect(close).toHaveBeenCalledExactlyOnceWith(CLOSE.silent, expect.any(String));
  expect(vi.getTimerCount()).toBe(0);
});

test("a call in flight survives a cut, and runs once", async () => {
  let runs = 0;
  let release = () => {};
  await using pair = await connectedPair({
    slow: method({}, async () => {
      runs++;
      await new Promise<void>((resolve) => (release = resolve));
      return "done";
    }),
  });

  const call = pair.client.slow();
  await pair.fence();
  const suspended = new Promise((resolve) => pair.peer.onState(resolve));
  pair.cut();
  await suspended;
  release();

  expect(await call).toBe("done");
  expect(runs).toBe(1);
});

test("callbacks and streams go on after a cut", async () => {
  let tick: (n: number) => Promise<unknown> = async () => {};
  await using pair = await connectedPair({
    subscribe: method({ input: isFunction<(n: number) => Promise<unknown>>() }, (fn) => {
      tick = fn;
    }),
    numbers: method({}, async function* () {
      for (let n = 0; n < 1000; n++) yield n;
    }),
  });
  const seen: number[] = [];
  await pair.client.subscribe(async (n) => seen.push(n));
  const numbers = (await pair.client.numbers()) as AsyncIterable<number>;

  const read: number[] = [];
  for await (const n of numbers) {
    read.push(n);
    if (n % 100 === 50) pair.cut();
  }
  await tick(7);

  expect(read).toEqual(Array.from({ length: 1000 }, (_, n) => n));
  expect(seen).toEqual([7]);
});

test("when the grace period ends every pending call fails at once and says whether it may have run", async () => {
  await using pair = await connectedPair({ never: method({}, () => new Promise(() => {})) }, { graceMs: 30 });
  const sent = pair.client.never();
  await pair.fence();
  pair.block();
  pair.cut();
  await until(() => pair.peer.state === "suspended");
  const unsent = pair.client.never();

  await expect(sent).rejects.toMatchObject({ code: "disconnected", outcome: "unknown" });
  await expect(unsent).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
});

test("a method is for its owner unless it says otherwise", async () => {
  const methods = { secret: method({}, () => 1), look: method({ role: "viewer" }, () => 2) };
  await using pair = await connectedPair(methods, { authenticate: async () => testCaller({ role: "viewer" }) });

  await expect(pair.client.secret()).rejects.toMatchObject({ code: "permission_denied" });
  expect(await pair.client.look()).toBe(2);
});

test("wrong arguments are refused with the method's name and the path", async () => {
  await using pair = await connectedPair({ resize: method({ input: z.object({ size: z.object({ x: z.number() }) }) }, () => 1) });

  const wrong = pair.client.resize({ size: { x: "wide" as unknown as number } });

  await expect(wrong).rejects.toMatchObject({ code: "invalid_argument", message: expect.stringMatching(/resize.*size\.x/) });
});

test("a peer that breaks the rules loses its session, with the reason", async () => {
  await using pair = await connectedPair({ never: method({}, () => new Promise(() => {})) });
  const call = pair.client.never();
  await pair.fence();

  pair.inject("server", "not json");

  await expect(call).rejects.toMatchObject({ code: "disconnected", outcome: "unknown", message: expect.stringContaining("JSON array") });
});
