import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { connectDnode, dnodeHost } from "./dnode/test-dnode.ts";
import { KiteError } from "./errors.ts";
import { Kite } from "./kite.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { type Methods, method } from "./method.ts";
import type { RemoteFunction } from "./session/callbacks.ts";
import { Peer } from "./session/peer.ts";
import { type Credentials, credentials, forge } from "./test-forgeries.ts";
import { type LooseFrame, Mutator } from "./test-mutator.ts";
import { testIdentity, until } from "./testing.ts";
import { memoryLink } from "./transport/memory.ts";
import type { RawFrame } from "./wire/v1.ts";

// The same attack in every run; another seed, or more of it, for whoever looks for trouble.
const SEED = Number(process.env.FUZZ_SEED ?? 7);
const FRAMES = Number(process.env.FUZZ_FRAMES ?? 100_000);
const SECRET = "nobody but the owner reads this";
const IDENTITY = testIdentity({ username: "alice" });
// Small enough to be reached: what lies behind them is attacked as well.
const TIGHT: Partial<Limits> = {
  callbacks: 50,
  streams: 20,
  pendingCalls: 50,
  messageBytes: 100_000,
  reassemblyBytes: 150_000,
  parcels: 4,
};
// Frames of one session: long enough for calls, functions and streams to be open when the next frame comes.
const SESSION_FRAMES = 40;

const failures: unknown[] = [];
const note = (failure: unknown) => void failures.push(failure);
let shown: Credentials;

beforeAll(async () => {
  process.on("unhandledRejection", note).on("uncaughtException", note);
  shown = await credentials(IDENTITY);
});
afterAll(() => void process.off("unhandledRejection", note).off("uncaughtException", note));

describe.each(["nobody", "a viewer"] as const)(`frames of %s, mutated with seed ${SEED}`, (attacker) => {
  test("in kite.v1 crash nothing, leave nothing behind, and are answered nothing that is for others", async () => {
    const by = new Mutator(SEED);
    const ran: string[] = [];
    await using kite = new Kite({ ...IDENTITY, methods: served(ran), authenticate: shown.v1, limits: TIGHT, graceMs: 5 });
    await using honest = honestPeer(kite);
    const ended: { counts: object; state: string }[] = [];
    const resumable: unknown[] = [{ id: "x", secret: "y", received: 0 }];

    await attack(
      async () => {
        const line = connect(kite);
        const sent = await talk(line, by, attacker, resumable);
        const session = [...kite.sessions].find(({ id }) => id === line.sessionId());
        if (session !== undefined) ended.push(session);
        if (by.oneIn(2)) line.drop();
        else line.close();
        sweep(ended);
        return { sent, heard: line.heard() };
      },
      async () => expect(await honest.call("secret", [])).toBe(SECRET),
      ran,
    );
    await until(() => [...kite.sessions].length === 1, 20_000);
    sweep(ended);

    expect(ended, `seed ${SEED}`).toEqual([]);
    expect(idle([...kite.sessions][0]), `seed ${SEED}`).toBe(true);
  }, 180_000);

  test("in dnode crash nothing, leave nothing behind, and are answered nothing that is for others", async () => {
    const by = new Mutator(SEED + 1);
    const ran: string[] = [];
    const host = dnodeHost(served(ran), { authenticate: shown.dnode, limits: TIGHT });
    const honest = connectDnode(host);

    await attack(
      async () => {
        const line = connectDnode(host);
        const session = line.session;
        let sent = 0;
        for (; sent < SESSION_FRAMES && line.closed() === undefined; sent++) {
          line.send(dnodeFrame(by, sent, attacker));
          if (by.oneIn(4)) await turns(by.below(4));
        }
        await turns(3);
        line.drop();
        // A credential that is being verified is still at work when its session has ended.
        await soon(() => session.state === "closed" && idle(session));
        return { sent, heard: JSON.stringify(line.frames) };
      },
      async () => {
        const id = honest.call("secret", [], { authentication: shown.owner });
        await until(() => honest.answerTo(id) !== undefined, 20_000);
        expect(honest.answerTo(id)).toEqual({ error: null, result: SECRET });
      },
      ran,
    );

    expect([...host.sessions], `seed ${SEED}`).toEqual([honest.session]);
    expect(idle(honest.session), `seed ${SEED}`).toBe(true);
    host.close(new KiteError("disconnected", "the test is over"));
  }, 180_000);
});

