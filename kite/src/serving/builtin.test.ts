import { expect, test, vi } from "vitest";
import { z } from "zod";
import { contractHash } from "../contract/contract.ts";
import type { KiteDescription } from "../contract/description.ts";
import { Kite } from "../kite.ts";
import { LIMITS } from "../limits.ts";
import { silent } from "../log.ts";
import { type Methods, method } from "../method.ts";
import { Acceptor } from "../session/acceptor.ts";
import { Peer } from "../session/peer.ts";
import { connectedPair, testCaller, testIdentity, until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import { type BuiltinContract, builtinMethods } from "./builtin.ts";
import { hostMethods } from "./host-methods.ts";
import { serveMethods } from "./serve.ts";
import { testCall } from "./test-call.ts";

const methods = {
  square: method(
    { role: "viewer", description: "Squares.", input: z.number(), output: z.number(), repetition: "idempotent" },
    (n) => n * n,
  ),
  fs: { remove: method({ role: "operator", input: [z.string(), z.boolean().optional()] }, () => null) },
  open: method({ role: "anyone" }, () => null),
};

function builtins(own: Methods = methods): Methods {
  return builtinMethods({ identity: testIdentity(), dialects: ["kite.v1"], methods: own, host: hostMethods(), log: silent });
}

const serve = serveMethods({ methods, builtin: builtins() });

test("every kite says pong, also to a stranger, and the time, the log and the terminal are not a stranger's", async () => {
  await using server = new Kite({ name: "math", version: "1.0.0", methods });
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const { kite } = client.dial<BuiltinContract>(await server.listen());

  expect(await kite.ping()).toBe("pong");
  await expect(kite.systemInfo()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(kite.print("hello")).rejects.toMatchObject({ code: "unauthenticated" });
});

test.each([
  ["kite.log", "viewer"],
  ["kite.print", "operator"],
  ["kite.prompt", "operator"],
  ["kite.getPass", "operator"],
] as const)("%s is for owners, not for a %s", (name, role) => {
  expect(() => serve(testCall({ method: name, args: ["x"], caller: { role } }))).toThrow(
    expect.objectContaining({ code: "permission_denied" }),
  );
});

test("a caller is told the methods that it may call, and no others", async () => {
  const names = async (caller: object): Promise<string[]> =>
    ((await serve(testCall({ method: "kite.methods", caller }))) as { name: string }[]).map(({ name }) => name);

  const looking = ["kite.describe", "kite.heartbeat", "kite.methods", "kite.ping", "kite.systemInfo", "open", "square"];
  expect(await names({ role: "viewer" })).toEqual(looking);
  expect(await names({ role: "operator" })).toEqual(["fs.remove", ...looking]);
  expect(await names({ role: "owner", methods: ["kite.methods", "square"] })).toEqual(["kite.methods", "kite.ping", "open", "square"]);
});

test("the list says what each is for", () => {
  expect(serve(testCall({ method: "kite.methods" }))).toContainEqual({ name: "square", role: "viewer", description: "Squares." });
});

test("a kite describes itself: its methods, their schemas and the hash of all", async () => {
  const description = (await serve(testCall({ method: "kite.describe" }))) as KiteDescription;

  expect(description).toEqual({
    kite: testIdentity(),
    dialects: ["kite.v1"],
    hash: await contractHash(description),
    methods: [
      {
        name: "fs.remove",
        role: "operator",
        repetition: "once",
        input: [{ type: "string" }, { type: "boolean" }],
        required: 1,
        output: {},
      },
      { name: "open", role: "anyone", repetition: "once", input: [], output: {} },
      {
        name: "square",
        description: "Squares.",
        role: "viewer",
        repetition: "idempotent",
        input: [{ type: "number" }],
        output: { type: "number" },
      },
    ],
  });
  expect(serve(testCall({ method: "kite.describe" }))).toBeInstanceOf(Promise);
});

test("a method of the author's goes before the built-in one of the same name", () => {
  const own = { kite: { ping: method({ role: "anyone" }, () => "here") } };

  expect(serveMethods({ methods: own, builtin: builtins(own) })(testCall({ method: "kite.ping" }))).toBe("here");
});

test("the system's state is told in the original kite's fields and units", async () => {
  const info = await serve(testCall({ method: "kite.systemInfo", caller: { role: "viewer" } }));

  expect(info).toEqual({
    state: "RUNNING",
    diskUsage: expect.any(Number),
    diskTotal: expect.any(Number),
    memoryUsage: expect.any(Number),
    totalMemoryLimit: expect.any(Number),
    homeDir: expect.stringMatching(/./),
    uname: expect.stringMatching(/^(linux|darwin|windows)$/),
  });
});

test("a message for the log is written with who sent it", () => {
  const info = vi.fn();
  const log = { ...silent, info };
  const logging = serveMethods({ methods: {}, builtin: builtinMethods({ identity: testIdentity(), dialects: [], methods: {}, log }) });

  expect(logging(testCall({ method: "kite.log", args: ["disk full"] }))).toBe(null);

  expect(info).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ caller: "alice" }), "disk full");
});

