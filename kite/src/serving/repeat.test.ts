import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi } from "vitest";
import { z } from "zod";
import { callWith, type Remote } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { type Call, method } from "../method.ts";
import type { IncomingCall } from "../session/calls.ts";
import { connectedPair, until } from "../testing.ts";
import { RepeatWindow } from "./repeat.ts";
import type { Answer } from "./served-call.ts";
import { testCall } from "./test-call.ts";

const keyed = { role: "viewer", input: z.unknown(), repetition: "keyed" } as const;

test("a repeat under the same key gets the answer that was kept, and the method does not run again", async () => {
  const charge = vi.fn((amount: unknown) => ({ amount }));
  await using pair = await connectedPair({ charge: method(keyed, (amount) => charge(amount)) });

  const first = await under(pair.client, "k1").charge(5);
  const second = await under(pair.client, "k1").charge(5);
  await under(pair.client, "k2").charge(5);

  expect([first, second]).toEqual([{ amount: 5 }, { amount: 5 }]);
  expect(charge).toHaveBeenCalledTimes(2);
});

test("without a key, and where the method is not keyed, every call runs", async () => {
  const run = vi.fn(() => 1);
  await using pair = await connectedPair({ keyed: method(keyed, run), once: method({ role: "viewer" }, run) });

  await Promise.all([pair.client.keyed(1), pair.client.keyed(1), under(pair.client, "k").once(), under(pair.client, "k").once()]);

  expect(run).toHaveBeenCalledTimes(4);
});

test("a repeat that comes while the call runs joins it", async () => {
  const work = held();
  await using pair = await connectedPair({ work: method(keyed, (_, call) => work.run(call)) });
  const first = under(pair.client, "k").work(1);
  const second = under(pair.client, "k").work(1);
  await pair.fence();

  work.finish("done");

  expect(await Promise.all([first, second])).toEqual(["done", "done"]);
  expect(work.calls).toHaveLength(1);
});

test("the same key with other arguments is a conflict, whatever became of the first call", async () => {
  const charge = vi.fn(async () => "charged");
  await using pair = await connectedPair({ charge: method(keyed, charge) });
  await under(pair.client, "k").charge({ amount: 5, to: "bob" });

  const other = under(pair.client, "k").charge({ amount: 6, to: "bob" });

  await expect(other).rejects.toMatchObject({ code: "conflict", outcome: "not_run" });
  expect(await under(pair.client, "k").charge({ to: "bob", amount: 5 })).toBe("charged");
  expect(charge).toHaveBeenCalledTimes(1);
});

test("a failure is kept like an answer, unless it says that nothing was done", async () => {
  const failures = [
    new KiteError("unavailable", "not yet", { outcome: "not_run" }),
    new KiteError("failed_precondition", "no money"),
    new KiteError("internal", "a third run"),
  ];
  const charge = vi.fn(() => Promise.reject(failures.shift()));
  await using pair = await connectedPair({ charge: method(keyed, charge) });
  const codes: string[] = [];

  for (let tries = 0; tries < 3; tries++)
    await under(pair.client, "k")
      .charge(5)
      .catch((error: KiteError) => codes.push(error.code));

  expect(codes).toEqual(["unavailable", "failed_precondition", "failed_precondition"]);
  expect(charge).toHaveBeenCalledTimes(2);
});

test("what another call says of itself does not let the method run again: it ran, and that call was part of it", async () => {
  const failure = new KiteError("unavailable", "nobody sends mail", { outcome: "not_run" }).passOn();
  const charge = vi.fn(() => Promise.reject(failure));
  const window = new RepeatWindow();

  for (let tries = 0; tries < 2; tries++)
    await expect((async () => window.run(callOf({}), "k", charge))()).rejects.toMatchObject({ message: "nobody sends mail" });

  expect(charge).toHaveBeenCalledTimes(1);
});

test("a call that was given up before it came to the window tells its method to stop", async () => {
  const work = held();
  const window = new RepeatWindow();
  const call = callOf({});
  call.end(new KiteError("cancelled", "the caller has cancelled"));

  const answer = window.run(call, "k", (own) => work.run(own));

  expect(work.calls[0]?.signal.aborted).toBe(true);
  work.finish("stopped");
  expect(await answer).toBe("stopped");
});

test("an answer that is kept keeps neither the arguments nor the session", async () => {
  const window = new RepeatWindow();
  let own: WeakRef<object> | undefined;
  const large = (): IncomingCall => testCall({ method: "charge", args: [{ large: true }] });
  await window.run(large(), "k", async (call) => {
    own = new WeakRef(call.args);
    return "charged";
  });

  await until(() => {
    collectGarbage();
    return own?.deref() === undefined;
  });

  expect(window.run(large(), "k", () => "again")).toBe("charged");
});

test("a key is its caller's: another user's and another method's calls run", async () => {
  const answer = vi.fn(() => 1);
  const window = new RepeatWindow();

  for (const [username, name] of [
    ["alice", "a"],
    ["bob", "a"],
    ["alice", "b"],
    ["alice", "a"],
  ]) {
    window.run(callOf({ username, method: name }), "k", answer);
  }

  expect(answer).toHaveBeenCalledTimes(3);
});