/** Runs sessions of the attacker until a quarter of the frames was sent, and an honest call beside every twentieth of them. */
async function attack(session: () => Promise<{ sent: number; heard: string }>, honest: () => Promise<void>, ran: string[]): Promise<void> {
  let [sent, sessions, calls, before] = [0, 0, 0, 0];
  while (sent < FRAMES / 4) {
    const said = await session();
    expect(said.heard, `seed ${SEED}, session ${sessions}`).not.toContain(SECRET);
    sent += Math.max(1, said.sent);
    if (sessions++ % 20 !== 0) continue;
    await honest();
    calls++;
    // The first fifth fills what is kept on purpose: compiled code, verified tokens.
    if (before === 0 && sent > FRAMES / 20) before = await heldBytes();
  }
  const grown = (await heldBytes()) - before;

  expect(failures, `seed ${SEED}`).toEqual([]);
  expect(ran, `seed ${SEED}`).toEqual(Array.from({ length: calls }, () => "alice"));
  expect(grown, `seed ${SEED}`).toBeLessThan(8 * 1024 * 1024);
  expect(Object.hasOwn(Object.prototype, "polluted") || "polluted" in [], `seed ${SEED}`).toBe(false);
}

const anything = z.custom<unknown>(() => true);

/** What is attacked. All but `secret` is for everybody, so that strangers reach as much code as they can. */
function served(ran: string[]): Methods {
  const open = { role: "anyone", input: anything } as const;
  return {
    secret: method({}, ({ caller }) => {
      ran.push(caller.username);
      return SECRET;
    }),
    echo: method(open, (value) => value),
    call: method(open, async (fn) => (typeof fn === "function" ? await (fn as RemoteFunction)("line", [1]) : "no function")),
    give: method(open, () => ({ fn: (value: unknown) => value })),
    wait: method(open, (_, { signal }) => new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }))),
    stream: method({ role: "anyone" }, async function* () {
      for (let n = 0; n < 30; n++) yield n % 3 === 0 ? new Uint8Array(2_000) : { n };
    }),
    read: method(open, async (value) => {
      let count = 0;
      if (typeof value === "object" && value !== null && Symbol.asyncIterator in value) {
        for await (const _ of value as AsyncIterable<unknown>) count++;
      }
      return count;
    }),
  };
}

function honestPeer(kite: Kite): Peer {
  const dial = async () => {
    const [here, there] = memoryLink().ends;
    kite.serve(there);
    return here;
  };
  return new Peer({ target: async () => ({ url: "memory:", auth: shown.owner }), dial, limits: LIMITS });
}

interface Line {
  send(raw: RawFrame): void;
  /** The number of the last frame that came. */
  received(): number;
  heard(): string;
  sessionId(): string | undefined;
  closed(): boolean;
  drop(): void;
  close(): void;
}

function connect(kite: Kite): Line {
  const { ends, sever } = memoryLink();
  const [here, there] = ends;
  const heard: string[] = [];
  let closed = false;
  kite.serve(there);
  here.start({ frame: (raw) => heard.push(typeof raw === "string" ? raw : decoder.decode(raw)), closed: () => (closed = true) });
  return {
    send: (raw) => here.send(raw),
    received: () => heard.reduce((last, text) => Math.max(last, Number(/\[(\d+),/.exec(text.slice(0, 30))?.[1] ?? 0)), 0),
    heard: () => heard.join("\n"),
    sessionId: () => /"session":\{"id":"([^"]+)"/.exec(heard[0] ?? "")?.[1],
    closed: () => closed,
    drop: sever,
    close: () => here.close(4000, ""),
  };
}

const decoder = new TextDecoder();

