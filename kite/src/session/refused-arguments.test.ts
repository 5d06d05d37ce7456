import { expect, test, vi } from "vitest";
import { z } from "zod";
import type { Schema } from "../contract/standard-schema.ts";
import { KiteError } from "../errors.ts";
import { LIMITS, type Limits } from "../limits.ts";
import { type Call, type CallOptions, type CallSession, type Methods, method } from "../method.ts";
import { connectedPair, type PairOptions, testCaller, until } from "../testing.ts";
import type { RemoteFunction } from "./callbacks.ts";
import type { RemoteStream } from "./remote-stream.ts";
import type { Session } from "./session.ts";
import { acceptor, greet } from "./test-stranger.ts";

const callback = z.custom<RemoteFunction>((value) => typeof value === "function");
const anything = z.custom<unknown>(() => true);
const open = { role: "anyone", input: anything } as const;
const forever = () => new Promise<void>(() => {});

/** A Standard Schema of one's own. */
function schema(validate: Schema["~standard"]["validate"]): Schema {
  return { "~standard": { version: 1, vendor: "test", validate } };
}

/** What a call may bring, and whether all of it was let go by the other side: its producer has cleaned up. */
function cargo(session: Session, padding = 0) {
  let over = false;
  const numbers = async function* () {
    try {
      for (let n = 0; ; n++) yield n;
    } finally {
      over = true;
    }
  };
  const fn = async () => "here";
  const other = async () => "there";
  return {
    args: { fn, again: fn, inner: [{ other }], stream: numbers(), padding: "x".repeat(padding) },
    ended: () => over,
    isLetGo: () => over && session.counts.exported === 0 && session.counts.sending === 0,
  };
}

interface Refusal {
  readonly why: string;
  readonly code: string;
  readonly name?: string;
  readonly methods?: Methods;
  readonly options?: PairOptions;
  readonly call?: CallOptions;
  readonly more?: readonly unknown[];
}

const busy: Methods = { work: method({ ...open, concurrency: { running: 1, waiting: 0 } }, forever) };

const refusals: readonly Refusal[] = [
  { why: "there is no such method", code: "method_not_found", name: "nothing" },
  { why: "its caller has not the role", code: "permission_denied", options: { authenticate: async () => testCaller({ role: "viewer" }) } },
  { why: "its caller showed nothing", code: "unauthenticated", options: { authenticate: async () => testCaller({ role: undefined }) } },
  { why: "it has an argument too many", code: "invalid_argument", methods: { work: method(open, forever) }, more: [1] },
  { why: "an argument is not accepted", code: "invalid_argument", methods: { work: method({ ...open, input: z.number() }, forever) } },
  {
    why: "one of several arguments is not accepted, which takes a while",
    code: "invalid_argument",
    methods: { work: method({ ...open, input: [anything, schema(async () => ({ issues: [{ message: "no" }] }))] }, forever) },
    more: [1],
  },
  {
    why: "validation throws",
    code: "internal",
    methods: {
      work: method({ ...open, input: schema(fails) }, forever),
    },
  },
  { why: "middleware refuses it", code: "unavailable", methods: { work: method(open, forever) }, options: { middleware: [closedForNow] } },
  {
    why: "too many calls are at work",
    code: "overloaded",
    methods: { work: method(open, forever) },
    options: { limits: { pendingCalls: 1 }, clientLimits: LIMITS },
  },
  { why: "as many run and wait as may", code: "overloaded", methods: busy },
  {
    why: "its caller calls too often",
    code: "overloaded",
    methods: { work: method({ ...open, throttle: { calls: 1, perMs: 60_000 } }, forever) },
  },
  { why: "its time is over before its turn comes", code: "deadline_exceeded", methods: waiting({}), call: { timeoutMs: 20 } },
  { why: "the method's time is over before its turn comes", code: "deadline_exceeded", methods: waiting({ timeoutMs: 20 }) },
  {
    why: "its key was used with other arguments",
    code: "conflict",
    methods: { work: method({ ...open, repetition: "keyed" }, () => "done") },
    call: { meta: { key: "k" } },
  },
];

function fails(): never {
  throw new Error("no such table");
}

function waiting(options: { timeoutMs?: number }): Methods {
  return { work: method({ ...open, concurrency: { running: 1 }, ...options }, forever) };
}

