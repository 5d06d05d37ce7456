import { expect, test } from "vitest";
import { z } from "zod";
import { callWith } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { LIMITS, type Limits } from "../limits.ts";
import { method } from "../method.ts";
import { connectedPair, type PairOptions, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { writeFrame } from "../wire/test-frame.ts";
import { Peer } from "./peer.ts";
import { acceptor, greet } from "./test-stranger.ts";

const anything = z.custom<unknown>(() => true);
const callback = z.custom<(value: unknown) => Promise<unknown>>((value) => typeof value === "function");
const MiB = 1024 * 1024;

function pairOf(options?: PairOptions) {
  return connectedPair(
    {
      echo: method({ input: anything }, (value) => value),
      ping: method({}, () => "pong"),
      size: method({ input: z.instanceof(Uint8Array) }, (bytes) => bytes.byteLength),
      make: method({ input: z.number() }, (size) => new Uint8Array(size).fill(7)),
    },
    options,
  );
}

test("values far larger than a frame arrive whole, whatever they are", async () => {
  await using pair = await pairOf();
  const bytes = Uint8Array.from({ length: 3 * MiB }, (_, n) => n % 251);
  const value = { text: "ä€😀".repeat(300_000), bytes, list: Array.from({ length: 100_000 }, (_, n) => n), at: new Date(7) };

  const echoed = (await pair.client.echo(value)) as typeof value;

  expect(echoed.text).toBe(value.text);
  expect(Buffer.compare(echoed.bytes, bytes)).toBe(0);
  expect(echoed.list).toEqual(value.list);
  expect(echoed.at).toEqual(new Date(7));
  expect(pair.peer.session.counts).toMatchObject({ parcels: 0, calls: 0 });
});

test.each([0, 10, 1_000_000])("a Blob of %i bytes arrives as a Blob, with its type", async (size) => {
  await using pair = await pairOf();
  const blob = new Blob(["x".repeat(size)], { type: "text/plain" });

  const echoed = (await pair.client.echo({ before: new Uint8Array([1]), blob, after: new Uint8Array([2]) })) as {
    blob: Blob;
    after: Uint8Array;
  };

  expect([echoed.blob.type, echoed.blob.size]).toEqual(["text/plain", size]);
  expect(await echoed.blob.text()).toBe("x".repeat(size));
  expect(echoed.after).toEqual(new Uint8Array([2]));
});

test("bytes that wait in the frame of this tick stay with their own message", async () => {
  await using pair = await pairOf();

  const small = pair.client.echo(new Uint8Array([1, 2, 3]));
  const blob = pair.client.echo([new Blob(["ab"]), new Uint8Array([4])]);

  expect(await small).toEqual(new Uint8Array([1, 2, 3]));
  const [read, four] = (await blob) as [Blob, Uint8Array];
  expect([await read.text(), four]).toEqual(["ab", new Uint8Array([4])]);
});

test("a small call overtakes a large one, in both directions", async () => {
  await using pair = await pairOf();
  const order: string[] = [];

  const sent = pair.client.size(new Uint8Array(20 * MiB)).then(() => order.push("sent"));
  const got = pair.client.make(20 * MiB).then(() => order.push("got"));
  await ticks(() => pair.peer.session.counts.parcels > 0);
  for (let n = 0; n < 10; n++) await pair.client.ping().then(() => order.push("ping"));
  await Promise.all([sent, got]);

  expect(order.slice(0, 10)).toEqual(Array(10).fill("ping"));
});

test.each<[limit: string, limits: Partial<Limits>]>([
  ["messages of 400,000 bytes", { messageBytes: 400_000 }],
  ["400,000 bytes of messages", { reassemblyBytes: 400_000 }],
])("a call that was made before it was known that the peer takes in %s fails when it is, and holds up nothing", async (_, limits) => {
  const length = method({ input: anything }, (value) => (value as { length: number }).length);
  const host = acceptor(undefined, { length }, limits);
  await using peer = new Peer({
    target: async () => ({ url: "memory:" }),
    dial: async () => {
      const [here, there] = memoryLink().ends;
      host.accept(there);
      return here;
    },
    limits: LIMITS,
  });
  const forever = { timeoutMs: Number.POSITIVE_INFINITY };
  const stream = (async function* () {})();

  const tooLarge = peer.call("length", ["x".repeat(500_000), stream], forever);
  const behind = peer.call("length", ["x".repeat(300_000)], forever);

  await expect(tooLarge).rejects.toMatchObject({ code: "limit_exceeded", details: { limit: "messageBytes", allowed: 400_000 } });
  expect(await behind).toBe(300_000);
  await expect(peer.call("length", ["x".repeat(500_000)], forever)).rejects.toMatchObject({ details: { allowed: 400_000 } });
  expect(peer.session.counts).toMatchObject({ calls: 0, parcels: 0, sending: 0 });
  host.close(new KiteError("disconnected", "the test is over"));
});

test("a large message goes on where it was when the connection was cut", async () => {
  await using pair = await pairOf();

  const sent = pair.client.size(new Uint8Array(10 * MiB));
  const got = pair.client.make(10 * MiB);
  for (let cut = 0; cut < 10; cut++) {
    await pair.client.ping();
    pair.cut();
  }

  expect(await sent).toBe(10 * MiB);
  expect(((await got) as Uint8Array).every((byte) => byte === 7)).toBe(true);
});

test("a call that is cancelled before all of it was sent did not run, and leaves nothing behind", async () => {
  await using pair = await pairOf();
  const controller = new AbortController();

  const sent = callWith(pair.client, { signal: controller.signal }).size(new Uint8Array(100 * MiB));
  await ticks(() => [...pair.acceptor.sessions].some(({ counts }) => counts.parcels > 0));
  controller.abort();

  await expect(sent).rejects.toMatchObject({ code: "cancelled", outcome: "not_run" });
  await pair.fence();
  expect([...pair.acceptor.sessions].map(({ counts }) => counts.parcels)).toEqual([0]);
});

test("a large result stops when its call is cancelled", async () => {
  await using pair = await pairOf();
  const controller = new AbortController();

  const got = callWith(pair.client, { signal: controller.signal }).make(100 * MiB);
  await ticks(() => pair.peer.session.counts.parcels > 0);
  controller.abort();

  await expect(got).rejects.toMatchObject({ code: "cancelled", outcome: "unknown" });
  await pair.fence();
  expect([pair.peer.session.counts.parcels, ...[...pair.acceptor.sessions].map(({ counts }) => counts.parcels)]).toEqual([0, 0]);
});

test("a call too large for the other side fails alone, by the name of the limit", async () => {
  await using pair = await pairOf({ limits: { messageBytes: 300_000 } });

  await expect(pair.client.size(new Uint8Array(300_000))).rejects.toMatchObject({
    code: "limit_exceeded",
    details: { limit: "messageBytes" },
  });
  await expect(pair.client.make(300_000)).rejects.toMatchObject({
    code: "limit_exceeded",
    message: expect.stringContaining("messageBytes"),
  });
  expect(await pair.client.size(new Uint8Array(299_000))).toBe(299_000);
});

test("more large messages than the other side takes at once wait for their turn", async () => {
  await using pair = await pairOf({ limits: { messageBytes: 400_000, reassemblyBytes: 2_000_000, parcels: 2 } });

  const sizes = await Promise.all([1, 2, 3, 4, 5].map((n) => pair.client.size(new Uint8Array(300_000 + n))));
  const tooMany = await Promise.allSettled([1, 2, 3, 4, 5, 6, 7].map(() => pair.client.size(new Uint8Array(390_000))));

  expect(sizes).toEqual([300_001, 300_002, 300_003, 300_004, 300_005]);
  expect(tooMany[0]).toMatchObject({ status: "fulfilled" });
  expect(tooMany.at(-1)).toMatchObject({ reason: { code: "limit_exceeded", details: { limit: "reassemblyBytes" } } });
});

test("a Blob that cannot be read fails its call, or the call that it answers", async () => {
  const broken = Object.assign(new Blob(["text"]), {
    slice: () => ({ arrayBuffer: () => Promise.reject(new Error("the file has changed")) }),
  });
  await using pair = await connectedPair({ take: method({ input: anything }, () => "taken"), give: method({}, () => broken) });

  await expect(pair.client.take(broken)).rejects.toMatchObject({
    code: "invalid_argument",
    message: expect.stringContaining("has changed"),
  });
  await expect(pair.client.give()).rejects.toMatchObject({ code: "invalid_result", message: expect.stringContaining("give failed") });
  expect(await pair.client.take(1)).toBe("taken");
});

test("bytes that are given away while they are sent fail their call", async () => {
  await using pair = await pairOf();
  const bytes = new Uint8Array(20 * MiB);

  const sent = pair.client.size(bytes);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });

  await expect(sent).rejects.toMatchObject({ code: "invalid_argument", message: expect.stringContaining("another owner") });
});