/** One session: a hello, which may be broken, and then frames, most of which are. */
async function talk(line: Line, by: Mutator, attacker: string, resumable: unknown[]): Promise<number> {
  const auth = by.oneIn(8) ? forge(by, shown) : attacker === "nobody" ? undefined : shown.viewer;
  const resume = by.oneIn(12) ? by.value(by.pick(resumable)) : by.oneIn(4) ? by.pick(resumable) : undefined;
  const hello = { hello: { auth, resume, kite: by.oneIn(4) ? IDENTITY : undefined } };
  line.send(by.oneIn(12) ? by.text(JSON.stringify(hello)) : JSON.stringify(by.oneIn(12) ? by.value(hello) : hello));
  if (by.oneIn(50)) line.send("[1,0]");
  await soon(() => line.closed() || line.heard() !== "");
  const welcome = /^\{"welcome":\{"session":(\{[^}]*\})/.exec(line.heard())?.[1];
  if (welcome !== undefined) resumable[by.below(8)] = JSON.parse(welcome);

  const first = Number(/"received":(\d+)/.exec(welcome ?? "")?.[1] ?? 0);
  let sent = 0;
  for (let sequence = first + 1; sent < SESSION_FRAMES && !line.closed(); sent++) {
    const ack = line.received();
    if (by.oneIn(60)) line.send(`[${by.pick([0, sequence - 1, sequence + 1])},${by.pick([ack, ack, ack + 1, 1e9])},[12]]`);
    else line.send(v1Frame(by, sequence++, ack, attacker));
    if (by.oneIn(4)) await turns(by.below(4));
  }
  await turns(3);
  return sent;
}

function v1Frame(by: Mutator, sequence: number, ack: number, attacker: string): RawFrame {
  const sound: LooseFrame = by.pick(V1)(by, sequence, attacker);
  // Most of them as they are: without open calls, functions and streams there is little to break.
  if (!by.oneIn(3)) return write(by, sequence, ack, sound);
  const other: LooseFrame = by.pick(V1)(by, 1 + by.below(sequence), attacker);
  const change = by.below(10);
  if (change === 0) return by.text(`[${sequence},${ack},${sound.messages.map((message) => JSON.stringify(message)).join()}]`);
  if (change === 1) return by.binary(sequence, ack, { ...sound, segments: [...sound.segments, new Uint8Array(by.below(9))] });
  if (change === 2) return write(by, sequence, ack, { messages: [...sound.messages, ...other.messages], segments: sound.segments });
  if (change === 3) return write(by, sequence, ack, { ...sound, messages: [...sound.messages, ...sound.messages] });
  if (change === 4) return write(by, sequence, ack, { ...sound, messages: by.value(sound.messages) as unknown[] });
  const broken = by.below(sound.messages.length);
  return write(by, sequence, ack, {
    ...sound,
    messages: sound.messages.map((message, at) => (at === broken ? by.value(message) : message)),
  });
}

function write(by: Mutator, sequence: number, ack: number, { messages, segments }: LooseFrame): RawFrame {
  // A mutation may have left something else than a list.
  const frame = { messages: Array.isArray(messages) ? messages : [messages], segments };
  if (segments.length > 0) return by.oneIn(6) ? by.binary(sequence, ack, frame) : plain(sequence, ack, frame);
  return `[${[sequence, ack, ...frame.messages.map((message) => JSON.stringify(message))].join()}]`;
}

function plain(sequence: number, ack: number, { messages, segments }: LooseFrame): Uint8Array {
  const lengths = segments.map(({ length }) => length);
  const json = Buffer.from(`[${[sequence, ack, JSON.stringify(lengths), ...messages.map((message) => JSON.stringify(message))].join()}]`);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(json.length);
  return new Uint8Array(Buffer.concat([head, json, ...segments]));
}

type Make = (by: Mutator, id: number, attacker: string) => LooseFrame;

const text = (...messages: unknown[]): LooseFrame => ({ messages, segments: [] });
const credential = (by: Mutator, attacker: string) => (attacker === "nobody" || by.oneIn(2) ? forge(by, shown) : shown.viewer);

/** Every message of PROTOCOL.md, about what is new and about what may be open. */
const V1: readonly Make[] = [
  (_, id) => text([0, id, "echo", [{ a: [1, "x", { $: ["d", 1] }, { $: ["n", "12"] }] }], 60_000, { key: `k${id}` }]),
  (_, id) => text([0, id, "secret", []]),
  (_, id) => text([0, id, "call", [{ $: ["f", id] }]]),
  (_, id) => text([0, id, "give", [1]]),
  (_, id) => text([0, id, "stream", []]),
  (_, id) => text([0, id, "read", [{ $: ["s", id] }]]),
  (_, id) => text([0, id, "wait", [{ $: ["f", id] }], 50]),
  (by, id) => text([3, by.below(id)]),
  (_, id) => text([4, "secret", []], [4, "echo", [id]]),
  (by, id) => text([5, id, by.below(5), ["line"]]),
  (by, id) => text([6, by.below(5), 1 + by.below(2)], [1, by.below(id), 144]),
  (by, id) => text([2, by.below(id), { code: "not_found", message: "x", details: { a: 1 } }]),
  (by, id) => text([7, by.below(id), "chunk"], [7, by.below(id), { line: 1 }, 42]),
  (by) => text([8, by.below(5), by.pick([1, 10, 2_000, 1e9])]),
  (by, id) => text([9, by.below(id)], [9, by.below(id), { code: "internal", message: "x" }]),
  (by, id) => text([10, by.below(5)], [15, by.below(id)]),
  (by, id, attacker) => text([11, id, credential(by, attacker)]),
  (by, id) => ({
    messages: [[0, id, "echo", [{ $: ["b", 0] }, { $: ["b", 1] }]]],
    segments: [new Uint8Array(by.below(50)), new Uint8Array(3)],
  }),
  (by, id) => ({ messages: [[14, id, 0, by.pick([10, 50_000, 90_000])]], segments: [new Uint8Array(10)] }),
  (_, id) => {
    const parcel = plain(0, 0, text([0, id, "echo", ["x".repeat(500)]]));
    return {
      messages: [
        [14, id, 0, parcel.length],
        [14, id, 1],
      ],
      segments: [parcel.subarray(0, 100), parcel.subarray(100)],
    };
  },
];

function dnodeFrame(by: Mutator, id: number, attacker: string): RawFrame {
  const make = () => by.pick(DNODE)(by, id * 3, attacker);
  const sound = make();
  if (!by.oneIn(3)) return JSON.stringify(sound);
  const change = by.below(6);
  if (change === 0) return by.text(JSON.stringify(sound));
  if (change === 1) return JSON.stringify({ ...make(), callbacks: sound.callbacks });
  if (change === 2 && by.oneIn(10)) return by.bytes(Buffer.from(JSON.stringify(sound)));
  return JSON.stringify(by.value(sound));
}

interface LooseMessage {
  readonly method: unknown;
  readonly arguments: readonly unknown[];
  readonly callbacks: object;
}

function dnodeCall(name: string, withArgs: unknown, id: number, authentication: unknown, callbacks: object = {}): LooseMessage {
  const envelope = { kite: IDENTITY, authentication, responseCallback: "[Function]", withArgs };
  return { method: name, arguments: [envelope], callbacks: { [id]: [0, "responseCallback"], ...callbacks } };
}

const auth = (by: Mutator, attacker: string) =>
  by.oneIn(3) ? forge(by, shown) : attacker === "nobody" ? by.pick([null, undefined, {}]) : shown.viewer;

const DNODE: readonly ((by: Mutator, id: number, attacker: string) => LooseMessage)[] = [
  (by, id, attacker) => dnodeCall("echo", [{ a: [1, "x"] }], id, auth(by, attacker)),
  (by, id, attacker) => dnodeCall("secret", [], id, auth(by, attacker)),
  (by, id, attacker) => dnodeCall("call", ["[Function]"], id, auth(by, attacker), { [id + 1]: [0, "withArgs", 0] }),
  (by, id, attacker) => dnodeCall("give", [1], id, auth(by, attacker)),
  (by, id, attacker) => dnodeCall("wait", [1], id, auth(by, attacker)),
  (by, id, attacker) => dnodeCall("stream", [], id, auth(by, attacker)),
  (by, id, attacker) => dnodeCall("kite.ping", null, id, auth(by, attacker)),
  (by) => ({ method: by.below(8), arguments: [{ error: null, result: 1 }], callbacks: {} }),
  (by, id) => ({ method: by.below(8), arguments: ["[Function]"], callbacks: { [id]: [0] } }),
  (by) => ({ method: "cull", arguments: [by.below(8)], callbacks: {} }),
];

function sweep(ended: { counts: object; state: string }[]): void {
  for (const session of ended.splice(0)) {
    if (session.state !== "closed") ended.push(session);
    else expect(idle(session), `seed ${SEED}: ${JSON.stringify(session.counts)}`).toBe(true);
  }
}

function idle(session: { counts: object } | undefined): boolean {
  return session !== undefined && Object.values(session.counts).every((count) => count === 0);
}

/** Turns of the microtask queue, in which memory transports deliver, and one of the event loop. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await Promise.resolve();
  await new Promise(setImmediate);
}

/** As `until`, for what mostly takes a few turns: thousands of sessions would wait a millisecond each. */
async function soon(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 20 && !condition(); turn++) await new Promise(setImmediate);
  await until(condition, 20_000);
}

async function heldBytes(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let turn = 0; turn < 4; turn++) {
    collect();
    await new Promise(setImmediate);
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
