import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import type { Call } from "../method.ts";
import { method } from "../method.ts";
import { connectedPair, type PairOptions, until } from "../testing.ts";
import type { RemoteStream } from "./remote-stream.ts";

const never = new Promise<never>(() => {});
const stream = z.custom<AsyncIterable<unknown>>();
const callback = z.custom<() => Promise<unknown>>((value) => typeof value === "function");

/** Counts what is open on the serving side. */
async function pairOf<const M extends Parameters<typeof connectedPair>[0]>(methods: M, options?: PairOptions) {
  const pair = await connectedPair(methods, options);
  return Object.assign(pair, { served: () => [...pair.acceptor.sessions][0]?.counts });
}

test("a producer that waits for ever does not count any more when its reader has left, and its call's signal says so", async () => {
  let reason: unknown;
  await using pair = await pairOf({
    tail: method({}, (call: Call) => {
      call.signal.addEventListener("abort", () => (reason = call.signal.reason));
      return (async function* () {
        yield "first";
        await never;
      })();
    }),
  });

  for await (const _ of (await pair.client.tail()) as AsyncIterable<string>) break;
  await until(() => reason !== undefined);

  expect(reason).toMatchObject({ code: "cancelled" });
  expect(pair.served()).toMatchObject({ sending: 0 });
});

test("more streams than the limit may be left one after the other, though none of their producers ever comes back", async () => {
  await using pair = await pairOf(
    {
      tail: method({}, async function* () {
        yield 1;
        await never;
      }),
    },
    { limits: { streams: 3 } },
  );

  for (let n = 0; n < 10; n++) {
    for await (const _ of (await pair.client.tail()) as AsyncIterable<number>) break;
    await pair.fence();
  }

  expect(pair.served()).toMatchObject({ sending: 0 });
});

test("the signal of a call with two streams waits until both have been left or have ended", async () => {
  let aborted = false;
  await using pair = await pairOf({
    two: method({}, (call) => {
      call.signal.addEventListener("abort", () => (aborted = true));
      const one = async function* () {
        yield 1;
        await never;
      };
      return { left: one(), right: one() };
    }),
  });
  const { left, right } = (await pair.client.two()) as Record<"left" | "right", AsyncIterableIterator<number>>;

  await left.return?.();
  await pair.fence();
  expect(aborted).toBe(false);

  await right.return?.();
  await until(() => aborted);
});

test("a stream that is read to its end aborts nothing", async () => {
  let aborted = false;
  await using pair = await pairOf({
    one: method({}, (call) => {
      call.signal.addEventListener("abort", () => (aborted = true));
      return (async function* () {
        yield 1;
      })();
    }),
  });

  for await (const _ of (await pair.client.one()) as AsyncIterable<number>);
  await pair.fence();

  expect(aborted).toBe(false);
});

test("an error that the reader's loop throws ends the producer", async () => {
  let ended = false;
  await using pair = await pairOf({
    numbers: method({}, async function* () {
      try {
        for (let n = 0; ; n++) yield n;
      } finally {
        ended = true;
      }
    }),
  });

  const reading = (async () => {
    for await (const _ of (await pair.client.numbers()) as AsyncIterable<number>) throw new Error("mine");
  })();

  await expect(reading).rejects.toThrow("mine");
  await until(() => ended);
  expect(pair.peer.session.counts.receiving).toBe(0);
});

test("the error of a stream is told once; whoever asks again finds the end", async () => {
  await using pair = await pairOf({
    broken: method({}, async function* () {
      yield 1;
      throw new KiteError("conflict", "broken off");
    }),
  });
  const stream = (await pair.client.broken()) as AsyncIterableIterator<number>;
  expect(await stream.next()).toEqual({ done: false, value: 1 });

  await expect(stream.next()).rejects.toMatchObject({ code: "conflict" });

  expect(await stream.next()).toEqual({ done: true, value: undefined });
});