function closedForNow(_: unknown, [first]: readonly unknown[]): unknown {
  if (first === "first") return "let through";
  throw new KiteError("unavailable", "closed for now");
}

test.each<Refusal & { how?: string; padding?: number }>([
  ...refusals,
  ...refusals.slice(0, 2).map((refusal) => ({ ...refusal, how: " in pieces", padding: 300 * 1024 })),
])("what a call brings is let go when $why", async ({ name = "work", code, methods = { work: method({}, forever) }, ...rest }) => {
  const { options, call, more = [], padding } = rest;
  await using pair = await connectedPair(methods, { ...options, limits: { streamWindow: 4_000, ...options?.limits } });
  const { session } = pair.peer;
  const { args, isLetGo } = cargo(session, padding);
  // It takes the place, the turn or the key.
  session.call(name, ["first"], { meta: call?.meta }).catch(() => {});
  await pair.fence().catch(() => {});

  const refused = session.call(name, [args, ...more], call);

  await expect(refused).rejects.toMatchObject({ code });
  await until(isLetGo);
  expect([...pair.acceptor.sessions][0]?.counts).toMatchObject({ imported: 0, receiving: 0 });
});

test("what a call brings is let go when it is cancelled while it waits for its turn", async () => {
  await using pair = await connectedPair(waiting({}));
  const { session } = pair.peer;
  const { args, isLetGo } = cargo(session);
  const controller = new AbortController();
  session.call("work", ["first"]).catch(() => {});
  const second = session.call("work", [args], { signal: controller.signal });
  await pair.fence();
  expect(isLetGo()).toBe(false);

  controller.abort();

  await expect(second).rejects.toMatchObject({ code: "cancelled" });
  await until(isLetGo);
});

test("what a repeat brings is let go, whether it joins the first call or gets the answer that was kept", async () => {
  const finish: (() => void)[] = [];
  const work = method({ ...open, repetition: "keyed" }, () => new Promise<string>((resolve) => finish.push(() => resolve("done"))));
  await using pair = await connectedPair({ work });
  const { session } = pair.peer;
  const [first, second, third] = [cargo(session), cargo(session), cargo(session)];
  const call = { meta: { key: "k" } };

  const answers = [first, second].map(({ args }) => session.call("work", [args], call));
  await until(() => second.ended());
  expect([first.ended(), session.counts.sending]).toEqual([false, 1]);
  finish[0]?.();
  answers.push(session.call("work", [third.args], call));

  expect(await Promise.all(answers)).toEqual(["done", "done", "done"]);
  await until(() => third.ended() && session.counts.sending === 1);
  expect(finish.length).toBe(1);
});

test.each<[what: string, limits: Partial<Limits>, name: string]>([
  ["for a method that there is not", {}, "nothing"],
  ["that is dropped, since too much is at work", { pendingCalls: 1 }, "work"],
])("what a notification %s brings is let go", async (_, limits, name) => {
  await using pair = await connectedPair({ work: method(open, forever) }, { limits, clientLimits: LIMITS });
  const { session } = pair.peer;
  const { args, isLetGo } = cargo(session);
  session.call("work", ["first"]).catch(() => {});

  session.notify(name, [args]);

  await until(() => session.counts.sending === 1);
  await until(isLetGo);
});

test("what a side is called with that serves nothing is let go", async () => {
  const callers: CallSession[] = [];
  await using pair = await connectedPair({ meet: method(open, (_, call) => void callers.push(call.session)) });
  await pair.peer.session.call("meet", [1]);
  const session = callers[0] as Session;
  const { args, isLetGo } = cargo(session);

  await expect(session.call("work", [args])).rejects.toMatchObject({ code: "permission_denied" });

  await until(isLetGo);
});

const live = '[{"$":["f",1]},{"$":["s",2]}]';

test.each<[what: string, frame: string]>([
  ["a call whose key is none", `[1,0,[0,1,"work",${live},null,{"key":1}]]`],
  ["an invocation of a function that is not there", `[1,0,[5,1,77,${live}]]`],
  ["a credential", `[1,0,[11,1,${live}]]`],
  ["a chunk of a stream that was left", `[1,0,[7,9,${live},100]]`],
])("what %s brings is let go", async (_, frame) => {
  const host = acceptor(undefined, { work: method(open, forever) });
  const peer = await greet(host);

  peer.send(frame);

  await until(() => peer.heard().includes("[6,1,1]") && peer.heard().includes("[10,2]"));
  const [session] = host.sessions;
  expect(session?.counts).toMatchObject({ imported: 0, receiving: 0 });
  host.close(new KiteError("disconnected", "the test is over"));
});

