import { expect, test, vi } from "vitest";
import { z } from "zod";
import { callWith } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import { type MethodOptions, method } from "../method.ts";
import { connectedPair, until } from "../testing.ts";
import type { Middleware } from "./serve.ts";

/** A method whose calls wait until the test lets them go. */
function held(options: Pick<MethodOptions, "concurrency" | "timeoutMs" | "repetition">) {
  const running = new Map<string, { finish: () => void; fail: (thrown: unknown) => void; signal: AbortSignal }>();
  const seen: string[] = [];
  const work = method({ role: "viewer", input: z.string(), ...options }, (name, call) => {
    seen.push(name);
    return new Promise<string>((resolve, reject) => {
      running.set(name, { finish: () => resolve(name), fail: reject, signal: call.signal });
    });
  });
  return { work, running, seen };
}

test("so many calls run at once, and the others in the order in which they came", async () => {
  const { work, running, seen } = held({ concurrency: { running: 2 } });
  await using pair = await connectedPair({ work });

  const answers = Promise.allSettled(["a", "b", "c", "d"].map((name) => pair.client.work(name)));
  await pair.fence();
  expect(seen).toEqual(["a", "b"]);

  running.get("b")?.finish();
  await until(() => seen.length === 3);
  running.get("a")?.fail(new KiteError("not_found", "no a"));
  await until(() => seen.length === 4);
  for (const name of ["c", "d"]) running.get(name)?.finish();

  expect(seen).toEqual(["a", "b", "c", "d"]);
  expect(await answers).toMatchObject([{ reason: { code: "not_found" } }, { value: "b" }, { value: "c" }, { value: "d" }]);
});

test("one more than may wait is refused at once, and did not run", async () => {
  const { work, running, seen } = held({ concurrency: { running: 1, waiting: 1 } });
  await using pair = await connectedPair({ work });
  const answers = ["a", "b"].map((name) => pair.client.work(name));

  const refused = pair.client.work("c");

  await expect(refused).rejects.toMatchObject({
    code: "overloaded",
    outcome: "not_run",
    message: expect.stringContaining("work is busy"),
    details: { running: 1, waiting: 1 },
  });
  running.get("a")?.finish();
  await until(() => running.has("b"));
  running.get("b")?.finish();
  expect(await Promise.all(answers)).toEqual(["a", "b"]);
  expect(seen).toEqual(["a", "b"]);
});

test("a call that was given up before it came to the line does not wait in it, and does not run", async () => {
  const { work, running, seen } = held({ concurrency: { running: 1 } });
  let letGo = (): void => {};
  const later: Middleware = async (_, [name], next) => {
    if (name === "late") await new Promise<void>((resolve) => (letGo = resolve));
    return next();
  };
  await using pair = await connectedPair({ work }, { middleware: [later] });
  const [first, ending] = [pair.client.work("a"), new AbortController()];
  const late = callWith(pair.client, { signal: ending.signal }).work("late");
  await pair.fence();
  ending.abort();
  await expect(late).rejects.toMatchObject({ code: "cancelled" });
  await pair.fence();

  letGo();
  await pair.fence();
  running.get("a")?.finish();
  await first;
  const last = pair.client.work("last");
  await until(() => running.has("last"));
  running.get("last")?.finish();
  await last;

  expect(seen).toEqual(["a", "last"]);
});

test("a waiting call that is cancelled leaves its place to the next", async () => {
  const { work, running, seen } = held({ concurrency: { running: 1, waiting: 1 } });
  await using pair = await connectedPair({ work });
  const first = pair.client.work("a");
  const controller = new AbortController();
  const second = callWith(pair.client, { signal: controller.signal }).work("b");
  await pair.fence();

  controller.abort();
  await expect(second).rejects.toMatchObject({ code: "cancelled" });
  const third = pair.client.work("c");
  await pair.fence();
  running.get("a")?.finish();
  await until(() => running.has("c"));
  running.get("c")?.finish();

  expect(await Promise.all([first, third])).toEqual(["a", "c"]);
  expect(seen).toEqual(["a", "c"]);
});

