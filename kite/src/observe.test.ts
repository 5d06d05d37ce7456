import { AsyncLocalStorage } from "node:async_hooks";
import { expect, test } from "vitest";
import { z } from "zod";
import { callerOf, callWith } from "./calling/remote.ts";
import { KiteError } from "./errors.ts";
import { Kite, type KiteOptions } from "./kite.ts";
import type { Logger } from "./log.ts";
import { type ContractOf, method } from "./method.ts";
import type { ObservedKite, Observer } from "./observe.ts";
import { testCaller, until } from "./testing.ts";

const within = new AsyncLocalStorage<string>();

const methods = {
  square: method({ role: "viewer", input: z.number(), output: z.number() }, (n) => n * n),
  later: method({ role: "viewer" }, async () => within.getStore()),
  fails: method({ role: "viewer" }, async () => {
    throw new Error("out of paper");
  }),
  waits: method({ role: "viewer" }, (call) => new Promise((resolve) => call.signal.addEventListener("abort", resolve))),
  meta: method({ role: "viewer" }, (call) => call.meta),
  asks: method({ role: "viewer" }, (call) => callerOf<{ name(): Promise<string> }>(call).name()),
};
type Contract = ContractOf<typeof methods>;

/** Notes what it is told, one line each. */
function notes(): { seen: string[]; observer: Observer } {
  const seen: string[] = [];
  const observer: Observer = ({ identity }) => ({
    serving: ({ call, method }) => ({
      ended: (error) =>
        seen.push(`${identity.name} served ${method ?? "something else"} to ${call.caller.username}: ${error?.code ?? "ok"}`),
    }),
    calling: (call) => ({
      ended: (error) => seen.push(`${identity.name} called ${call.method} of ${call.peer?.name}: ${error?.code ?? "ok"}`),
    }),
    closed: () => seen.push(`${identity.name} closed`),
  });
  return { seen, observer };
}

/** A kite that serves, another that calls it, both looked at. */
async function pair({ server = [], client = [], log }: { server?: Observer[]; client?: Observer[]; log?: Logger }) {
  const common: Partial<KiteOptions> = { version: "1.0.0", log };
  const math = new Kite({ name: "math", version: "1.0.0", ...common, methods, authenticate: async () => testCaller(), observers: server });
  const web = new Kite({ name: "web", version: "1.0.0", ...common, observers: client });
  const remote = web.dial<Contract>({ ...(await math.listen()), retry: false });
  return {
    math,
    web,
    remote,
    [Symbol.asyncDispose]: async () => {
      await web.close();
      await math.close();
    },
  };
}

test("both sides of a call are told, with its end and its code", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ server: [observer], client: [observer] });

  await both.remote.square(12);
  await both.remote.square("twelve" as unknown as number).catch(() => {});
  await both.remote.later();
  await both.remote.fails().catch(() => {});

  expect(seen).toEqual([
    "math served square to alice: ok",
    "web called square of math: ok",
    "math served square to alice: invalid_argument",
    "web called square of math: invalid_argument",
    "math served later to alice: ok",
    "web called later of math: ok",
    "math served fails to alice: internal",
    "web called fails of math: internal",
  ]);
});

test("a name that is not served is told without it, so that callers cannot fill a table", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ server: [observer] });

  await both.web
    .dial<{ nonsense(): Promise<void> }>({ url: both.math.url ?? "" })
    .nonsense()
    .catch(() => {});

  expect(seen).toEqual(["math served something else to alice: method_not_found"]);
});

test("a call that runs out of time or is cancelled says which", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ client: [observer] });
  await both.remote.square(1);
  const giveUp = new AbortController();

  await callWith(both.remote, { timeoutMs: 5 })
    .waits()
    .catch(() => {});
  const cancelled = callWith(both.remote, { signal: giveUp.signal }).waits();
  giveUp.abort();
  await cancelled.catch(() => {});

  expect(seen.slice(1)).toEqual(["web called waits of math: deadline_exceeded", "web called waits of math: cancelled"]);
});