test("what unread chunks hold is let go when their stream is left; what was read stays", async () => {
  const given: RemoteStream<RemoteFunction>[] = [];
  await using pair = await connectedPair({ give: method(open, (stream) => void given.push(stream as RemoteStream<RemoteFunction>)) });
  const { session } = pair.peer;
  const functions = async function* () {
    for (let n = 0; n < 3; n++) yield async () => n;
    await forever();
  };
  await session.call("give", [functions()]);
  const first = (await given[0]?.next())?.value as RemoteFunction;
  await until(() => session.counts.exported === 3);
  await pair.fence();

  given[0]?.cancel();

  await until(() => session.counts.exported === 1);
  expect(await first()).toBe(0);
});

test("a function that is held from an earlier call goes on when a refused one brings it once more", async () => {
  const held: RemoteFunction[] = [];
  await using pair = await connectedPair({ hold: method({ ...open, input: callback }, (fn) => void held.push(fn)) });
  const { session } = pair.peer;
  const fn = async () => "here";
  await session.call("hold", [fn]);

  await expect(session.call("hold", [fn, fn])).rejects.toMatchObject({ code: "invalid_argument" });
  await pair.fence();

  expect([session.counts.exported, await held[0]?.()]).toEqual([1, "here"]);
  held[0]?.release();
  await pair.fence();
  expect(session.counts.exported).toBe(0);
});

test("what a refused call brings stays with a function that is used by another call", async () => {
  const held: RemoteFunction[] = [];
  const hold = method({ ...open, input: callback }, (fn) => void held.push(fn));
  await using pair = await connectedPair({ hold, ...waiting({}) });
  const { session } = pair.peer;
  const fn = async () => "here";
  const controller = new AbortController();
  session.call("work", ["first"]).catch(() => {});
  const waits = session.call("work", [fn], { signal: controller.signal });
  await session.call("hold", [fn]);

  controller.abort();
  await expect(waits).rejects.toMatchObject({ code: "cancelled" });
  await pair.fence();

  expect([session.counts.exported, await held[0]?.()]).toEqual([1, "here"]);
});

test("what a method was given that then fails stays, since it may have kept it", async () => {
  const held: RemoteFunction[] = [];
  const hold = method({ ...open, input: callback }, (fn) => {
    held.push(fn);
    throw new KiteError("conflict", "but not this time");
  });
  await using pair = await connectedPair({ hold });

  await expect(pair.peer.session.call("hold", [async () => "here"])).rejects.toMatchObject({ code: "conflict" });
  await pair.fence();

  expect(await held[0]?.()).toBe("here");
});

test("a method that middleware reaches with its second try gets what the call brings", async () => {
  const throttle = { calls: 1, perMs: 20 };
  const patient = async (_: Call, __: readonly unknown[], next: () => unknown): Promise<unknown> => {
    for (;;) {
      try {
        return await next();
      } catch {
        await new Promise(setImmediate);
      }
    }
  };
  const work = method({ ...open, input: callback, throttle }, (fn) => fn());
  await using pair = await connectedPair({ work }, { middleware: [patient] });
  const answers = [1, 2].map((n) => pair.peer.session.call("work", [async () => n]));

  expect(await Promise.all(answers)).toEqual([1, 2]);
});

test("a method does not begin with what was let go while its arguments were still looked at", async () => {
  let accept = () => {};
  const slow = schema((value) => new Promise((resolve) => (accept = () => resolve({ value }))));
  const run = vi.fn();
  await using pair = await connectedPair({ work: method({ ...open, input: slow, timeoutMs: 20 }, run) });
  const { session } = pair.peer;
  const { args, isLetGo } = cargo(session);
  await expect(session.call("work", [args])).rejects.toMatchObject({ code: "deadline_exceeded" });
  await until(isLetGo);

  accept();
  await pair.fence();

  expect(run).not.toHaveBeenCalled();
});