test("a chunk that cannot be sent ends the stream with its reason, and the producer's clean-up runs", async () => {
  let ended = false;
  await using pair = await pairOf({
    odd: method({}, async function* () {
      try {
        yield 1;
        yield Symbol("odd");
      } finally {
        ended = true;
      }
    }),
  });

  const reading = (async () => {
    for await (const _ of (await pair.client.odd()) as AsyncIterable<unknown>);
  })();

  await expect(reading).rejects.toMatchObject({ code: "invalid_argument" });
  await until(() => ended);
});

test("when the session ends, readers fail, producers end, signals are aborted and functions fail at once", async () => {
  let ended = false;
  let held: () => Promise<unknown> = () => never;
  let signal: AbortSignal | undefined;
  const pair = await pairOf({
    numbers: method({}, (call) => {
      signal = call.signal;
      return (async function* () {
        try {
          yield 1;
          yield await new Promise<number>((resolve) => call.signal.addEventListener("abort", () => resolve(2)));
        } finally {
          ended = true;
        }
      })();
    }),
    hold: method({ input: callback }, (fn) => {
      held = fn;
    }),
  });
  await pair.client.hold(async () => never);
  const numbers = (await pair.client.numbers()) as AsyncIterableIterator<number>;
  await numbers.next();
  const waiting = numbers.next();
  const invoked = held();
  await pair.fence();

  for (const session of pair.acceptor.sessions) session.end(new KiteError("disconnected", "over"));

  await expect(waiting).rejects.toMatchObject({ code: "disconnected" });
  await expect(invoked).rejects.toMatchObject({ code: "disconnected", outcome: "unknown" });
  await expect(held()).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
  await until(() => ended);
  expect(signal?.aborted).toBe(true);
  await pair[Symbol.asyncDispose]();
});

test("a notification's signal is aborted when the session ends", async () => {
  let signal: AbortSignal | undefined;
  const pair = await pairOf({
    watch: method({}, (call) => {
      signal = call.signal;
      return never;
    }),
  });
  pair.peer.notify("watch", []);
  await pair.fence();

  await pair[Symbol.asyncDispose]();

  await until(() => signal?.aborted === true);
});

test("bytes are taken when they are passed: their owner may use the buffer again at once", async () => {
  await using pair = await pairOf({
    echo: method({ input: z.instanceof(Uint8Array) }, (bytes) => bytes),
    reused: method({}, async function* () {
      const buffer = Buffer.alloc(8);
      for (let n = 1; n <= 3; n++) yield buffer.fill(n);
    }),
  });

  for (const size of [10, 100_000]) {
    const bytes = Buffer.alloc(size, 1);
    const echoed = pair.client.echo(bytes);
    bytes.fill(2);
    expect(new Set(await echoed)).toEqual(new Set([1]));
  }
  const seen: (number | undefined)[] = [];
  for await (const chunk of (await pair.client.reused()) as AsyncIterable<Uint8Array>) seen.push(chunk[0]);
  expect(seen).toEqual([1, 2, 3]);
});

test("both sides weigh a chunk alike, whatever it was before it was sent", async () => {
  const text = "x".repeat(3_000);
  await using pair = await pairOf(
    {
      mixed: method({}, async function* () {
        for (let n = 0; n < 20; n++) yield [new ArrayBuffer(3_000), { n }, text, new URL(`http://a/${text}`)][n % 4];
      }),
    },
    { limits: { streamWindow: 5_000 } },
  );

  let count = 0;
  for await (const _ of (await pair.client.mixed()) as AsyncIterable<unknown>) count++;

  expect(count).toBe(20);
});

test("a call that is too large fails alone, and holds nothing", async () => {
  await using pair = await pairOf({ take: method({ input: z.unknown() }, () => "taken") }, { limits: { messageBytes: 10_000 } });
  const everything = { bytes: new Uint8Array(20_000), fn: () => {}, numbers: (async function* () {})() };

  await expect(pair.client.take(everything)).rejects.toMatchObject({ code: "limit_exceeded", details: { limit: "messageBytes" } });
  await expect(pair.client.take({ ...everything, bytes: Symbol("s") })).rejects.toMatchObject({ code: "invalid_argument" });

  expect(await pair.client.take(new Uint8Array(100))).toBe("taken");
  expect(pair.peer.session.counts).toMatchObject({ exported: 0, sending: 0, calls: 0 });
});