test("a call that reaches nobody is told as well, and so is one to a kite that has closed", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ client: [observer] });
  await both.math.close();

  await both.remote.square(1).catch(() => {});
  await both.web.close();
  await both.remote.square(1).catch(() => {});

  expect(seen).toEqual(["web called square of undefined: unavailable", "web closed", "web called square of undefined: disconnected"]);
});

test("a call that is made again is told each time", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ client: [observer] });
  const again = both.web.dial<Contract>({ url: both.math.url ?? "", retry: { tries: 2, firstMs: 1 } });
  await both.math.close();

  await again.square(1).catch(() => {});

  expect(seen).toEqual(Array(2).fill("web called square of undefined: unavailable"));
});

test("a method that calls back is told as a caller", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ server: [observer] });

  const answer = both.remote.asks();

  await expect(answer).rejects.toMatchObject({ code: "permission_denied" });
  expect(seen).toEqual(["math called name of undefined: permission_denied", "math served asks to alice: permission_denied"]);
});

test("calls in dnode are told as those in kite.v1 are, on both sides and also when they reach nobody", async () => {
  const { seen, observer } = notes();
  await using both = await pair({ server: [observer], client: [observer] });
  const options = { url: `${both.math.url}/kite`, dialect: "dnode", retry: false } as const;
  const remote = both.web.dial<Contract>(options);

  await remote.square(12);
  await remote.asks().catch(() => {});
  await both.math.close();
  await both.web
    .dial<Contract>(options)
    .square(12)
    .catch(() => {});

  expect(seen).toEqual([
    "math served square to alice: ok",
    "web called square of undefined: ok",
    "web served something else to anonymous: method_not_found",
    "math called name of undefined: method_not_found",
    "math served asks to alice: method_not_found",
    "web called asks of undefined: method_not_found",
    "math closed",
    "web called square of undefined: unavailable",
  ]);
});

test("an observer may run the method where it can be found again, and say what travels with a call", async () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const place: Observer = () => ({ serving: () => ({ run: (work) => within.run("here", work) }) });
  const first: Observer = () => ({ calling: () => ({ meta: { traceparent } }) });
  const second: Observer = () => ({ calling: ({ meta }) => ({ meta: { ...meta, tracestate: "a=1" } }) });
  await using both = await pair({ server: [place], client: [first, second] });

  expect(await both.remote.later()).toBe("here");
  expect(await both.remote.meta()).toEqual({ traceparent, tracestate: "a=1" });
});

test("an observer that fails is logged, and changes nothing for the call", async () => {
  const logged: unknown[] = [];
  const log = { debug() {}, info() {}, warn() {}, error: (facts: object) => logged.push(String((facts as { err: unknown }).err)) };
  const fail = (where: string) => {
    throw new Error(where);
  };
  const late: Observer = () => ({
    serving: () => ({ ended: () => fail("ended") }),
    calling: () => fail("calling"),
    closed: () => fail("closed"),
  });
  const { seen, observer } = notes();
  const both = await pair({ server: [() => fail("looking"), late, observer], client: [late], log });

  expect(await both.remote.square(3)).toBe(9);
  await both[Symbol.asyncDispose]();

  expect(logged).toEqual(["Error: looking", "Error: calling", "Error: ended", "Error: closed", "Error: closed"]);
  expect(seen).toEqual(["math served square to alice: ok", "math closed"]);
});

test("the sessions of both directions can be counted at any time", async () => {
  const kites: ObservedKite[] = [];
  const look: Observer = (kite) => {
    kites.push(kite);
    return {};
  };
  await using both = await pair({ server: [look], client: [look] });
  const waiting = both.remote.waits().catch((thrown: unknown) => KiteError.from(thrown).code);
  await until(() => [...both.math.sessions].some(({ counts }) => counts.serving === 1));

  const [math = [], web = []] = kites.map((kite) => [...kite.sessions()]);

  expect(math).toMatchObject([{ direction: "accepted", state: "open", counts: { serving: 1, calls: 0 } }]);
  expect(web).toMatchObject([{ direction: "dialled", state: "open", counts: { serving: 0, calls: 1 } }]);
  await both.web.close();
  expect(await waiting).toBe("disconnected");
  expect([...(kites[1]?.sessions() ?? [])]).toEqual([]);
});