test.each([
  ["kite.heartbeat", [0.5, () => {}], "argument 1"],
  ["kite.heartbeat", [3601, () => {}], "argument 1"],
  ["kite.heartbeat", [10, "[Function]"], "argument 2"],
  ["kite.print", [12], "its argument: expected a text"],
])("%s is not called with %j", (name, args, message) => {
  expect(() => serve(testCall({ method: name, args }))).toThrow(
    expect.objectContaining({ code: "invalid_argument", message: expect.stringContaining(message) }),
  );
});

/** A function of a caller's, as it arrives: it counts its calls, and knows when it was let go. */
function pinged(answer: () => unknown = () => undefined) {
  const seen = { beats: 0, released: 0 };
  const ping = (): unknown => {
    seen.beats++;
    return answer();
  };
  return { seen, ping: Object.assign(ping, { [Symbol.dispose]: () => void seen.released++ }) };
}

test("a heartbeat is felt at once and then every so many seconds, until its session ends", async () => {
  vi.useFakeTimers();
  try {
    const ending = new AbortController();
    const { seen, ping } = pinged();

    expect(serve(testCall({ method: "kite.heartbeat", args: [10, ping], closed: ending.signal }))).toBe(null);
    expect(seen.beats).toBe(1);
    await vi.advanceTimersByTimeAsync(30_000);
    ending.abort();
    await vi.advanceTimersByTimeAsync(30_000);

    expect(seen).toEqual({ beats: 4, released: 1 });
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test("a caller that does not answer is not flooded, and one whose function fails is called again", async () => {
  vi.useFakeTimers();
  try {
    const ending = new AbortController();
    let fail = (): void => {};
    const { seen, ping } = pinged(() => new Promise((_, reject) => (fail = () => reject(new Error("suspended")))));
    serve(testCall({ method: "kite.heartbeat", args: [10, ping], closed: ending.signal }));

    await vi.advanceTimersByTimeAsync(60_000);
    expect(seen.beats).toBe(1);
    fail();
    await vi.advanceTimersByTimeAsync(10_000);

    expect(seen.beats).toBe(2);
    ending.abort();
  } finally {
    vi.useRealTimers();
  }
});

test("a session has one heartbeat: a new one takes the place of the old", async () => {
  vi.useFakeTimers();
  try {
    const ending = new AbortController();
    const [old, young] = [pinged(), pinged()];
    const first = testCall({ method: "kite.heartbeat", args: [10, old.ping], closed: ending.signal });
    serve(first);

    serve(testCall({ method: "kite.heartbeat", args: [20, young.ping], session: first.session }));
    await vi.advanceTimersByTimeAsync(40_000);

    expect(old.seen).toEqual({ beats: 1, released: 1 });
    expect(young.seen).toEqual({ beats: 3, released: 0 });
    ending.abort();
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test("a caller that asks again with the same function goes on to feel the heartbeat", async () => {
  let beats = 0;
  const beat = () => void beats++;
  await using pair = await connectedPair(builtins({}));
  const { kite } = pair.client as unknown as { kite: { heartbeat(seconds: number, ping: () => void): Promise<null> } };

  await kite.heartbeat(3600, beat);
  await kite.heartbeat(1800, beat);

  await until(() => beats === 2);
});

test("a kite that dials answers the same methods to the kite that it has called", async () => {
  const asked: unknown[] = [];
  const acceptor = new Acceptor({ limits: LIMITS, authenticate: async () => testCaller(), serve: serveMethods({ methods: {} }) });
  const { ends } = memoryLink();
  const own = serveMethods({ methods: {}, builtin: builtins({}) });
  await using peer = new Peer({
    target: async () => ({ url: "memory:" }),
    dial: async () => {
      acceptor.accept(ends[1]);
      return ends[0];
    },
    limits: LIMITS,
    serve: ({ method: name, args, session }) => own(testCall({ method: name, args, session })),
  });
  await peer.connect();
  const [session] = acceptor.sessions;

  asked.push(await session?.call("kite.ping", []));
  await session?.call("kite.heartbeat", [3600, () => asked.push("beat")]);
  asked.push(await session?.call("kite.methods", []));

  expect(asked.slice(0, 2)).toEqual(["pong", "beat"]);
  expect(asked[2]).toContainEqual(expect.objectContaining({ name: "kite.prompt" }));
});
