import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { silent } from "../log.ts";
import { type Methods, method } from "../method.ts";
import { builtinMethods } from "../serving/builtin.ts";
import { serveMethods } from "../serving/serve.ts";
import { testIdentity } from "../testing.ts";
import { type MemoryLink, memoryLink } from "../transport/memory.ts";
import type { DnodeAcceptor } from "./acceptor.ts";
import { DnodePeer, type DnodePeerOptions } from "./peer.ts";
import { dnodeHost } from "./test-dnode.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "performance"] }));
afterEach(() => void vi.useRealTimers());

const methods: Methods = {
  echo: method({ input: z.unknown() }, (value) => value),
  wait: method({}, () => new Promise(() => {})),
  register: method({ input: z.custom<(...args: unknown[]) => unknown>(() => true) }, async (beat, call) => {
    const answer = await call.session.call("kite.heartbeat", [10, beat]);
    return [answer, await call.session.call("kite.ping", [])];
  }),
};

describe("a kite that is dialled over dnode", () => {
  test("is dialled with the first call, once for all that come together", async () => {
    const { peer, dialled } = to(dnodeHost(methods));
    await turns();
    expect(dialled).toEqual([]);

    const answers = await Promise.all([peer.call("echo", [1]), peer.call("echo", [2])]);

    expect(answers).toEqual([1, 2]);
    expect(dialled).toEqual(["http://old:1/"]);
    peer.close();
  });

  test("loses its calls with its connection, and is dialled again by the next one", async () => {
    const { peer, dialled, drop } = to(dnodeHost(methods));
    const waiting = peer.call("wait", []);
    const failed = expect(waiting).rejects.toMatchObject({
      code: "disconnected",
      outcome: "unknown",
      message: expect.stringContaining("1006"),
    });
    await turns();

    drop();
    await failed;

    expect(peer.session).toBeUndefined();
    const again = peer.call("echo", [1]);
    await turns();
    expect(await again).toBe(1);
    expect(dialled).toHaveLength(2);
    peer.close();
  });

  test("that does not answer fails its calls at once, and is tried less and less often", async () => {
    const { peer, dialled, refuse } = to(dnodeHost(methods), { random: () => 0.999 });
    refuse(true);
    const waits: number[] = [];

    for (let tries = 0; tries < 7; tries++) {
      const began = performance.now();
      const failed = expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
      while (dialled.length === tries) await vi.advanceTimersByTimeAsync(10);
      await failed;
      waits.push(performance.now() - began);
    }

    expect(waits[0]).toBeLessThan(50);
    expect(waits[6]).toBeGreaterThan(4_000);
    expect(waits[6]).toBeLessThan(6_000);
    refuse(false);
    peer.close();
  });

  test.each([
    ["its deadline passes", { timeoutMs: 100 }, "deadline_exceeded"],
    ["it is cancelled", { signal: AbortSignal.abort() }, "cancelled"],
  ])("is not called any more when %s before there is a connection", async (_, options, code) => {
    const { peer } = to(dnodeHost(methods), { dial: () => new Promise(() => {}) });

    const failed = expect(peer.call("echo", [1], options)).rejects.toMatchObject({ code, outcome: "not_run" });
    await vi.advanceTimersByTimeAsync(200);
    await failed;

    peer.close();
  });

  test("that takes the connection and says nothing more runs into the deadline of the call", async () => {
    const { peer } = to(dnodeHost(methods));
    const failed = expect(peer.call("wait", [], { timeoutMs: 1_000 })).rejects.toMatchObject({
      code: "deadline_exceeded",
      outcome: "unknown",
    });

    await vi.advanceTimersByTimeAsync(1_100);

    await failed;
    expect(peer.session?.counts).toMatchObject({ calls: 0, exported: 0 });
    peer.close();
  });

  test("is not called after this side has closed it, also not by a dial that was on its way", async () => {
    const { peer, links } = to(dnodeHost(methods));
    const early = expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "disconnected" });

    peer.close();

    await early;
    await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
    await turns();
    expect(peer.session).toBeUndefined();
    expect(links.length).toBeLessThanOrEqual(1);
  });

  test("is framed as SockJS when its address ends in /kite", async () => {
    const dialled: string[] = [];
    const peer = new DnodePeer({
      ...OPTIONS,
      url: "http://old:1/kloud/kite",
      dial: async ({ url, protocols }) => {
        dialled.push(url);
        expect(protocols).toEqual([]);
        throw new KiteError("unavailable", "nobody is there");
      },
    });

    await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "unavailable" });

    expect(dialled[0]).toMatch(/^http:\/\/old:1\/kloud\/kite\/\d{3}\/[0-9a-f]{20}\/websocket$/);
    peer.close();
  });

  test("needs an address that is one", async () => {
    const peer = new DnodePeer({ ...OPTIONS, url: "not an address" });

    await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "invalid_argument", outcome: "not_run" });

    peer.close();
  });

  test("is told when a credential cannot be had, and gets the old one while that is good", async () => {
    const answers: (() => Promise<{ type: string; key: string; expiresAt: number }>)[] = [
      async () => ({ type: "token", key: "first", expiresAt: Date.now() + 60_000 }),
      () => Promise.reject(new KiteError("unavailable", "kontrol is away")),
      () => Promise.reject(new KiteError("unavailable", "kontrol is away")),
    ];
    const shown: (string | undefined)[] = [];
    const host = dnodeHost(methods, {
      authenticate: async (auth) => {
        shown.push(auth?.key);
        return { username: "alice", role: "owner", kite: undefined, expiresAt: undefined, methods: undefined, credential: undefined };
      },
    });
    const { peer } = to(host, { auth: () => answers.shift()?.() ?? Promise.reject(new KiteError("unavailable", "kontrol is away")) });
    await peer.call("echo", [1]);

    await vi.advanceTimersByTimeAsync(45_000);
    expect(await peer.call("echo", [2])).toBe(2);
    await vi.advanceTimersByTimeAsync(45_000);

    await expect(peer.call("echo", [3])).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
    expect(shown).toEqual(["first"]);
    peer.close();
  });
});