test("a caller with more keys than the window holds loses its own answers, and nobody else's", () => {
  const window = new RepeatWindow();
  const answer = vi.fn(() => 1);
  window.run(callOf({ username: "bob" }), "b", answer);

  for (let key = 0; key < 10_001; key++) window.run(callOf({ username: "mallory" }), `${key}`, () => 1);
  window.run(callOf({ username: "bob" }), "b", answer);

  expect(answer).toHaveBeenCalledTimes(1);
  expect(window.size).toBe(10_000);
});

test("strangers who share a name do not get each other's answers", () => {
  const window = new RepeatWindow();
  const secret = window.run(callOf({ role: undefined, session: "s1" }), "k", () => "the first one's");

  const other = window.run(callOf({ role: undefined, session: "s2" }), "k", () => "the second one's");

  expect([secret, other]).toEqual(["the first one's", "the second one's"]);
});

test("a call whose session is lost runs on, and the repeat on the next session gets its answer", async () => {
  const work = held();
  const window = new RepeatWindow();
  const first = callOf({ session: "s1" });
  const lost = window.run(first, "k", (call) => work.run(call)) as Promise<unknown>;

  first.end(new KiteError("disconnected", "the connection was lost"));
  const repeat = window.run(callOf({ session: "s2" }), "k", (call) => work.run(call));
  work.finish("done");

  expect(work.calls[0]?.signal.aborted).toBe(false);
  expect([await repeat, await lost]).toEqual(["done", "done"]);
  expect(work.calls).toHaveLength(1);
});

test("a call that nobody comes back to is told to stop when its caller's time is over", async () => {
  vi.useFakeTimers();
  try {
    const work = held();
    const first = callOf({ timeoutMs: 1_000 });
    void new RepeatWindow().run(first, "k", (call) => work.run(call));

    first.end(new KiteError("disconnected", "the connection was lost"));
    await vi.advanceTimersByTimeAsync(1_100);

    expect(work.calls[0]?.signal.reason).toMatchObject({ code: "disconnected", outcome: "unknown" });
  } finally {
    vi.useRealTimers();
  }
});

test("a call is told to stop when everybody who waits for it has cancelled, and not before", () => {
  const work = held();
  const window = new RepeatWindow();
  const [first, second] = [callOf({}), callOf({})];
  void window.run(first, "k", (call) => work.run(call));
  void window.run(second, "k", (call) => work.run(call));

  first.end(new KiteError("cancelled", "the caller has cancelled"));
  expect(work.calls[0]?.signal.aborted).toBe(false);
  second.end(new KiteError("cancelled", "the caller has cancelled"));

  expect(work.calls[0]?.signal.reason).toMatchObject({ code: "cancelled" });
});

test("a caller whose credential is revoked does not keep its call alive", () => {
  const work = held();
  const call = callOf({});
  void new RepeatWindow().run(call, "k", (own) => work.run(own));

  call.end(new KiteError("unauthenticated", "the credential was revoked"));

  expect(work.calls[0]?.signal.reason).toMatchObject({ code: "unauthenticated" });
});

test("closing the kite tells the calls that outlived their sessions to stop", () => {
  const work = held();
  const closing = new AbortController();
  const call = callOf({});
  void new RepeatWindow(closing.signal).run(call, "k", (own) => work.run(own));
  call.end(new KiteError("disconnected", "the connection was lost"));

  closing.abort(new KiteError("disconnected", "math has closed"));

  expect(work.calls[0]?.signal.reason).toMatchObject({ message: "math has closed" });
});

test.each([
  ["a function", () => ({ next: () => 1 })],
  [
    "a stream",
    async function* () {
      yield 1;
    },
  ],
])("an answer with %s is given out once: the repeat hears that there is nothing to be had again", async (_, make) => {
  const window = new RepeatWindow();
  const first = window.run(callOf({}), "k", () => make());

  expect(first).toBeDefined();
  expect(() => window.run(callOf({}), "k", () => make())).toThrow(
    expect.objectContaining({ code: "failed_precondition", message: expect.stringContaining("functions or streams") }),
  );
});

test("a repeat that joined a call with such an answer hears the same", async () => {
  const work = held();
  const window = new RepeatWindow();
  const first = window.run(callOf({}), "k", (call) => work.run(call));
  const joined = window.run(callOf({}), "k", (call) => work.run(call));

  work.finish([() => 1]);

  await expect(first).resolves.toHaveLength(1);
  await expect(joined).rejects.toMatchObject({ code: "failed_precondition" });
});

test("what was kept is forgotten after ten minutes", async () => {
  // Deadlines share timers, and those of the other tests are real ones: this test has modules of its own.
  vi.resetModules();
  vi.useFakeTimers();
  try {
    const window = new (await import("./repeat.ts")).RepeatWindow();
    const answer = vi.fn(() => 1);
    window.run(callOf({}), "k", answer);

    await vi.advanceTimersByTimeAsync(9 * 60_000);
    window.run(callOf({}), "k", answer);
    await vi.advanceTimersByTimeAsync(2 * 60_000);

    expect(window.size).toBe(0);
    window.run(callOf({}), "k", answer);
    expect(answer).toHaveBeenCalledTimes(2);
  } finally {
    vi.useRealTimers();
  }
});

