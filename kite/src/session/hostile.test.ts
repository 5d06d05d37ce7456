import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { LIMITS, type Limits } from "../limits.ts";
import { silent } from "../log.ts";
import { type Methods, method } from "../method.ts";
import { watchKite } from "../observe.ts";
import { serveMethods } from "../serving/serve.ts";
import { testCaller, testIdentity, until } from "../testing.ts";
import { writeFrame } from "../wire/test-frame.ts";
import { Acceptor } from "./acceptor.ts";
import { writeHello } from "./handshake.ts";
import { acceptor, connect, greet, HELLO, type Stranger } from "./test-stranger.ts";

const failures: unknown[] = [];
const note = (failure: unknown) => void failures.push(failure);

beforeAll(() => void process.on("unhandledRejection", note).on("uncaughtException", note));
// Whatever a peer sends, nothing of it reaches the process.
afterAll(() => {
  process.off("unhandledRejection", note).off("uncaughtException", note);
  expect(failures).toEqual([]);
});

const anything = z.custom<unknown>(() => true);
const methods: Methods = {
  echo: method({ input: anything }, (value) => value),
  take: method({ input: anything }, () => "taken"),
  wait: method({ input: anything }, () => new Promise(() => {})),
  bytes: method({}, async function* () {
    for (;;) yield new Uint8Array(600);
  }),
  notSent: method({}, () => Promise.reject(new KiteError("conflict", "no", { details: { count: 1n } }))),
};

