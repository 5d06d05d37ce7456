import { callerOf, Kite, KiteError, method, type RemoteFunction } from "@kite-mesh/kite";
import { testCaller } from "@kite-mesh/kite/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { until } from "../until.ts";
import { kiteJsClient, kiteJsServer } from "./kite-js.ts";

const callback = z.custom<RemoteFunction>((value) => typeof value === "function");

interface Browser {
  add(a: number, b: number): Promise<number>;
  none(): Promise<string>;
  fail(): Promise<void>;
  later(prefix: string, onText: (text: string) => void): Promise<string>;
}

const methods = {
  square: method({ role: "anyone", input: z.number() }, (n) => n * n),
  ping2: method({ role: "anyone" }, () => "pong"),
  nothing: method({ role: "anyone" }, () => undefined),
  stream: method({ role: "anyone", input: [z.string(), z.object({ onData: callback })] }, async (prefix, { onData }) => {
    for (let index = 0; index < 50; index++) await onData({ chunk: `${prefix}${index}` });
    return "done";
  }),
  boom: method({ role: "anyone" }, () => {
    throw new KiteError("internal", "boom");
  }),
  wait: method({ role: "anyone" }, async ({ signal }) => {
    atWork++;
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    atWork--;
  }),
  secret: method({ role: "viewer" }, (call) => call.caller.username),
  askBack: method({ role: "anyone" }, async (call) => {
    const browser = callerOf<Browser>(call);
    const failure = await browser.fail().catch((error: Error) => error.message);
    return [await browser.add(2, 3), await browser.none(), failure];
  }),
  tell: method({ role: "anyone", input: [z.number(), callback] }, async (n, onNumber) => {
    await onNumber(n);
    return n;
  }),
  handBack: method({ role: "anyone", input: callback }, async (onReply, call) => {
    const heard: string[] = [];
    const last = await callerOf<Browser>(call).later("a", (text) => void heard.push(text));
    await onReply(heard, last);
    return (twice: number, answer: RemoteFunction) => answer(twice * 2);
  }),
};

let kite: Kite;
let url: string;
let atWork = 0;

beforeAll(async () => {
  kite = new Kite({
    name: "math",
    version: "1.0.0",
    username: "alice",
    methods,
    authenticate: async (auth) =>
      testCaller(auth?.key === "good" ? { username: "bob", role: "viewer" } : { username: "anonymous", role: undefined }),
  });
  ({ url } = await kite.listen());
});

afterAll(async () => {
  await kite.close();
});

describe.each(["WebSocket", "SockJS"] as const)("kite.js calls our kite over %s", (transport) => {
  const address = (): string => (transport === "SockJS" ? `${url}/kite` : url.replace("http", "ws"));

  test("and gets results, also of methods without arguments or without a result", async () => {
    using client = await kiteJsClient({ url: address(), transport });

    const results = await Promise.all([
      client.tell("square", [12]),
      client.tell("square", 5),
      client.tell("ping2", []),
      client.tell("ping2", null),
      client.tell("nothing", []),
    ]);

    expect(results).toEqual([144, 25, "pong", "pong", null]);
  });

  test("and its functions are called in order, wherever in the arguments they are", async () => {
    using client = await kiteJsClient({ url: address(), transport });
    const chunks: unknown[] = [];

    const result = await client.tell("stream", ["c", { onData: (data: { chunk: string }) => chunks.push(data.chunk) }]);

    expect(result).toBe("done");
    expect(chunks).toEqual(Array.from({ length: 50 }, (_, index) => `c${index}`));
  });

  test("and gets errors of the types that it knows", async () => {
    using client = await kiteJsClient({ url: address(), transport });
    const failed = (name: string, args: unknown[] = []) => client.tell(name, args).catch((error: unknown) => error);

    expect(await failed("boom")).toMatchObject({ name: "KiteError", type: "genericError", message: "boom", code: "" });
    expect(await failed("nosuch")).toMatchObject({ type: "methodNotFound", message: "Method not found: nosuch" });
    expect(await failed("square", ["x"])).toMatchObject({ type: "argumentError" });
    expect(await failed("secret")).toMatchObject({ type: "authenticationError", message: "No authentication information is provided" });
  });

  test("and shows its token with every call", async () => {
    using client = await kiteJsClient({ url: address(), transport, auth: { type: "token", key: "good" } });

    expect(await client.tell("secret", [])).toBe("bob");
  });

  test("and is called back by the method that it called, and answers in its own shape", async () => {
    type Answer = (error: unknown, result?: unknown) => void;
    const api = {
      add: (a: number, b: number, answer: Answer) => answer(null, a + b),
      none: (answer: Answer) => answer(null, "no arguments"),
      fail: (answer: Answer) => answer(new Error("nope")),
    };
    using client = await kiteJsClient({ url: address(), transport, api });

    expect(await client.tell("askBack", [])).toEqual([5, "no arguments", "nope"]);
  });

  test("and hears of a call that is at work when the kite ends the session, for which it would wait for ever", async () => {
    using client = await kiteJsClient({ url: address(), transport });
    const waiting = client.tell("wait", []).catch((error: unknown) => error);
    await until("the call is at work", 10_000, () => atWork === 1);

    kite.endSessions(() => true, new KiteError("disconnected", "the kite restarts"));

    expect(await waiting).toMatchObject({ type: "disconnect", message: "Remote kite has disconnected: the kite restarts" });
    await until("the method was told to stop", 10_000, () => atWork === 0);
  });

  test("and functions cross in every direction: in a reverse call, in a callback and in a result", async () => {
    type Answer = (error: unknown, result?: unknown) => void;
    const api = {
      later: (prefix: string, onText: (text: string) => void, answer: Answer) => {
        onText(`${prefix}1`);
        onText(`${prefix}2`);
        answer(null, "last");
      },
    };
    using client = await kiteJsClient({ url: address(), transport, api });
    const replied: unknown[] = [];

    const double = (await client.tell("handBack", [(...args: unknown[]) => replied.push(args)])) as (
      n: number,
      answer: (n: number) => void,
    ) => void;
    const doubled = await new Promise((resolve) => double(21, resolve));

    expect(replied).toEqual([[["a1", "a2"], "last"]]);
    expect(doubled).toBe(42);
  });
});

