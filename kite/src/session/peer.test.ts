import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { type Methods, method } from "../method.ts";
import { testCaller } from "../testing.ts";
import { type MemoryLink, memoryLink } from "../transport/memory.ts";
import type { Transport } from "../transport/transport.ts";
import type { DialSocket } from "../transport/websocket.ts";
import type { Acceptor } from "./acceptor.ts";
import { writeWelcome } from "./handshake.ts";
import { Peer, type PeerOptions, type PeerState } from "./peer.ts";
import { acceptor } from "./test-stranger.ts";

// Not setImmediate, which sends what a tick has gathered.
beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "performance"] }));
afterEach(() => void vi.useRealTimers());

const methods: Methods = { echo: method({ input: z.unknown() }, (value) => value), wait: method({}, () => new Promise(() => {})) };

test("nothing is dialled before somebody calls, and one connection serves those who connect and call at once", async () => {
  const { peer, dials } = to(acceptor(undefined, methods));
  await turns();
  expect(dials()).toBe(0);

  const [, first, second] = await Promise.all([peer.connect(), peer.call("echo", [1]), peer.call("echo", [2])]);

  expect([first, second]).toEqual([1, 2]);
  expect(dials()).toBe(1);
  peer.close();
});

test("a call fails with what its dial failed with, did not run, and nothing is dialled for nobody", async () => {
  const { peer, dials, refuse } = to(acceptor(undefined, methods));
  refuse(true);

  await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
  await vi.advanceTimersByTimeAsync(60_000);

  expect(dials()).toBe(1);
  expect(vi.getTimerCount()).toBe(0);
  peer.close();
});

test("a call that is made at the moment one before it failed is dialled for", async () => {
  const { peer, refuse } = to(acceptor(undefined, methods));
  refuse(true);
  const first = peer.call("echo", [1]);

  const second = first.catch(() => {
    refuse(false);
    return peer.call("echo", [2]);
  });
  await vi.advanceTimersByTimeAsync(100);

  expect(await second).toBe(2);
  peer.close();
});

test("a connection that is lost with its welcome is dialled again for the call that waits", async () => {
  const host = acceptor(undefined, methods);
  const { peer, links } = to(host);
  const stop = peer.onState((state) => {
    if (state === "open") links.at(-1)?.sever();
  });

  const call = peer.call("echo", [1]);
  await turns();
  stop();
  await vi.advanceTimersByTimeAsync(1_000);

  expect(await call).toBe(1);
  peer.close();
});

test.each([
  ["with their welcome", (lose: () => void) => lose()],
  ["a moment after it", (lose: () => void) => void setTimeout(lose, 10)],
])("connections that are lost %s, before anything comes through, are dialled less and less often", async (_, when) => {
  const { peer, dials, links } = to(acceptor(undefined, methods));
  await peer.connect();
  peer.onState((state) => {
    if (state === "open") when(() => links.at(-1)?.sever());
  });

  links.at(-1)?.sever();
  await vi.advanceTimersByTimeAsync(20_000);

  expect(dials()).toBeGreaterThan(3);
  expect(dials()).toBeLessThan(20);
  peer.close();
});

test("a dial that is not answered ends in time, and a welcome that comes later is not taken", async () => {
  const [here, there] = memoryLink().ends;
  const { peer } = to(acceptor(), { dial: async () => deaf(here) });

  const failed = expect(peer.connect()).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("10000 ms") });
  await vi.advanceTimersByTimeAsync(10_000);
  await failed;
  there.send(
    writeWelcome({ session: { id: "s", secret: "s", received: 0 }, resumed: false, graceMs: 1_000, kite: undefined, limits: LIMITS }),
  );
  await turns();

  expect(peer.state).toBe("connecting");
  peer.close();
});

test("a target that never comes ends in time", async () => {
  const { peer } = to(acceptor(), { target: () => new Promise(() => {}) });

  const failed = expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
  await vi.advanceTimersByTimeAsync(10_000);
  await failed;

  peer.close();
});

test("closing while it dials ends the dial, and every wait with it", async () => {
  const { peer } = to(acceptor(), { dial: async () => deaf(memoryLink().ends[0]) });
  const waits = [peer.connect(), peer.call("echo", [1])].map((wait) => wait.catch((error: KiteError) => error.code));
  await turns();

  await peer[Symbol.asyncDispose]();

  expect(await Promise.all(waits)).toEqual(["disconnected", "disconnected"]);
  expect(vi.getTimerCount()).toBe(0);
  await expect(peer.connect()).rejects.toMatchObject({ code: "disconnected" });
  await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "disconnected", outcome: "not_run" });
});