describe("a kontrol of the original's", () => {
  test("calls kite.heartbeat before it answers, is pinged at once and from then on, until the connection ends", async () => {
    const { peer, drop } = to(dnodeHost(methods));
    const beats: number[] = [];

    const answer = await peer.call("register", [() => void beats.push(Math.round(performance.now() / 1000))]);
    expect(answer).toEqual([null, "pong"]);
    await vi.advanceTimersByTimeAsync(30_000);
    const before = beats.length;
    drop();
    await vi.advanceTimersByTimeAsync(30_000);

    expect(before).toBe(4);
    expect(beats).toHaveLength(4);
    expect(vi.getTimerCount()).toBe(0);
    peer.close();
  });

  test("that asks again is pinged as it asked last", async () => {
    const { peer } = to(dnodeHost(methods));
    const beats: string[] = [];

    await peer.call("register", [() => void beats.push("first")]);
    await peer.call("register", [() => void beats.push("second")]);
    await vi.advanceTimersByTimeAsync(10_000);

    expect(beats).toEqual(["first", "second", "second"]);
    peer.close();
  });

  test("that calls anything else is told that it is not there", async () => {
    const host = dnodeHost(methods);
    const { peer } = to(host);
    await peer.call("echo", [1]);
    const [session] = host.sessions;

    await expect(session?.call("shutdown", [])).rejects.toMatchObject({ code: "method_not_found", message: "Method not found: shutdown" });
    await expect(session?.call("kite.heartbeat", [0])).rejects.toMatchObject({ code: "invalid_argument" });

    peer.close();
  });
});

const OPTIONS: DnodePeerOptions = {
  url: "http://old:1/",
  auth: async () => undefined,
  dial: async () => {
    throw new KiteError("unavailable", "nobody is there");
  },
  limits: LIMITS,
  identity: testIdentity(),
  serve: serveMethods({
    methods: {},
    builtin: builtinMethods({ identity: testIdentity(), dialects: ["dnode"], methods: {}, log: silent }),
  }),
  random: () => 0,
};

/** A peer that dials `host`, and what a test can do to the way there. */
function to(host: DnodeAcceptor, options: Partial<DnodePeerOptions> = {}) {
  const dialled: string[] = [];
  const links: MemoryLink[] = [];
  let refused = false;
  const peer = new DnodePeer({
    ...OPTIONS,
    dial: async ({ url }) => {
      dialled.push(url);
      if (refused) throw new KiteError("unavailable", "the test refuses");
      const link = memoryLink();
      links.push(link);
      host.accept(link.ends[1]);
      return link.ends[0];
    },
    ...options,
  });
  const refuse = (yes: boolean) => {
    refused = yes;
  };
  return { peer, dialled, links, drop: () => links.at(-1)?.sever(), refuse };
}

const turns = () => vi.advanceTimersByTimeAsync(0);