// More than the limit `callbacks`: what is used once, or by a peer that has forgotten it, must not count for ever.
const MANY = 12_000;
const AT_ONCE = 500;

test("a kite.js that passes a new function with every call never comes to an end of what it may pass", { timeout: 120_000 }, async () => {
  using client = await kiteJsClient({ url: url.replace("http", "ws"), auth: { type: "token", key: "good" } });
  let heard = 0;
  let answered = 0;

  for (let sent = 0; sent < MANY; sent += AT_ONCE) {
    const calls = Array.from({ length: AT_ONCE }, (_, index) => client.tell("tell", [sent + index, () => void heard++]));
    answered += (await Promise.all(calls)).length;
  }

  expect([heard, answered]).toEqual([MANY, MANY]);
  expect(await client.tell("square", [12])).toBe(144);
});

test("our kite passes one function to a kite.js as often as it likes, and hears in time that it cannot pass new ones for ever", {
  timeout: 120_000,
}, async () => {
  type Hear = (text: string) => void;
  const hear = (onText: Hear, answer: (error: unknown, result: string) => void) => {
    onText("heard");
    answer(null, "ok");
  };
  using server = await kiteJsServer("WebSocket", { hear });
  await using caller = new Kite({ name: "client", version: "1.0.0", username: "alice", limits: { callbacks: 100 } });
  const dial = () => caller.dial<{ hear(onText: Hear): Promise<string> }>({ url: server.url, dialect: "dnode" });
  let heard = 0;

  {
    await using old = dial();
    const same = () => void heard++;
    for (let calls = 0; calls < 1_000; calls++) await old.hear(same);
    for (let calls = 0; calls < 99; calls++) await old.hear(() => void heard++);
    await expect(old.hear(() => {})).rejects.toMatchObject({
      code: "limit_exceeded",
      message: expect.stringContaining("callbacks is 100"),
    });
    expect(await old.hear(same)).toBe("ok");
  }
  await using anew = dial();

  expect(await anew.hear(() => void heard++)).toBe("ok");
  expect(heard).toBe(1_000 + 99 + 1 + 1);
});

describe.each(["WebSocket", "SockJS"] as const)("our kite calls a server of kite.js over %s", (transport) => {
  type Answer = (error: unknown, result?: unknown) => void;
  interface Old {
    square(n: number): Promise<number>;
    none(): Promise<string>;
    fail(): Promise<void>;
    each(items: number[], onItem: (item: unknown) => void): Promise<string>;
  }
  const api = {
    square: (n: number, answer: Answer) => answer(null, n * n),
    none: (answer: Answer) => answer(null, "none"),
    fail: (answer: Answer) => answer(new Error("nope")),
    each: (items: number[], onItem: (item: number) => void, answer: Answer) => {
      for (const item of items) onItem(item);
      answer(null, "all");
    },
  };

  test("and gets results, errors and what its functions are called with", async () => {
    using server = await kiteJsServer(transport, api);
    await using client = new Kite({ name: "client", version: "1.0.0", username: "alice" });
    const old = client.dial<Old & { kite: { ping(): Promise<string> } }>({ url: server.url, dialect: "dnode" });
    const items: unknown[] = [];

    const results = [await old.square(12), await old.none(), await old.kite.ping(), await old.each([1, 2], (item) => items.push(item))];
    const failure = await old.fail().catch((error: unknown) => error);

    expect(results).toEqual([144, "none", "pong", "all"]);
    // A server of kite.js wraps whatever it calls back with, as if it were an answer.
    expect(items).toEqual([{ error: 1 }, { error: 2 }]);
    expect(failure).toMatchObject({ code: "internal", message: "nope" });
  });

  test("and answers what that server calls back", async () => {
    const calls: Promise<unknown>[] = [];
    using server = await kiteJsServer(transport, api, (peer) => void calls.push(peer.tell("greet", ["you"]), peer.tell("kite.ping", [])));
    await using client = new Kite({ name: "client", version: "1.0.0", username: "alice" });
    const greet = method({ role: "anyone", input: z.string() }, (name) => `hello ${name}`);
    const old = client.dial<Old>({ url: server.url, dialect: "dnode", methods: { greet } });

    await old.none();

    expect(await Promise.all(calls)).toEqual(["hello you", "pong"]);
  });
});
