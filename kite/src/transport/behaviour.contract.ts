import { describe, expect, test } from "vitest";
import { z } from "zod";
import { type Connection, callWith, type Remote } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { type ContractOf, type Methods, method } from "../method.ts";
import { until } from "../testing.ts";

/** One way for two kites to talk: a transport and a dialect. */
export interface World {
  readonly name: string;
  readonly can: {
    /** The session outlives its connection. */
    readonly resume: boolean;
    /** Bytes arrive as bytes. */
    readonly binary: boolean;
    /** Streams, in both directions. */
    readonly streams: boolean;
    /** A cancelled call stops its work, and deadlines travel. */
    readonly cancel: boolean;
  };
  open<const M extends Methods>(methods: M): Promise<OpenWorld<M>>;
}

/** A client and a server that are connected. Whoever opened it closes it. */
export interface OpenWorld<M extends Methods> extends AsyncDisposable {
  readonly client: Remote<ContractOf<M>>;
  /** What the client calls through. */
  readonly peer: Connection & { notify(method: string, args: readonly unknown[]): void };
  /** Cuts the connection as a pulled cable does; the client dials again by itself. */
  cut(): void;
  /** Ends the client's session on purpose. */
  close(): void;
}

const never = new Promise<never>(() => {});
const anything = z.unknown();

/** What a caller and a kite may rely on, whatever carries their frames and however these are written. */
export function testBehaviour(world: World): void {
  describe(`over ${world.name}`, () => {
    testCalls(world);
    testCallbacks(world);
    if (world.can.cancel) testEnds(world);
    if (world.can.binary) testBinary(world);
    if (world.can.streams) testStreams(world);
    if (world.can.resume) testResume(world);
  });
}

function testCalls(world: World): void {
  test("a call gets what the method returns", async () => {
    await using open = await world.open({ add: method({ input: [z.number(), z.number()] }, (a, b) => a + b) });

    const sum = await open.client.add(2, 3);

    expect(sum).toBe(5);
  });

  test("an error arrives with its sentence, and the session goes on", async () => {
    await using open = await world.open({
      fail: method({}, () => {
        throw new KiteError("conflict", "somebody was faster", { details: { version: 7 } });
      }),
      work: method({}, () => "well"),
    });

    await expect(open.client.fail()).rejects.toThrow("somebody was faster");

    expect(await open.client.work()).toBe("well");
  });

  test("a method that is not there is said to be so", async () => {
    await using open = await world.open({});

    await expect(open.peer.call("nothing", [])).rejects.toMatchObject({ code: "method_not_found" });
  });

  test("calls arrive in the order in which they were made", async () => {
    const seen: number[] = [];
    await using open = await world.open({ note: method({ input: z.number() }, (n) => void seen.push(n)) });
    const numbers = Array.from({ length: 500 }, (_, n) => n);

    await Promise.all(numbers.map((n) => open.client.note(n)));

    expect(seen).toEqual(numbers);
  });

  test("many calls at once get their own answers, whichever is ready first", async () => {
    await using open = await world.open({
      later: method({ input: z.number() }, async (n) => {
        for (let turn = 0; turn < n % 7; turn++) await new Promise(setImmediate);
        return n;
      }),
    });
    const numbers = Array.from({ length: 300 }, (_, n) => n);

    const answers = await Promise.all(numbers.map((n) => open.client.later(n)));

    expect(answers).toEqual(numbers);
  });

  test("a large text arrives whole, also between small ones", async () => {
    await using open = await world.open({ echo: method({ input: anything }, (value) => value) });
    const large = "größer 鳶 ".repeat(300_000);

    const [before, echoed, after] = await Promise.all([open.client.echo("a"), open.client.echo(large), open.client.echo("b")]);

    expect([before, echoed === large, after]).toEqual(["a", true, "b"]);
  });

  test("a notification is acted on, and answered by nobody", async () => {
    const seen: unknown[] = [];
    await using open = await world.open({ note: method({ input: anything }, (value) => void seen.push(value)) });

    open.peer.notify("note", [{ load: 0.7 }]);

    await until(() => seen.length > 0, LIMIT_MS);
    expect(seen).toEqual([{ load: 0.7 }]);
  });

  test("closing ends the calls that wait", async () => {
    let entered = false;
    await using open = await world.open({
      hang: method({}, () => {
        entered = true;
        return never;
      }),
    });
    const call = open.client.hang();
    await until(() => entered, LIMIT_MS);

    open.close();

    await expect(call).rejects.toMatchObject({ code: "disconnected" });
  });
}

function testCallbacks(world: World): void {
  test("a function that was passed along is called from the other side, many times", async () => {
    await using open = await world.open({
      each: method({ input: [z.number(), z.custom<(n: number) => unknown>()] }, async (upTo, fn) => {
        for (let n = 0; n < upTo; n++) await fn(n);
      }),
    });
    const seen: number[] = [];

    await open.client.each(100, (n) => void seen.push(n));

    await until(() => seen.length === 100, LIMIT_MS);
    expect(seen).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });
}

