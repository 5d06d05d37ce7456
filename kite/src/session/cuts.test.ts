import { expect, test } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { type Remote, remote } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { LIMITS, type Limits } from "../limits.ts";
import { Listener } from "../listener.ts";
import { type ContractOf, method } from "../method.ts";
import { connectedPair, until } from "../testing.ts";
import { dialWebSocket } from "../transport/websocket.ts";
import { PROTOCOL } from "../wire/v1.ts";
import type { Acceptor } from "./acceptor.ts";
import { Peer } from "./peer.ts";
import { badProxy } from "./test-proxy.ts";
import { acceptor } from "./test-stranger.ts";

// The same cuts in every run; another seed, or more of them, for whoever looks for trouble.
const SEED = Number(process.env.KITE_TEST_SEED ?? 7);
const CUTS = Number(process.env.KITE_TEST_CUTS ?? 1_000);

test("over memory: every call settles once, no effect happens twice, callbacks and streams go on", async () => {
  const ran = new Map<number, number>();
  await using pair = await connectedPair(workload(ran));
  pair.frames.push = () => 0;

  await cutUnderLoad(pair.client, ran, { cuts: CUTS, cut: () => pair.cut(), open: () => pair.peer.state === "open" });
  // Work for a core, half a minute of it where ten want one; a connection that does not come back is told after 20 s.
}, 180_000);

test("over WebSockets: every call settles once, no effect happens twice, callbacks and streams go on", async () => {
  const ran = new Map<number, number>();
  const host = acceptor(undefined, workload(ran));
  await using line = await lineTo(host);

  const client = remote<Work>(line.peer);
  // A tenth: each costs two handshakes of TCP and one of WebSocket.
  await cutUnderLoad(client, ran, { cuts: CUTS / 10, cut: () => line.proxy.cut(), open: () => line.peer.state === "open" });
}, 60_000);

test("a connection that swallows everything without closing is noticed, and the session goes on over another one", async () => {
  let runs = 0;
  const host = acceptor(undefined, { work: method({}, () => ++runs) });
  await using line = await lineTo(host, { heartbeatMs: 30 });
  expect(await line.peer.call("work", [])).toBe(1);
  const { session } = line.peer;

  line.proxy.swallow();
  const call = line.peer.call("work", []);

  expect(await call).toBe(2);
  expect([line.peer.session, runs]).toEqual([session, 2]);
}, 30_000);

test("a peer that asks for much and reads nothing loses its session before it costs more than its limit", async () => {
  const limits = { unackedBytes: 1_000_000 };
  const host = acceptor(undefined, { big: method({}, () => "x".repeat(100_000)) }, limits);
  await using listener = await listening(host);
  const socket = new WebSocket(listener.url.replace("http", "ws"), [PROTOCOL]);
  await new Promise((resolve) => socket.once("open", resolve));
  socket.on("error", () => {});

  socket.send('{"hello":{}}');
  await new Promise((resolve) => socket.once("message", resolve));
  socket.pause();
  const [session] = host.sessions;
  for (let n = 1; n <= 300; n++) socket.send(`[${n},0,[0,${n},"big",[]]]`);
  await until(() => session?.state === "closed", 20_000);

  expect([...host.sessions]).toEqual([]);
  socket.terminate();
}, 30_000);

test("when nothing listens any more where the session was, every pending call fails at once, long before the grace period ends", async () => {
  const host = acceptor(undefined, { never: method({}, () => new Promise(() => {})) }, {}, 3_600_000);
  await using listener = await listening(host);
  await using peer = peerTo(listener.url);
  const pending = [peer.call("never", []), peer.call("never", [])];
  await until(() => [...host.sessions][0]?.counts.serving === 2);

  const failures = pending.map((call) =>
    expect(call).rejects.toMatchObject({ code: "disconnected", outcome: "unknown", message: expect.stringContaining("process is gone") }),
  );
  await listener.vanish();

  await Promise.all(failures);
}, 30_000);

test("a process that came back without the session fails every pending call at once, and serves the next one", async () => {
  const first = acceptor(undefined, { never: method({}, () => new Promise(() => {})) }, {}, 3_600_000);
  const second = acceptor(undefined, { now: method({}, () => "here") });
  await using one = await listening(first);
  await using two = await listening(second);
  let target = one.url;
  await using proxy = await badProxy(one.url);
  await using other = await badProxy(two.url);
  await using peer = new Peer({
    // The same address, as the peer sees it: its session is asked for where it is not known.
    target: async () => ({ url: "http://kite.test" }),
    dial: (request) => dialWebSocket({ ...request, url: target }),
    limits: LIMITS,
  });
  target = proxy.url;
  const pending = peer.call("never", []);
  await until(() => [...first.sessions][0]?.counts.serving === 1);

  target = other.url;
  proxy.cut();

  await expect(pending).rejects.toMatchObject({
    code: "disconnected",
    outcome: "unknown",
    message: expect.stringContaining("no longer knows"),
  });
  expect(await peer.call("now", [])).toBe("here");
}, 30_000);