test("the calls of a session that ends leave the line", async () => {
  const { work, running, seen } = held({ concurrency: { running: 1, waiting: 5 } });
  await using pair = await connectedPair({ work });
  const answers = Promise.allSettled(["a", "b", "c"].map((name) => pair.client.work(name)));
  await pair.fence();

  pair.peer.close();
  await answers;
  await until(() => running.get("a")?.signal.aborted === true);
  running.get("a")?.finish();
  await new Promise((resolve) => setImmediate(resolve));

  expect(seen).toEqual(["a"]);
});

test("a long line of calls that are answered at once does not overflow the stack", async () => {
  let finish = (): void => {};
  const first = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const work = method({ role: "viewer", input: z.number(), concurrency: { running: 1, waiting: 5_000 } }, (n) => (n === 0 ? first : n));
  await using pair = await connectedPair({ work });
  const answers = Array.from({ length: 5_000 }, (_, n) => pair.client.work(n));
  await pair.fence();

  finish();

  expect((await Promise.all(answers)).at(-1)).toBe(4_999);
});

test("a method's own time ends a call that runs: its signal is aborted, and the caller hears that it may have run", async () => {
  vi.useFakeTimers();
  try {
    const { work, running } = held({ timeoutMs: 200 });
    await using pair = await connectedPair({ work });
    const answer = expect(pair.client.work("a")).rejects.toMatchObject({ code: "deadline_exceeded", outcome: "unknown" });

    await vi.advanceTimersByTimeAsync(400);

    await answer;
    expect(running.get("a")?.signal.reason).toMatchObject({ code: "deadline_exceeded" });
  } finally {
    vi.useRealTimers();
  }
});

test("a call whose time is over before its turn did not run, and what overran keeps its place until it is done", async () => {
  vi.useFakeTimers();
  try {
    const { work, running, seen } = held({ timeoutMs: 200, concurrency: { running: 1 } });
    await using pair = await connectedPair({ work });
    const overrun = expect(pair.client.work("a")).rejects.toMatchObject({ code: "deadline_exceeded", outcome: "unknown" });
    const late = expect(pair.client.work("b")).rejects.toMatchObject({ code: "deadline_exceeded", outcome: "not_run" });

    await vi.advanceTimersByTimeAsync(400);
    await Promise.all([overrun, late]);
    const next = pair.client.work("c");
    await vi.advanceTimersByTimeAsync(10);
    expect(seen).toEqual(["a"]);

    running.get("a")?.finish();
    await vi.advanceTimersByTimeAsync(10);
    running.get("c")?.finish();
    expect(await next).toBe("c");
  } finally {
    vi.useRealTimers();
  }
});

test("a method with a time of its own that answers in time answers as any other", async () => {
  const half = method({ role: "viewer", input: z.number(), timeoutMs: 60_000 }, (n) => {
    if (n % 2 === 1) throw new KiteError("invalid_argument", "odd");
    return n / 2;
  });
  await using pair = await connectedPair({ half });

  expect(await pair.client.half(4)).toBe(2);
  await expect(pair.client.half(3)).rejects.toMatchObject({ code: "invalid_argument", message: "odd" });
});

test.each<Pick<MethodOptions, "concurrency" | "timeoutMs">>([
  { concurrency: { running: 0 } },
  { concurrency: { running: 1, waiting: -1 } },
  { timeoutMs: 0 },
  { timeoutMs: Number.NaN },
])("bounds that nothing fits in are named when the kite is made: %j", async (options) => {
  const pair = connectedPair({ fs: { read: method(options, () => 1) } });

  await expect(pair).rejects.toMatchObject({ code: "invalid_argument", message: expect.stringContaining("method fs.read") });
});
