import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { KiteError, type Outcome } from "../errors.ts";
import type { CallOptions, Repetition } from "../method.ts";
import type { Connection } from "./connection.ts";
import { callWith, remote } from "./remote.ts";
import { Retrying } from "./retry.ts";
import type { RetryOptions } from "./retry-options.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] }));
afterEach(() => void vi.useRealTimers());

const lost = new KiteError("disconnected", "the connection was lost; it may have run", { outcome: "unknown" });
const refused = new KiteError("unavailable", "nobody answers; it did not run", { outcome: "not_run" });
const busy = (outcome?: Outcome, retryAfterMs?: number) =>
  new KiteError("overloaded", "too much to do", {
    ...(outcome === undefined ? {} : { outcome }),
    ...(retryAfterMs === undefined ? {} : { details: { retryAfterMs } }),
  });

describe("a call that did not run", () => {
  test.each([
    ["the kite cannot be reached", refused],
    ["the session ended before it was sent", new KiteError("disconnected", "gone; it did not run", { outcome: "not_run" })],
    ["the kite was too busy to begin", busy("not_run")],
  ])("is made again, whatever its method, when %s", async (_, failure) => {
    const peer = new Scripted([failure, failure, "paid"]);

    const call = retrying(peer).call("pay", [5]);
    await vi.runAllTimersAsync();

    expect(await call).toBe("paid");
    expect(peer.methods).toEqual(["pay", "pay", "pay"]);
  });

  test("fails with its last error after three tries", async () => {
    const peer = new Scripted([refused, refused, refused, "never"]);

    const call = settled(retrying(peer).call("pay", [5]));
    await vi.runAllTimersAsync();

    expect(await call).toBe(refused);
    expect(peer.methods).toHaveLength(3);
  });

  test("is not made again on a connection that this side has closed", async () => {
    const peer = new Scripted([refused, "never"]);
    peer.state = "closed";

    expect(await settled(retrying(peer).call("pay", []))).toBe(refused);

    expect(peer.methods).toHaveLength(1);
  });

  test("is not made again when an open circuit refused it, unless another kite can take it", async () => {
    const open = new KiteError("unavailable", "not called", { outcome: "not_run", reason: "circuit_open" });
    const [alone, among] = [new Scripted([open, "never"]), new Scripted([open, "paid"])];
    among.hasAnother = true;

    expect(await settled(retrying(alone).call("pay", []))).toBe(open);
    expect(await retrying(among).call("pay", [])).toBe("paid");
  });

  test("goes to another kite at once", async () => {
    const peer = new Scripted([refused, "paid"]);
    peer.hasAnother = true;

    const paid = await retrying(peer, { firstMs: 60_000, maxMs: 60_000 }).call("pay", []);

    expect(paid).toBe("paid");
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("a call that may have run", () => {
  test.each(["once", undefined] as const)("is not made again when its method is %s", async (repetition) => {
    const peer = new Scripted([lost, "twice"], repetition === undefined ? undefined : { pay: repetition });

    expect(await settled(retrying(peer).call("pay", [5]))).toBe(lost);

    expect(peer.methods.filter((method) => method === "pay")).toHaveLength(1);
  });

  test("is made again when the caller says that its method is idempotent, and nobody is asked", async () => {
    const peer = new Scripted([lost, 144]);

    const call = retrying(peer, { idempotent: ["square"] }).call("square", [12]);
    await vi.runAllTimersAsync();

    expect(await call).toBe(144);
    expect(peer.methods).toEqual(["square", "square"]);
  });

  test("is made again when its kite says so; it is asked once for a session", async () => {
    const peer = new Scripted([lost, 1, lost, 4, lost, 9], { square: "idempotent" });
    const connection = retrying(peer);
    const square = async (n: number) => {
      const call = connection.call("square", [n]);
      await vi.runAllTimersAsync();
      return call;
    };

    expect([await square(1), await square(2)]).toEqual([1, 4]);
    expect(peer.methods.filter((method) => method === "kite.describe")).toHaveLength(1);
    peer.session = "another";
    expect(await square(3)).toBe(9);

    expect(peer.methods.filter((method) => method === "kite.describe")).toHaveLength(2);
  });

  test("of a call without time left to ask does not decide for the calls after it", async () => {
    const slow = new Scripted([lost, 1, lost, 4], { square: "idempotent" });
    const call = slow.call.bind(slow);
    let silent = true;
    slow.call = (method, args, options) => {
      if (method !== "kite.describe" || !silent) return call(method, args, options);
      return Promise.reject(new KiteError("deadline_exceeded", "no answer in time", { outcome: "unknown" }));
    };
    const connection = retrying(slow);
    expect(await settled(connection.call("square", [1]))).toBe(lost);
    expect(await settled(connection.call("square", [1], { timeoutMs: 0.5 }))).toBe(1);
    silent = false;

    const later = connection.call("square", [2]);
    await vi.runAllTimersAsync();

    expect(await later).toBe(4);
  });

  test("is made again under the same key when its method is keyed, and every call has a key of its own", async () => {
    const peer = new Scripted([lost, "paid", "paid"]);
    const connection = retrying(peer, { keyed: ["pay"] });

    const first = connection.call("pay", [5]);
    await vi.runAllTimersAsync();
    await first;
    await connection.call("pay", [5]);

    const [one, again, other] = peer.options.map((options) => options?.meta?.key);
    expect(one).toMatch(/^[0-9a-f-]{36}$/);
    expect(again).toBe(one);
    expect(other).not.toBe(one);
  });

  test("keeps the key that its caller gave it", async () => {
    const peer = new Scripted(["paid"]);

    await retrying(peer, { keyed: ["pay"] }).call("pay", [5], { meta: { key: "order 7", traceparent: "t" } });

    expect(peer.options[0]?.meta).toEqual({ key: "order 7", traceparent: "t" });
  });

  test("is not made again when only its kite declares it keyed and it had no key; the next one has", async () => {
    const peer = new Scripted([lost, lost, "paid"], { pay: "keyed" });
    const connection = retrying(peer);

    expect(await settled(connection.call("pay", [5]))).toBe(lost);
    const next = connection.call("pay", [5]);
    await vi.runAllTimersAsync();

    expect(await next).toBe("paid");
    expect(peer.of("pay").map((options) => options?.meta?.key !== undefined)).toEqual([false, true, true]);
  });

  test("is not said to have not run because its second try did not", async () => {
    const peer = new Scripted([lost, refused, refused]);

    const call = settled(retrying(peer, { idempotent: ["square"] }).call("square", [12]));
    await vi.runAllTimersAsync();

    expect(await call).toMatchObject({
      code: "unavailable",
      outcome: "unknown",
      message: expect.stringContaining("an earlier try may have run"),
    });
  });

  test.each([
    new KiteError("deadline_exceeded", "late", { outcome: "unknown" }),
    new KiteError("cancelled", "left", { outcome: "unknown" }),
    new KiteError("not_found", "no such file"),
    new KiteError("internal", "a bug"),
    new KiteError("disconnected", "too large", { outcome: "unknown", cause: new KiteError("protocol_error", "1009") }),
  ])("is not made again after $code: $message", async (failure) => {
    const peer = new Scripted([failure, "never"]);

    expect(await settled(retrying(peer, { idempotent: ["read"] }).call("read", []))).toBe(failure);

    expect(peer.methods).toEqual(["read"]);
  });

  test("is not made again with a stream, which gives its items once", async () => {
    const peer = new Scripted([refused, "never"]);
    const items = (async function* () {
      yield 1;
    })();

    expect(await settled(retrying(peer).call("upload", [{ to: "file", items }]))).toBe(refused);
  });
});

describe("a call that is made again", () => {
  test("stays within its deadline, and gets what is left of it", async () => {
    const peer = new Scripted([busy("not_run", 300), busy("not_run", 5_000), "never"]);

    const call = settled(retrying(peer).call("pay", [], { timeoutMs: 1_000 }));
    await vi.runAllTimersAsync();

    expect(await call).toMatchObject({ code: "overloaded" });
    expect(peer.options.map((options) => options?.timeoutMs)).toEqual([1_000, 700]);
  });

  test("waits as long as the kite asks for", async () => {
    const peer = new Scripted([busy("not_run", 4_000), "paid"]);

    const call = retrying(peer).call("pay", []);
    await vi.advanceTimersByTimeAsync(3_999);
    expect(peer.methods).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);

    expect(await call).toBe("paid");
  });

  test("can be cancelled while it waits, and leaves no timer", async () => {
    const cancel = new AbortController();
    const peer = new Scripted([busy("not_run", 4_000), "never"]);

    const call = settled(retrying(peer).call("pay", [], { signal: cancel.signal }));
    await vi.advanceTimersByTimeAsync(100);
    cancel.abort();

    expect(await call).toMatchObject({ code: "cancelled", outcome: "not_run" });
    expect(vi.getTimerCount()).toBe(0);
  });

  test("ends with the kite that makes it", async () => {
    const closing = new AbortController();
    const failure = busy("not_run", 4_000);
    const peer = new Scripted([failure, "never"]);

    const call = settled(new Retrying(peer, {}, { closing: closing.signal }).call("pay", []));
    await vi.advanceTimersByTimeAsync(100);
    closing.abort();

    expect(await call).toBe(failure);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("makes at most a tenth more calls of a kite that is too busy for any", async () => {
    const peer = new Scripted(Array.from({ length: 3_000 }, () => busy("not_run")));
    const connection = retrying(peer);

    const calls = Array.from({ length: 1_000 }, () => settled(connection.call("pay", [])));
    await vi.runAllTimersAsync();
    await Promise.all(calls);

    // A hundred that were earned, and ten that it began with.
    expect(peer.methods.length).toBeLessThanOrEqual(1_110);
    expect(peer.methods.length).toBeGreaterThan(1_000);
  });

  test("waits 50 ms at most at first, twice as much each time, and 2 s at most", async () => {
    const failures = Array.from({ length: 9 }, () => refused);
    const at: number[] = [];
    const peer = new Scripted([...failures, "paid"]);
    const call = peer.call.bind(peer);
    peer.call = (...made) => {
      at.push(performance.now());
      return call(...made);
    };

    const paid = new Retrying(peer, { tries: 10 }, { random: () => 0.9999 }).call("pay", []);
    await vi.runAllTimersAsync();

    expect(await paid).toBe("paid");
    expect(at.slice(1).map((time, index) => Math.ceil((time - (at[index] ?? 0)) / 5) * 5)).toEqual([
      50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000,
    ]);
  });

  test("is not, when its caller wants no retries", async () => {
    const peer = new Scripted([refused, refused, "paid"]);
    const kite = remote<{ pay(): Promise<string> }>(retrying(peer));

    expect(await settled(callWith(kite, { retry: false }).pay())).toBe(refused);
    expect(await settled(callWith(kite, { retry: { tries: 1 } }).pay())).toBe(refused);
    expect(await kite.pay()).toBe("paid");
  });
});

function retrying(peer: Connection, options: RetryOptions = {}): Retrying {
  return new Retrying(peer, options, { random: () => 0 });
}

function settled(call: Promise<unknown>): Promise<unknown> {
  return call.catch((error: unknown) => error);
}

/** A connection whose answers are known beforehand; it may say how often its methods may run. */
class Scripted implements Connection {
  state = "open";
  session: unknown = "first";
  hasAnother = false;
  readonly calls: { method: string; options: CallOptions | undefined }[] = [];
  readonly #answers: unknown[];
  readonly #repetitions: Record<string, Repetition> | undefined;

  constructor(answers: unknown[], repetitions?: Record<string, Repetition>) {
    this.#answers = answers;
    this.#repetitions = repetitions;
  }

  get methods(): string[] {
    return this.calls.map(({ method }) => method);
  }

  get options(): (CallOptions | undefined)[] {
    return this.calls.map(({ options }) => options);
  }

  of(wanted: string): (CallOptions | undefined)[] {
    return this.calls.flatMap(({ method, options }) => (method === wanted ? [options] : []));
  }

  async call(method: string, _args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    this.calls.push({ method, options });
    if (method === "kite.describe") return this.#describe();
    const answer = this.#answers.shift();
    if (answer instanceof KiteError) throw answer;
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #describe(): unknown {
    if (this.#repetitions === undefined) throw new KiteError("method_not_found", "Method not found: kite.describe");
    return { methods: Object.entries(this.#repetitions).map(([name, repetition]) => ({ name, repetition })) };
  }
}