function workload(ran: Map<number, number>) {
  return {
    work: method({ input: z.number() }, async (n) => {
      ran.set(n, (ran.get(n) ?? 0) + 1);
      if (n % 3 === 0) await Promise.resolve();
      return n * 2;
    }),
    numbers: method({}, async function* () {
      for (let n = 0; ; n++) yield { n, padding: "x".repeat(n % 50) };
    }),
    each: method({ input: [z.number(), z.custom<(n: number) => Promise<number>>()] }, async (upTo, fn) => {
      let sum = 0;
      for (let n = 0; n < upTo; n++) sum += await fn(n);
      return sum;
    }),
    large: method({ input: z.instanceof(Uint8Array) }, (bytes) => bytes.byteLength * (bytes.at(-1) ?? 0)),
  };
}

type Work = ContractOf<ReturnType<typeof workload>>;

interface Line {
  readonly cuts: number;
  cut(): void;
  open(): boolean;
}

/** Cuts the line at random moments, while calls, callbacks, a stream and large messages are under way. */
async function cutUnderLoad(client: Remote<Work>, ran: Map<number, number>, { cuts, cut, open }: Line): Promise<void> {
  const random = seeded(SEED);
  const settled: number[] = [];
  let next = 0;
  let over = false;
  const calls = async () => {
    while (!over) {
      const n = next++;
      expect(await client.work(n)).toBe(n * 2);
      settled.push(n);
      await turn();
    }
  };
  const callbacks = async () => {
    while (!over) {
      const invoked: number[] = [];
      expect(await client.each(5, async (n) => invoked.push(n) && n)).toBe(10);
      expect(invoked).toEqual([0, 1, 2, 3, 4]);
      await turn();
    }
  };
  const large = async () => {
    while (!over) {
      expect(await client.large(new Uint8Array(300_000).fill(1))).toBe(300_000);
      for (let pause = 0; pause < 20; pause++) await turn();
    }
  };
  const stream = async () => {
    let expected = 0;
    for await (const { n } of (await client.numbers()) as unknown as AsyncIterable<{ n: number }>) {
      expect(n).toBe(expected++);
      if (over) return expected;
      await turn();
    }
    return expected;
  };
  const load = Promise.all([stream(), ...Array.from({ length: 8 }, calls), callbacks(), callbacks(), large()]);

  for (let done = 0; done < cuts; done++) {
    for (let turns = Math.floor(random() * 4); turns >= 0; turns--) await turn();
    cut();
    // Over a connection that is cut before anything came through, the next one would wait longer; those have tests of their own.
    const before = settled.length;
    await until(() => open() && settled.length > before, 20_000);
  }
  over = true;
  const [streamed] = await load;

  expect(streamed).toBeGreaterThan(0);
  expect(settled.toSorted((a, b) => a - b)).toEqual(Array.from({ length: next }, (_, n) => n));
  expect([...ran.values()].filter((times) => times !== 1)).toEqual([]);
  expect(ran.size).toBe(next);
}

/** A turn of the event loop: over memory, all others are for calls, and nothing else would ever happen. */
function turn(): Promise<unknown> {
  return new Promise(setImmediate);
}

async function listening(host: Acceptor): Promise<AsyncDisposable & { url: string; vanish(): Promise<void> }> {
  const listener = await Listener.open({}, LIMITS, { onTransport: (transport) => host.accept(transport) });
  const dispose = async () => {
    const closed = listener.close();
    host.close(new KiteError("disconnected", "the test is over"));
    await closed;
  };
  // Without a goodbye, as a process that was killed.
  return { url: listener.url, vanish: () => listener.close(), [Symbol.asyncDispose]: dispose };
}

function peerTo(url: string, heartbeatMs?: number, limits: Limits = LIMITS): Peer {
  return new Peer({ target: async () => ({ url }), dial: dialWebSocket, limits, heartbeatMs, random: () => 0 });
}

/** A peer that reaches a kite through a bad proxy. */
async function lineTo(host: Acceptor, { heartbeatMs }: { heartbeatMs?: number } = {}) {
  const listener = await listening(host);
  const proxy = await badProxy(listener.url);
  const peer = peerTo(proxy.url, heartbeatMs);
  await peer.connect();
  const dispose = async () => {
    await peer[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await listener[Symbol.asyncDispose]();
  };
  return { peer, proxy, [Symbol.asyncDispose]: dispose };
}

/** Mulberry32. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