test.each<[breach: string, frame: string | Uint8Array, reason: RegExp, limits?: Partial<Limits>]>([
  ["more functions than it may", `[1,0,[0,1,"take",[${marks("f", 6)}]]]`, /the limit callbacks is 5/, { callbacks: 5 }],
  ["more streams than it may", `[1,0,[0,1,"take",[${marks("s", 6)}]]]`, /the limit streams is 5/, { streams: 5 }],
  ["a stream that it had announced", '[1,0,[0,1,"take",[{"$":["s",1]}]],[0,2,"take",[{"$":["s",1]}]]]', /stream 1 was announced twice/],
  ["chunks beyond the window", `[1,0,[0,1,"wait",[{"$":["s",1]}]],${chunks(1, 4)}]`, /beyond its window of 2000/, { streamWindow: 2_000 }],
  [
    "a chunk that says to weigh less than it does",
    '[1,0,[0,1,"wait",[{"$":["s",1]}]],[7,1,["twelve chars"],12]]',
    /not less than its length/,
  ],
  ["a chunk that does not say what it weighs", '[1,0,[0,1,"wait",[{"$":["s",1]}]],[7,1,{}]]', /has its weight beside it/],
  ["a piece of nothing", "[1,0,[14,1,0,100]]", /a piece has/],
  ["a piece that does not say of how much", binary("[1,0,[3],[14,1,0]]", 3), /says how large it is/],
  ["pieces beyond what was announced", binary("[1,0,[3],[14,1,0,2]]", 3), /its pieces have more/],
  ["a piece without bytes", binary("[1,0,[0],[14,1,0,2]]", 0), /or none/],
  ["a message larger than it may be", binary("[1,0,[3],[14,1,0,101]]", 3), /the limit messageBytes is 100/, { messageBytes: 100 }],
  [
    "more to be put together than it may",
    binary(`[1,0,[1],[14,1,0,60],[14,2,0,60]]`, 1),
    /the limit reassemblyBytes is 100/,
    { reassemblyBytes: 100 },
  ],
  [
    "more messages in pieces than it may",
    binary("[1,0,[1],[14,1,0,9],[14,2,0,9],[14,3,0,9]]", 1),
    /the limit parcels is 2/,
    { parcels: 2 },
  ],
  ["pieces that make no frame", binary("[1,0,[3],[14,1,0,3]]", 3), /begins with the length/],
  ["a piece within pieces", pieces("[14,1,0,9]"), /a message type of kite.v1/],
  ["two messages in the pieces of one", pieces("[3,1],[3,2]"), /make up one message/],
  ["negative credit", "[1,0,[8,1,-1]]", /credit for a stream is a whole number, got -1/],
  ["credit that is no number", '[1,0,[8,1,"1e9"]]', /credit for a stream is a whole number/],
  ["credit beyond what a number holds", "[1,0,[8,1,1e308]]", /credit for a stream is a whole number/],
  ["a release of no copies", "[1,0,[6,1,0]]", /how many copies/],
  ["a release of fewer than none", "[1,0,[6,1,-5]]", /how many copies/],
  ["an id that is no exact number", '[1,0,[0,9007199254740993,"take",[1]]]', /has a number as its second element/],
  ["a function whose id is no exact number", '[1,0,[0,1,"take",[{"$":["f",1e300]}]]]', /a marked value was expected/],
  ["a message of a type that there is not", "[1,0,[99,1]]", /a message type of kite.v1/],
  ["a type that cannot be printed", '[1,0,[{"toString":1,"valueOf":1},1]]', /./],
  ["arguments that are no array", '[1,0,[0,1,"take",{"length":1}]]', /array of arguments/],
  ["a call without a number", '[0,0,[0,1,"take",[1]]]', /only ping and goodbye/],
  ["values nested beyond the limit", `[1,0,[0,1,"echo",[${"[".repeat(101)}${"]".repeat(101)}]]]`, /the limit depth/],
  ["marked values nested beyond the limit", `[1,0,[0,1,"echo",["$",${"[".repeat(101)}${"]".repeat(101)}]]]`, /the limit depth is 100/],
  ["a property named __proto__", '[1,0,[0,1,"echo",[{"a":{"__proto__":{"polluted":true}}}]]]', /__proto__/],
  ["a property named __proto__ in disguise", '[1,0,[0,1,"echo",[{"\\u005f_proto__":1}]]]', /__proto__/],
  ["a property named __proto__ beside a mark", '[1,0,[0,1,"echo",[{"a":{"$":["u"]},"__proto__":1}]]]', /__proto__/],
  ["a segment that is not there", binary('[1,0,[3],[0,1,"take",[{"$":["b",7]}]]]', 3), /segment 7 is not in the frame/],
  ["segments that do not fill the frame", binary('[1,0,[3],[0,1,"take",[1]]]', 9), /segments fill it/],
  ["a segment of a negative length", binary('[1,0,[-1],[0,1,"take",[1]]]', 3), /lengths of its segments/],
  ["a frame shorter than its header", new Uint8Array(3), /begins with the length/],
  ["JSON that is longer than its frame", new Uint8Array([255, 255, 255, 255, 91]), /longer than the frame/],
])("a peer that sends %s loses its session, with the reason", async (_, frame, reason, limits) => {
  const host = acceptor(undefined, methods, limits);
  const peer = await greet(host);

  peer.send(frame);
  await until(() => peer.closed() !== undefined);

  expect(peer.closed()?.code).toBe(4001);
  expect(peer.frames.at(-1)).toMatch(/^\[0,\d+,\[13,/);
  expect(peer.frames.at(-1)).toMatch(reason);
  expect([...host.sessions]).toEqual([]);
});

test.each([
  ["too long", `"${"k".repeat(129)}"`],
  ["no text", "7"],
])("a call whose key is %s is refused, and does not run", async (_, key) => {
  let runs = 0;
  const host = acceptor(undefined, { charge: method({ repetition: "keyed" }, () => ++runs) });
  const peer = await greet(host);

  peer.send(`[1,0,[0,1,"charge",[],60000,{"key":${key}}],[0,2,"charge",[],60000,{"key":null,"traceparent":7}]]`);
  await until(() => peer.frames.length > 1);

  expect(peer.heard()).toMatch(/\[2,1,\{"code":"invalid_argument","message":"charge: the key of a call is a text of at most 128/);
  expect(peer.heard()).toContain("[1,2,1]");
  expect(runs).toBe(1);
});

test("of what stands beside an invocation observers see a trace alone, as it should be, whatever the peer sent", async () => {
  const metas: unknown[] = [];
  const identity = testIdentity();
  const watch = watchKite({ identity, sessions: () => [] }, [() => ({ invoked: ({ call }) => void metas.push(call.meta) })], silent);
  const give = { give: method({}, () => () => "called") };
  const host = new Acceptor({ limits: LIMITS, authenticate: async () => testCaller(), serve: serveMethods({ methods: give }), watch });
  const peer = await greet(host);
  const long = "x".repeat(513);
  const beside = [
    { key: 7 },
    { key: { deep: [1] } },
    { key: "k".repeat(129), traceparent: "00-aa-bb-01" },
    { key: "k", traceparent: long },
  ];

  peer.send('[1,0,[0,1,"give",[]]]');
  peer.send(`[2,0,${[...beside, "key", null].map((meta, index) => `[5,${index + 2},1,[],${JSON.stringify(meta)}]`)}]`);
  await until(() => metas.length === 6);

  expect(metas).toEqual([{}, {}, { traceparent: "00-aa-bb-01" }, {}, {}, {}]);
  close(host);
});

test("32 MiB of brackets end the session before they are parsed", async () => {
  const host = acceptor();
  const peer = await greet(host);
  const parse = vi.spyOn(JSON, "parse");

  peer.send(`[1,0,${"[".repeat(32 * 1024 * 1024)}`);
  await until(() => peer.closed() !== undefined);

  expect(peer.closed()?.reason).toContain("the limit depth is 100");
  expect(parse.mock.calls.every(([text]) => text.length < 1_000)).toBe(true);
  parse.mockRestore();
});

test("brackets in a long text are not taken for nesting", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);
  const text = `${'\\"\\\\['.repeat(20_000)}`;

  peer.send(`[1,0,[0,1,"echo",["${text}"]]]`);
  await until(() => peer.frames.length > 1);

  expect(peer.frames[1]).toContain(`[1,1,"${text}"]`);
  close(host);
});

test("more credit than was used ends the session", async () => {
  const host = acceptor(undefined, methods, { streamWindow: 2_000 });
  const peer = await greet(host);

  peer.send('[1,0,[0,1,"bytes",[]]]');
  await until(() => peer.heard().includes('{"$":["s",1]}'));
  peer.send(`[2,1,[8,1,${Number.MAX_SAFE_INTEGER}]]`);
  await until(() => peer.closed() !== undefined);

  expect(peer.closed()?.reason).toContain("more credit than was used");
});

test("credit, stops, ends, chunks, releases and answers for what is not open change nothing", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);

  peer.send('[1,0,[8,77,1],[10,77],[9,77],[7,77,"late"],[6,77,1],[1,77,"late"],[2,77,{}],[3,77]]');
  peer.send('[2,0,[0,1,"take",[1]]]');
  await until(() => peer.heard().includes('[1,1,"taken"]'));

  expect([...host.sessions].map(({ counts }) => Object.values(counts))).toEqual([[0, 0, 0, 0, 0, 0, 0]]);
  close(host);
});

test("a function that was never sent cannot be invoked", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);

  peer.send("[1,0,[5,1,999,[]]]");
  await until(() => peer.heard().includes("[2,1,"));

  expect(peer.heard()).toContain('"code":"not_found"');
  close(host);
});