test("closing while it is suspended ends the calls that wait, and leaves no timer", async () => {
  const host = acceptor(undefined, methods);
  const { peer, links, refuse } = to(host);
  await peer.connect();
  const call = peer.call("wait", []).catch((error: KiteError) => error.outcome);
  await turns();
  refuse(true);
  links.at(-1)?.sever();
  await turns();
  expect(peer.state).toBe("suspended");

  await peer[Symbol.asyncDispose]();
  host.close(new KiteError("disconnected", "done"));

  expect(await call).toBe("unknown");
  expect(vi.getTimerCount()).toBe(0);
});

test("both sides give up a session whose peer stays away, each after its grace period", async () => {
  const host = acceptor(undefined, methods, {}, 5_000);
  const { peer, links, refuse } = to(host);
  await peer.connect();
  const ended = vi.fn();
  peer.session.closed.addEventListener("abort", ended);
  const [theirs] = host.sessions;
  refuse(true);
  links.at(-1)?.sever();

  await vi.advanceTimersByTimeAsync(4_900);
  expect([theirs?.state, ended.mock.calls.length]).toEqual(["suspended", 0]);
  await vi.advanceTimersByTimeAsync(200);

  expect([theirs?.state, ended.mock.calls.length]).toEqual(["closed", 1]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(vi.getTimerCount()).toBe(0);
  peer.close();
});

test("a connection over which nothing is heard any more is given up after three heartbeats, and the call goes on over the next", async () => {
  const host = acceptor(undefined, methods);
  const { peer, dials, deafen } = to(host);
  await peer.connect();
  const states: PeerState[] = [];
  peer.onState((state) => states.push(state));
  deafen(true);
  const call = peer.call("echo", ["heard"]);

  await vi.advanceTimersByTimeAsync(29_000);
  expect(states).toEqual([]);
  deafen(false);
  await vi.advanceTimersByTimeAsync(2_000);

  expect(await call).toBe("heard");
  expect(states).toEqual(["suspended", "open"]);
  expect(dials()).toBe(2);
  peer.close();
});

test("an idle connection stands for hours: silence is asked about", async () => {
  const { peer, dials } = to(acceptor(undefined, methods));
  await peer.connect();

  await vi.advanceTimersByTimeAsync(3_600_000);

  expect([peer.state, dials()]).toEqual(["open", 1]);
  peer.close();
});

test("a credential is renewed on the live session after two thirds of its life, so that calls never meet its end", async () => {
  const shown: string[] = [];
  const host = acceptor(async (auth) => {
    shown.push(auth?.key ?? "");
    return testCaller({ expiresAt: Date.now() + 60_000 });
  }, methods);
  let issued = 0;
  const { peer, dials } = to(host, {
    target: async () => ({ url: "memory:", auth: { type: "token", key: `token ${++issued}` }, expiresAt: Date.now() + 60_000 }),
  });
  await peer.connect();

  for (let minute = 0; minute < 5; minute++) {
    await vi.advanceTimersByTimeAsync(59_000);
    expect(await peer.call("echo", [minute])).toBe(minute);
  }

  expect(shown.slice(0, 3)).toEqual(["token 1", "token 2", "token 3"]);
  expect(shown.length).toBeLessThan(10);
  expect(dials()).toBe(1);
  peer.close();
});

test("a token that cannot be renewed is tried again, and its calls say that it has expired", async () => {
  let away = false;
  const host = acceptor(async () => testCaller({ expiresAt: Date.now() + 10_000 }), methods);
  const { peer } = to(host, {
    target: async () => {
      if (away) throw new KiteError("unavailable", "kontrol is away");
      return { url: "memory:", auth: { type: "token", key: "k" }, expiresAt: Date.now() + 10_000 };
    },
  });
  await peer.connect();
  away = true;
  await vi.advanceTimersByTimeAsync(11_000);
  await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "token_expired" });

  away = false;
  await vi.advanceTimersByTimeAsync(15_000);
  await turns();

  expect(await peer.call("echo", [2])).toBe(2);
  peer.close();
});

test("another user's credential is not taken on a live session", async () => {
  const host = acceptor(async (auth) => testCaller({ username: auth?.key ?? "" }), methods);
  const { peer } = to(host, { target: async () => ({ url: "memory:", auth: { type: "t", key: "alice" } }) });
  await peer.connect();

  await expect(peer.session.authenticate({ type: "t", key: "bob" })).rejects.toMatchObject({ code: "permission_denied" });

  expect([...host.sessions].map(({ caller }) => caller.username)).toEqual(["alice"]);
  peer.close();
});