test("of bytes that become more while they are sent arrive those that there were, and the session goes on", async () => {
  await using pair = await pairOf();
  // TypeScript does not know of it yet; Node 20 does.
  const Resizable = ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer & { resize(length: number): void };
  const buffer = new Resizable(MiB, { maxByteLength: 2 * MiB });
  const blob = new Blob(["text"]);
  Object.assign(blob, { slice: (from: number) => new Blob(from === 0 ? ["text and more"] : []) });

  const sizes = [pair.client.size(new Uint8Array(buffer)), pair.client.echo(blob)];
  buffer.resize(2 * MiB);

  expect(await sizes[0]).toBe(MiB);
  expect(await ((await sizes[1]) as Blob).text()).toBe("text");
  expect(pair.peer.session.state).toBe("open");
});

test("a function's invocations stay in order, though the first of them is large", async () => {
  const seen: unknown[] = [];
  await using pair = await connectedPair({
    tell: method({ input: callback }, async (fn) => {
      const all = [fn("x".repeat(2 * MiB)), fn("second"), fn(new Blob(["third"])), fn("fourth")];
      await Promise.all(all);
    }),
  });

  await pair.client.tell(async (value) => void seen.push(value instanceof Blob ? "Blob" : (value as string).slice(0, 6)));

  expect(seen).toEqual(["xxxxxx", "second", "Blob", "fourth"]);
});