test("calls and invocations beyond the limit are answered as overloaded, notifications beyond it are dropped", async () => {
  const noticed = vi.fn(() => new Promise(() => {}));
  const host = acceptor(undefined, { ...methods, note: method({}, noticed) }, { pendingCalls: 3 });
  const peer = await greet(host);

  peer.send('[1,0,[0,1,"wait",[]],[4,"note",[]],[4,"note",[]],[4,"note",[]],[0,2,"wait",[]],[5,3,1,[]]]');
  await until(() => peer.heard().includes("[2,3,"));

  expect(peer.heard().match(/"code":"overloaded"/g)).toHaveLength(2);
  expect(peer.heard()).toContain("the limit pendingCalls is 3");
  expect(noticed).toHaveBeenCalledTimes(2);
  close(host);
});

test("an id that is being invoked cannot be called", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);

  peer.send('[1,0,[0,5,"wait",[]],[5,5,1,[]]]');
  await until(() => peer.closed() !== undefined);

  expect(peer.closed()?.reason).toContain("call 5 is being served already");
});

test("a flood of pings gets one answer per tick", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);

  for (let n = 0; n < 10_000; n++) peer.send("[0,0,[12]]");
  await until(() => peer.frames.length > 1);
  await settled(peer);

  expect(peer.frames.length).toBeLessThan(20);
  expect([...host.sessions]).toHaveLength(1);
  close(host);
});

test("a flood of goodbyes ends the session once", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);

  for (let n = 0; n < 1_000; n++) peer.send('[0,0,[13,{"code":"disconnected","message":"bye"}]]');
  await until(() => peer.closed() !== undefined);

  expect([...host.sessions]).toEqual([]);
  expect(peer.frames.filter((raw) => String(raw).includes("[13,"))).toHaveLength(1);
});

test("a peer that asks for much and acknowledges nothing loses its session, and its streams wait before that", async () => {
  const answers = { big: method({}, async () => "x".repeat(20_000)), ...methods };
  const host = acceptor(undefined, answers, { unackedBytes: 50_000 });
  const peer = await greet(host);

  peer.send('[1,0,[0,1,"bytes",[]]]');
  await settled(peer);
  const streamed = peer.frames.reduce((sum, raw) => sum + raw.length, 0);
  for (let n = 2; n < 12; n++) peer.send(`[${n},0,[0,${n},"big",[]]]`);
  await until(() => peer.closed() !== undefined);

  expect(streamed).toBeLessThan(100_000);
  expect(peer.closed()?.reason).toContain("the limit unackedBytes is 50000");
});

test("a failure whose details are no JSON is told without them", async () => {
  const host = acceptor(undefined, methods);
  const peer = await greet(host);

  peer.send('[1,0,[0,1,"notSent",[]]]');
  await until(() => peer.frames.length > 1);

  expect(peer.frames[1]).toContain('[2,1,{"code":"conflict","message":"no"}]');
  close(host);
});