test("when its kite has left the directory and its token has ended, the next call goes to another one", async () => {
  const hosts: Record<string, Acceptor> = { one: acceptor(undefined, methods), two: acceptor(undefined, methods) };
  let url = "one";
  const { peer } = to(hosts, { target: async () => ({ url, expiresAt: Date.now() + 10_000 }) });
  await peer.connect();
  url = "two";

  await vi.advanceTimersByTimeAsync(40_000);

  expect(await peer.call("echo", [1])).toBe(1);
  expect([...hosts["two"]!.sessions]).toHaveLength(1);
  peer.close();
});

test("a credential that ends in years is not renewed in a loop", async () => {
  const target = vi.fn(async () => ({ url: "memory:", auth: { type: "t", key: "k" }, expiresAt: Date.now() + 10 * 365 * 86_400_000 }));
  const { peer } = to(acceptor(undefined, methods), { target });
  await peer.connect();

  await vi.advanceTimersByTimeAsync(10_000);

  expect(target).toHaveBeenCalledTimes(1);
  peer.close();
});

test.each([
  ["resumes a session that was not asked for", { session: { id: "other", secret: "s", received: 0 }, resumed: true }],
  ["claims frames that were never sent", { session: { id: "s", secret: "s", received: 99 }, resumed: true }],
])("a peer that %s is not believed", async (_, welcome) => {
  const { peer } = to(acceptor(), {
    dial: async () => scripted(writeWelcome({ ...welcome, graceMs: 1_000, kite: undefined, limits: LIMITS })),
  });

  await expect(peer.call("echo", [1])).rejects.toMatchObject({ code: "protocol_error", outcome: "not_run" });

  expect(peer.state).toBe("connecting");
  peer.close();
});

test("a listener of the state that throws harms nobody", async () => {
  const error = vi.fn();
  const { peer } = to(acceptor(undefined, methods), { log: { debug() {}, info() {}, warn() {}, error } });
  peer.onState(() => {
    throw new Error("mine");
  });

  expect(await peer.call("echo", [1])).toBe(1);

  expect(error).toHaveBeenCalledOnce();
  peer.close();
});

test("calls in any number may share a signal", async () => {
  const warned = vi.fn();
  process.on("warning", warned);
  const { peer } = to(acceptor(undefined, methods));
  await peer.connect();
  const controller = new AbortController();
  const calls = Array.from({ length: 20 }, () => peer.call("wait", [], { signal: controller.signal }));
  const codes = Promise.all(calls.map((call) => call.catch((error: KiteError) => error.code)));
  for (let n = 0; n < 20; n++) peer.session.closed.addEventListener("abort", () => {});
  await turns();

  controller.abort();

  expect(new Set(await codes)).toEqual(new Set(["cancelled"]));
  expect(peer.session.counts.calls).toBe(0);
  expect(warned).not.toHaveBeenCalled();
  process.off("warning", warned);
  peer.close();
});

/** A peer of these hosts over memory, by the name in the url. */
function to(hosts: Acceptor | Record<string, Acceptor>, options: Partial<PeerOptions> = {}) {
  const links: MemoryLink[] = [];
  let refused = false;
  let deafened = false;
  const dial: DialSocket = async ({ url }) => {
    if (refused) throw new KiteError("unavailable", "nobody answers");
    const link = memoryLink();
    links.push(link);
    const host = "accept" in hosts ? (hosts as Acceptor) : (hosts as Record<string, Acceptor>)[url];
    host?.accept(link.ends[1]);
    const [end] = link.ends;
    return { ...wrapped(end), send: (raw) => void (deafened || end.send(raw)) };
  };
  const counted = vi.fn(options.dial ?? dial);
  const peer = new Peer({ target: async () => ({ url: "memory:" }), limits: LIMITS, random: () => 0, ...options, dial: counted });
  return {
    peer,
    links,
    dials: () => counted.mock.calls.length,
    refuse: (is: boolean) => (refused = is),
    deafen: (is: boolean) => (deafened = is),
  };
}

/** A transport whose other end hears nothing, and never answers its close. */
function deaf(end: Transport): Transport {
  return { ...wrapped(end), send: () => {}, close: () => {} };
}

function scripted(answer: string): Transport {
  const [here, there] = memoryLink().ends;
  there.start({ frame: () => there.send(answer), closed: () => {} });
  return here;
}

function wrapped(end: Transport): Transport {
  return {
    start: (receiver) => end.start(receiver),
    send: (raw) => end.send(raw),
    close: (code, reason) => end.close(code, reason),
    bufferedBytes: 0,
  };
}

/** Enough turns of the event loop for what is on its way to arrive. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
}