function testEnds(world: World): void {
  test("a cancelled call stops its work over there", async () => {
    let entered = false;
    let stopped: unknown;
    await using open = await world.open({
      hang: method({}, (call) => {
        entered = true;
        call.signal.addEventListener("abort", () => (stopped = call.signal.reason));
        return never;
      }),
    });
    const cancel = new AbortController();
    const call = callWith(open.client, { signal: cancel.signal }).hang();
    await until(() => entered, LIMIT_MS);

    cancel.abort();

    await expect(call).rejects.toMatchObject({ code: "cancelled" });
    await until(() => stopped !== undefined, LIMIT_MS);
  });

  test("a deadline ends the call on both sides", async () => {
    let stopped = false;
    await using open = await world.open({
      hang: method({}, (call) => {
        call.signal.addEventListener("abort", () => (stopped = true));
        return never;
      }),
    });

    const call = callWith(open.client, { timeoutMs: 50 }).hang();

    await expect(call).rejects.toMatchObject({ code: "deadline_exceeded" });
    await until(() => stopped, LIMIT_MS);
  });
}

function testBinary(world: World): void {
  test("bytes arrive as they were, few and many", async () => {
    await using open = await world.open({ echo: method({ input: z.custom<Uint8Array>() }, (bytes) => bytes) });
    const large = Uint8Array.from({ length: 3_000_000 }, (_, n) => (n * 7) % 256);

    const [none, few, many] = await Promise.all([
      open.client.echo(new Uint8Array()),
      open.client.echo(Uint8Array.of(0, 255, 128)),
      open.client.echo(large),
    ]);

    expect([none, few]).toEqual([new Uint8Array(), Uint8Array.of(0, 255, 128)]);
    expect(Buffer.compare(many, large)).toBe(0);
    expect(few.constructor).toBe(Uint8Array);
  });
}

function testStreams(world: World): void {
  test("a stream of the server's is read in order, to its end", async () => {
    await using open = await world.open({
      count: method({ input: z.number() }, async function* (upTo) {
        for (let n = 0; n < upTo; n++) yield n;
      }),
    });

    const seen = await collect((await open.client.count(2_000)) as AsyncIterable<number>);

    expect(seen).toEqual(Array.from({ length: 2_000 }, (_, n) => n));
  });

  test("a stream of the client's is read by the server", async () => {
    await using open = await world.open({
      weigh: method({ input: z.custom<AsyncIterable<Uint8Array>>() }, async (chunks) => {
        let bytes = 0;
        for await (const chunk of chunks) bytes += chunk.length;
        return bytes;
      }),
    });
    const chunks = async function* () {
      for (let n = 0; n < 200; n++) yield new Uint8Array(32 * 1024);
    };

    expect(await open.client.weigh(chunks())).toBe(200 * 32 * 1024);
  });

  test("a reader that leaves stops the producer", async () => {
    let stopped = false;
    await using open = await world.open({
      count: method({}, async function* () {
        try {
          for (let n = 0; ; n++) yield n;
        } finally {
          stopped = true;
        }
      }),
    });

    for await (const n of (await open.client.count()) as AsyncIterable<number>) if (n === 10) break;

    await until(() => stopped, LIMIT_MS);
  });

  test("a reader that waits slows its producer down", async () => {
    let made = 0;
    await using open = await world.open({
      fill: method({}, async function* () {
        for (; made < 1_000; made++) yield new Uint8Array(64 * 1024);
      }),
      ask: method({}, () => made),
    });
    const reader = ((await open.client.fill()) as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
    await reader.next();
    for (let round = 0; round < 20; round++) await open.client.ask();

    const ahead = await open.client.ask();

    expect(ahead).toBeLessThan(100);
    await reader.return?.();
  });
}

function testResume(world: World): void {
  test("a call in flight survives a cut, and runs once", async () => {
    let runs = 0;
    let finish = () => {};
    await using open = await world.open({
      work: method({}, async () => {
        runs += 1;
        await new Promise<void>((resolve) => (finish = resolve));
        return "done";
      }),
    });
    const call = open.client.work();
    await until(() => runs === 1, LIMIT_MS);

    open.cut();
    finish();

    expect(await call).toBe("done");
    expect(runs).toBe(1);
  });

  test("under many cuts every call settles once, in order, and streams and callbacks go on", { timeout: 4 * LIMIT_MS }, async () => {
    const ran: number[] = [];
    await using open = await world.open({
      work: method({ input: z.number() }, (n) => ran.push(n)),
      count: method({ input: z.number() }, async function* (upTo) {
        for (let n = 0; n < upTo; n++) yield { n, padding: "x".repeat(n % 500) };
      }),
      each: method({ input: [z.number(), z.custom<(n: number) => Promise<number>>()] }, async (upTo, fn) => {
        let sum = 0;
        for (let n = 0; n < upTo; n++) sum += await fn(n);
        return sum;
      }),
    });
    const stream = open.client.count(3_000).then((numbers) => collect(numbers as AsyncIterable<{ n: number }>));
    const sum = open.client.each(50, async (n) => n);

    const calls: Promise<unknown>[] = [];
    for (let cut = 0; cut < 5; cut++) {
      for (let n = 0; n < 100; n++) calls.push(open.client.work(cut * 100 + n));
      await calls[cut * 100];
      open.cut();
    }

    await Promise.all(calls);
    expect(ran).toEqual(Array.from({ length: 500 }, (_, n) => n));
    expect((await stream).map(({ n }) => n)).toEqual(Array.from({ length: 3_000 }, (_, n) => n));
    expect(await sum).toBe((50 * 49) / 2);
  });
}

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of stream) all.push(item);
  return all;
}

// Real sockets on a busy machine.
const LIMIT_MS = 20_000;