test.each([
  ["more than 64 KiB", `{"hello":{"auth":{"type":"t","key":"${"x".repeat(64 * 1024)}"}}}`, /short text frame/],
  ["bytes", new Uint8Array(10), /short text frame/],
  ["no JSON", "hello", /JSON object/],
  ["a credential that is none", '{"hello":{"auth":{"type":1}}}', /a type and a key/],
  ["a name in letters that a close frame has no room for", `{"hello":{"kite":{"name":"${"鳶".repeat(100)}"}}}`, /./],
])("a hello of %s is refused, with the reason", async (_, hello, reason) => {
  const host = acceptor();
  const peer = connect(host);

  peer.send(hello);
  await until(() => peer.closed() !== undefined);

  expect(peer.frames).toHaveLength(1);
  expect(peer.frames[0]).toMatch(/^\{"refused":/);
  expect(peer.frames[0]).toMatch(reason);
  expect([...host.sessions]).toEqual([]);
});

test("who speaks before the welcome is shown out", async () => {
  const host = acceptor(() => new Promise(() => {}));
  const peer = connect(host);

  peer.send(writeHello(HELLO));
  peer.send('[1,0,[0,1,"take",[1]]]');
  await until(() => peer.closed() !== undefined);

  expect(peer.heard()).toContain("nothing is sent before the welcome");
});

test("what goes wrong while a credential is checked is not told to strangers", async () => {
  const host = acceptor(async () => {
    throw new Error("password authentication failed for user kontrol");
  });
  const peer = connect(host);

  peer.send(writeHello(HELLO));
  await until(() => peer.closed() !== undefined);

  expect(peer.heard()).toContain("could not be checked");
  expect(peer.heard()).not.toContain("password");
});

test("whoever hangs up while it is greeted leaves no session behind", async () => {
  let admit = (_: ReturnType<typeof testCaller>) => {};
  const host = acceptor(() => new Promise((resolve) => (admit = resolve)));
  const peer = connect(host);
  peer.send(writeHello(HELLO));
  await settled(peer);

  peer.drop();
  await until(() => peer.closed() !== undefined);
  admit(testCaller());
  await settled(peer);

  expect([...host.sessions]).toEqual([]);
});

test("a kite that closes while it greets opens no session any more", async () => {
  let admit = (_: ReturnType<typeof testCaller>) => {};
  const host = acceptor(() => new Promise((resolve) => (admit = resolve)));
  const peer = connect(host);
  peer.send(writeHello(HELLO));
  await settled(peer);

  host.close(new KiteError("disconnected", "math has closed"));
  admit(testCaller());
  await until(() => peer.closed() !== undefined);
  const late = connect(host);
  await until(() => late.closed() !== undefined);

  expect([...host.sessions]).toEqual([]);
  expect(peer.heard()).toContain("math has closed");
  expect(late.heard()).toContain("math has closed");
});

test("of sessions without a credential only so many wait for their peer", async () => {
  const host = acceptor(async () => testCaller({ role: undefined }), methods, { unauthenticated: 3 });

  for (let n = 0; n < 10; n++) (await greet(host)).drop();
  await until(() => [...host.sessions].every(({ state }) => state === "suspended"));

  expect([...host.sessions]).toHaveLength(3);
  close(host);
});

function marks(kind: "f" | "s", count: number): string {
  return `[${Array.from({ length: count }, (_, id) => `{"$":["${kind}",${id}]}`).join(",")}]`;
}

function chunks(stream: number, count: number): string {
  return Array.from({ length: count }, () => `[7,${stream},{},1000]`).join(",");
}

function pieces(messages: string): Uint8Array {
  const body = binary(`[0,0,[],${messages}]`, 0);
  return writeFrame(1, 0, [`[14,1,0,${body.byteLength}]`], [body]) as Uint8Array;
}

function binary(json: string, extra: number): Uint8Array {
  const frame = writeFrame(0, 0, [], [new Uint8Array(extra)]) as Uint8Array;
  const head = new TextEncoder().encode(json);
  const bytes = new Uint8Array(4 + head.length + extra);
  new DataView(bytes.buffer).setUint32(0, head.length);
  bytes.set(head, 4);
  bytes.set(frame.subarray(frame.length - extra), 4 + head.length);
  return bytes;
}

/** Several turns of the event loop in which the peer gets nothing more. */
async function settled(peer: Stranger): Promise<void> {
  for (let quiet = 0, before = -1; quiet < 5; before = peer.frames.length) {
    quiet = peer.frames.length === before ? quiet + 1 : 0;
    await new Promise(setImmediate);
  }
}

function close(host: Acceptor): void {
  host.close(new KiteError("disconnected", "the test is over"));
}