test("of more than ten thousand answers the oldest is forgotten, and what still runs is not", async () => {
  const work = held();
  const window = new RepeatWindow();
  const running = window.run(callOf({}), "running", (call) => work.run(call));
  const again = vi.fn(() => -1);

  for (let index = 0; index < 10_000; index++) window.run(callOf({}), `k${index}`, () => index);
  void window.run(callOf({}), "running", (call) => work.run(call));

  expect(window.size).toBe(10_000);
  expect(window.run(callOf({}), "k9999", again)).toBe(9_999);
  expect(window.run(callOf({}), "k0", again)).toBe(-1);
  work.finish("done");
  expect(await running).toBe("done");
  expect(work.calls).toHaveLength(1);
});

test("answers are kept up to 64 MiB; what has run and was let go does not run again", () => {
  const window = new RepeatWindow();
  const again = vi.fn(() => "again");
  const tenMiB = () => new Uint8Array(10 * 1024 * 1024);
  window.run(callOf({ username: "bob" }), "b", () => "a small one");

  for (let index = 0; index < 20; index++) window.run(callOf({ username: "mallory" }), `k${index}`, tenMiB);

  expect(window.answerBytes).toBeLessThanOrEqual(64 * 1024 * 1024);
  expect(window.run(callOf({ username: "mallory" }), "k19", again)).toHaveLength(10 * 1024 * 1024);
  expect(window.run(callOf({ username: "bob" }), "b", again)).toBe("a small one");
  expect(() => window.run(callOf({ username: "mallory" }), "k0", again)).toThrow(
    expect.objectContaining({ code: "failed_precondition", message: expect.stringContaining("has run under this key") }),
  );
  expect(again).not.toHaveBeenCalled();
});

test("an answer that is larger than all that may be kept goes to whoever waits for it, and to nobody later", async () => {
  const work = held();
  const window = new RepeatWindow();
  const first = window.run(callOf({}), "k", (call) => work.run(call));
  const joined = window.run(callOf({}), "k", (call) => work.run(call));

  work.finish("x".repeat(40 * 1024 * 1024));

  expect([await first, await joined]).toEqual([expect.any(String), expect.any(String)]);
  expect(() => window.run(callOf({}), "k", (call) => work.run(call))).toThrow(/its answer was let go/);
  expect(window.answerBytes).toBe(0);
  expect(work.calls).toHaveLength(1);
});

test("what is forgotten weighs nothing any more", () => {
  const window = new RepeatWindow();

  for (let index = 0; index < 20_000; index++) window.run(callOf({}), `k${index}`, () => "x".repeat(1_000));

  expect(window.size).toBe(10_000);
  expect(window.answerBytes).toBeLessThan(10_000 * 2_100);
});

test("a run has the time of whoever waits longest for it", () => {
  const work = held();
  const window = new RepeatWindow();
  void window.run(callOf({ timeoutMs: 1_000 }), "k", (own) => work.run(own));

  void window.run(callOf({ timeoutMs: 60_000 }), "k", (own) => work.run(own));
  void window.run(callOf({ timeoutMs: 2_000 }), "k", (own) => work.run(own));

  expect(work.calls).toHaveLength(1);
  expect(work.calls[0]?.remainingMs).toBeGreaterThan(30_000);
});

test("ten thousand calls that run are all that can be told apart", () => {
  const window = new RepeatWindow();
  const endless: Answer = () => new Promise(() => {});
  for (let index = 0; index < 10_000; index++) void window.run(callOf({}), `k${index}`, endless);

  expect(() => window.run(callOf({}), "one more", endless)).toThrow(expect.objectContaining({ code: "overloaded", outcome: "not_run" }));
});

function under<C>(client: Remote<C>, key: string): Remote<C> {
  return callWith(client, { meta: { key } });
}

function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

/** Work that waits until the test finishes it. */
function held() {
  const calls: Call[] = [];
  let finish: (value: unknown) => void = () => {};
  const answer = new Promise<unknown>((resolve) => {
    finish = resolve;
  });
  const run = (call: Call): Promise<unknown> => {
    calls.push(call);
    // Asked for now, as a method would: the signal is made for whoever asks.
    void call.signal;
    return answer;
  };
  return { calls, run, finish: (value: unknown) => finish(value) };
}

interface Facts {
  username?: string | undefined;
  role?: "viewer" | undefined;
  session?: string;
  method?: string | undefined;
  timeoutMs?: number;
}

function callOf({ username = "alice", session = "s", method: name = "charge", timeoutMs, ...rest }: Facts): IncomingCall {
  return testCall({ method: name, args: [5], session, timeoutMs, caller: { username, role: "role" in rest ? rest.role : "viewer" } });
}