test("a result that cannot be sent is an error of its call, and holds nothing", async () => {
  await using pair = await pairOf({ odd: method({}, async () => ({ fn: () => {}, at: Symbol("s") })) });

  await expect(pair.client.odd()).rejects.toMatchObject({ code: "invalid_result" });

  expect(pair.served()).toMatchObject({ exported: 0, serving: 0 });
});

test("whatever can be awaited is awaited: a query builder's answer arrives", async () => {
  // biome-ignore lint/suspicious/noThenProperty: being like a promise is the case.
  await using pair = await pairOf({ rows: method({}, () => ({ then: (resolve: (rows: number[]) => void) => resolve([1, 2]) })) });

  expect(await pair.client.rows()).toEqual([1, 2]);
});

test("a stream as an argument that nobody reads is ended when it is no longer reachable", async () => {
  let ended = false;
  await using pair = await pairOf({ ignore: method({ input: stream }, () => "ignored") });
  await pair.client.ignore(
    (async function* () {
      try {
        for (;;) yield "x".repeat(1_000);
      } finally {
        ended = true;
      }
    })(),
  );

  await untilCollected(() => ended);

  expect(pair.peer.session.counts.sending).toBe(0);
});

test("a stream is kept while somebody waits for its next chunk, also if nobody else knows of it", async () => {
  let go = () => {};
  await using pair = await pairOf({
    late: method({}, async function* () {
      await new Promise<void>((resolve) => (go = resolve));
      yield "late";
    }),
  });
  const next = (async () => ((await pair.client.late()) as AsyncIterableIterator<string>).next())();
  await pair.fence();

  for (let turn = 0; turn < 5; turn++) {
    collectGarbage();
    await new Promise(setImmediate);
  }
  go();

  expect(await next).toEqual({ done: false, value: "late" });
});

test("a function that is no longer reachable is released", async () => {
  await using pair = await pairOf({ once: method({ input: callback }, async (fn) => void (await fn())) });
  await pair.client.once(async () => {});
  expect(pair.peer.session.counts.exported).toBe(1);

  await untilCollected(() => pair.peer.session.counts.exported === 0);
});

test("objects weigh what they are long, so a window of large ones holds few", async () => {
  let produced = 0;
  const large = async function* () {
    for (;;) yield { n: produced++, text: "x".repeat(10_000) };
  };
  await using pair = await pairOf({ rows: method({}, () => large()) }, { limits: { streamWindow: 100_000 } });

  const rows = (await pair.client.rows()) as unknown as RemoteStream<{ n: number }>;
  for (let n = 0; n < 5; n++) await pair.fence();
  expect(produced).toBeLessThanOrEqual(11);

  for (let n = 0; n < 100; n++) expect((await rows.next()).value).toMatchObject({ n });
  rows.cancel();
});

test.each([
  [2_000, 1_000_000],
  [1_000_000, 2_000],
])("two sides with windows of %i and %i use the smaller one, in both directions", async (here, there) => {
  let produced = 0;
  const numbers = async function* () {
    for (let n = 0; n < 300; n++) {
      produced++;
      yield { n, text: "x".repeat(100) };
    }
  };
  await using pair = await pairOf(
    { numbers: method({}, () => numbers()), count: method({ input: stream }, async (given) => (await collect(given)).length) },
    { limits: { streamWindow: here }, clientLimits: { streamWindow: there } },
  );

  const read = (await pair.client.numbers()) as unknown as RemoteStream<unknown>;
  for (let n = 0; n < 5; n++) await pair.fence();
  expect(produced).toBeLessThan(30);

  expect(await collect(read)).toHaveLength(300);
  expect(await pair.client.count(numbers())).toBe(300);
});

async function collect(source: AsyncIterable<unknown>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const item of source) all.push(item);
  return all;
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

async function untilCollected(condition: () => boolean): Promise<void> {
  await until(() => {
    collectGarbage();
    return condition();
  });
}