test("a stream in a large message begins behind it, and large chunks stay in order", async () => {
  await using pair = await connectedPair({
    both: method({}, () => ({
      text: "x".repeat(2 * MiB),
      stream: (async function* () {
        for (let n = 0; n < 5; n++) yield n % 2 === 0 ? new Uint8Array(MiB).fill(n) : n;
      })(),
    })),
  });

  const { text, stream } = (await pair.client.both()) as { text: string; stream: AsyncIterable<Uint8Array | number> };
  const seen: number[] = [];
  for await (const chunk of stream) seen.push(typeof chunk === "number" ? chunk : (chunk.at(-1) as number));

  expect(text).toHaveLength(2 * MiB);
  expect(seen).toEqual([0, 1, 2, 3, 4]);
});

test("the session's end fails what was not sent in full as not run", async () => {
  const pair = await pairOf();
  const sent = pair.client.size(new Uint8Array(50 * MiB));
  await ticks(() => pair.peer.session.counts.parcels > 0);

  await pair[Symbol.asyncDispose]();

  await expect(sent).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
});

test("a message comes in pieces as PROTOCOL.md shows it", async () => {
  const host = acceptor(undefined, { echo: method({ input: anything }, (value) => value) });
  const peer = await greet(host);
  const json = '[0,0,[2],[0,1,"echo",[{"$":["b",0]}]]]';
  const body = Uint8Array.from([0, 0, 0, json.length, ...new TextEncoder().encode(json), 5, 6]);

  peer.send(writeFrame(1, 0, [`[14,3,0,${body.byteLength}]`], [body.subarray(0, 10)]));
  peer.send(writeFrame(2, 0, ["[14,3,0]"], [body.subarray(10)]));
  await until(() => peer.heard().includes("[1,1,"));

  expect(peer.frames.at(-1)?.slice(-2)).toEqual(new Uint8Array([5, 6]));
  host.close(new KiteError("disconnected", "done"));
});

/** Waits within one turn of the event loop, in which a memory transport can carry any amount. */
async function ticks(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>((resolve) => process.nextTick(resolve));
}
