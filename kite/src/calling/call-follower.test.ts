import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { Kite } from "../kite.ts";
import { type Call, type ContractOf, type Methods, method } from "../method.ts";
import { testCall } from "../serving/test-call.ts";
import { testCaller, until } from "../testing.ts";
import { asyncCallFollower, callWithin } from "./call-follower.ts";
import { currentCall, followCalls, offerCallFollower, runInCall } from "./context.ts";
import { callWith, type Remote } from "./remote.ts";

/** Three kites in a row: the caller's, `front`, and `back`, which front calls through `back`. */
async function hop<const M extends Methods>(make: (back: Remote<BackContract>) => M) {
  const seen: Call[] = [];
  const open = { role: "anyone" } as const;
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const backMethods = {
    look: method(open, (call) => void seen.push(call)),
    wait: method(open, (call) => {
      seen.push(call);
      return released;
    }),
  };
  const back = kite("back", backMethods);
  const middle = new Kite({ name: "middle", version: "1.0.0" });
  const front = kite("front", make(middle.dial<BackContract>(await back.listen())));
  const client = new Kite({ name: "client", version: "1.0.0" });
  const remote = client.dial<ContractOf<M>>(await front.listen());
  const kites = [client, front, middle, back];
  return {
    remote,
    seen,
    /** Answers those that wait at `back`. */
    release,
    /** Takes the caller away, and waits until `front` has noticed. */
    leave: async () => {
      await client.close();
      await until(() => [...front.sessions].length === 0);
    },
    [Symbol.asyncDispose]: async () => {
      for (const each of kites) await each.close();
    },
  };
}

interface BackContract {
  look(): Promise<void>;
  wait(): Promise<void>;
}

function kite(name: string, methods: Methods): Kite {
  return new Kite({ name, version: "1.0.0", methods, authenticate: async () => testCaller() });
}

const open = { role: "anyone" } as const;

test("the method that opens the first remote kite leaves what it began behind, as every other one does", async () => {
  offerCallFollower(asyncCallFollower);
  const call = testCall({ timeoutMs: 20_000 });
  const seen: (string | undefined)[] = [];
  let goOn = (): void => {};
  let after = Promise.resolve();

  await runInCall(call, async () => {
    followCalls();
    seen.push(currentCall()?.method);
    after = new Promise<void>((resolve) => (goOn = resolve)).then(() => void seen.push(currentCall()?.method));
  });
  await new Promise((resolve) => setImmediate(resolve));
  goOn();
  await after;

  expect(seen).toEqual(["work", undefined]);
});

test("a method that calls on passes the rest of its time, also after it has awaited", async () => {
  await using mesh = await hop((back) => ({
    ask: method(open, async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      await back.look();
    }),
  }));

  await callWith(mesh.remote, { timeoutMs: 20_000 }).ask();

  expect(mesh.seen[0]?.remainingMs).toBeLessThan(20_000);
});

test("a call that has less time of its own than is left keeps it", async () => {
  await using mesh = await hop((back) => ({ ask: method(open, () => callWith(back, { timeoutMs: 5_000 }).look()) }));

  await callWith(mesh.remote, { timeoutMs: 20_000 }).ask();

  expect(mesh.seen[0]?.remainingMs).toBeLessThanOrEqual(5_000);
});

test("a method with a time of its own that is shorter than its caller's passes on what is left of that", async () => {
  await using mesh = await hop((back) => ({ ask: method({ ...open, timeoutMs: 5_000 }, () => back.look()) }));

  await callWith(mesh.remote, { timeoutMs: 20_000 }).ask();

  expect(mesh.seen[0]?.remainingMs).toBeLessThanOrEqual(5_000);
});

test("the end of a method's own time ends what it calls", async () => {
  await using mesh = await hop((back) => ({ ask: method({ ...open, timeoutMs: 50 }, () => back.wait()) }));

  // Again, where a busy machine has taken all of the time before `back` was called.
  while (mesh.seen.length === 0)
    await expect(callWith(mesh.remote, { timeoutMs: 20_000 }).ask()).rejects.toMatchObject({ code: "deadline_exceeded" });

  await until(() => mesh.seen[0]?.signal.aborted === true);
});

test("a call that has waited for its turn calls on in its own time, not in that of the one before", async () => {
  await using mesh = await hop((back) => ({ ask: method({ ...open, concurrency: { running: 1 } }, () => back.wait()) }));
  const first = callWith(mesh.remote, { timeoutMs: 10_000 }).ask();
  const second = callWith(mesh.remote, { timeoutMs: 20_000 }).ask();
  await until(() => mesh.seen.length === 1);

  mesh.release();
  await Promise.all([first, second]);

  expect(mesh.seen[1]?.remainingMs).toBeGreaterThan(10_000);
  expect(mesh.seen[1]?.remainingMs).toBeLessThanOrEqual(20_000);
});

test("what a keyed run calls goes on when the session of its caller is lost", async () => {
  let outcome: unknown;
  await using mesh = await hop((back) => ({
    charge: method({ ...open, repetition: "keyed" }, async () => {
      outcome = await back.wait().then(
        () => "charged",
        (error: KiteError) => error.code,
      );
    }),
  }));
  const call = expect(callWith(mesh.remote, { meta: { key: "k" } }).charge()).rejects.toMatchObject({ code: "disconnected" });
  await until(() => mesh.seen.length === 1);

  await mesh.leave();
  mesh.release();

  await call;
  await until(() => outcome !== undefined);
  expect(outcome).toBe("charged");
});

test("a method that answers with a query builder runs its query once", async () => {
  let runs = 0;
  // biome-ignore lint/suspicious/noThenProperty: the point is a value that is awaited and is no promise.
  const query = { then: (resolve: (rows: number) => void) => resolve(++runs) };
  await using mesh = await hop(() => ({ ask: method(open, () => query) }));

  expect(await mesh.remote.ask()).toBe(1);
  expect(runs).toBe(1);
});

test("the caller's cancel reaches the last kite of the chain", async () => {
  await using mesh = await hop((back) => ({ ask: method(open, () => back.wait()) }));
  const cancel = new AbortController();

  const call = callWith(mesh.remote, { signal: cancel.signal }).ask();
  await until(() => mesh.seen.length === 1);
  cancel.abort();

  await expect(call).rejects.toMatchObject({ code: "cancelled" });
  await until(() => mesh.seen[0]?.signal.aborted === true);
});

test("a method's own signal ends its call, and leaves the one that it answers", async () => {
  const cancel = new AbortController();
  await using mesh = await hop((back) => ({
    ask: method(open, () =>
      callWith(back, { signal: cancel.signal })
        .wait()
        .catch((error: KiteError) => error.code),
    ),
  }));

  const call = mesh.remote.ask();
  await until(() => mesh.seen.length === 1);
  cancel.abort();

  expect(await call).toBe("cancelled");
});

test("what a detached call does has its own time, and goes on when its caller has left", async () => {
  await using mesh = await hop((back) => ({ ask: method(open, () => callWith(back, { detached: true }).wait()) }));
  const cancel = new AbortController();

  const call = callWith(mesh.remote, { signal: cancel.signal, timeoutMs: 20_000 }).ask();
  await until(() => mesh.seen.length === 1);
  cancel.abort();
  await call.catch(() => {});

  expect(mesh.seen[0]?.signal.aborted).toBe(false);
  expect(mesh.seen[0]?.remainingMs).toBeGreaterThan(20_000);
});

test("a method that has used up its time is told at which hop, and nothing is called", async () => {
  await using mesh = await hop((back) => ({
    ask: method(open, async (call) => {
      while (call.remainingMs > 0) await new Promise((resolve) => setTimeout(resolve, 1));
      failure = await back.look().catch((error: KiteError) => error);
    }),
  }));
  let failure: unknown;

  await callWith(mesh.remote, { timeoutMs: 20 })
    .ask()
    .catch(() => {});
  await until(() => failure !== undefined);

  expect(failure).toMatchObject({
    code: "deadline_exceeded",
    outcome: "not_run",
    message: expect.stringMatching(/look was not called: ask/),
  });
  expect(mesh.seen).toEqual([]);
});

test("a deadline that passes further on ends the whole chain", async () => {
  await using mesh = await hop((back) => ({ ask: method(open, () => back.wait()) }));

  while (mesh.seen.length === 0)
    await expect(callWith(mesh.remote, { timeoutMs: 100 }).ask()).rejects.toMatchObject({ code: "deadline_exceeded" });

  await until(() => mesh.seen[0]?.signal.aborted === true);
});

test.each([
  ["deadline_exceeded", new KiteError("deadline_exceeded", "ask ran out of its caller's time"), 5, "deadline_exceeded"],
  ["a cancel that comes with the end of the time", new KiteError("cancelled", "the caller has cancelled"), 0, "deadline_exceeded"],
  ["a cancel before", new KiteError("cancelled", "the caller has cancelled"), 5, "cancelled"],
] as const)("a further call that ends by %s says so", async (_, why, remainingMs, code) => {
  const controller = new AbortController();
  let leftMs = 1_000;
  const outer = {
    method: "ask",
    meta: {},
    signal: controller.signal,
    get remainingMs() {
      return leftMs;
    },
  } as Call;

  const made = callWithin(
    outer,
    "look",
    {},
    ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener("abort", () => reject(new KiteError("cancelled", "look was cancelled", { outcome: "unknown" })));
      }),
  );
  leftMs = remainingMs;
  controller.abort(why);

  await expect(made).rejects.toMatchObject({ code, outcome: "unknown" });
});

test("what a method leaves running after its answer has no caller any more", async () => {
  let later: Promise<void> | undefined;
  let answered = () => {};
  const answer = new Promise<void>((resolve) => {
    answered = resolve;
  });
  await using mesh = await hop((back) => ({
    start: method(open, async () => {
      later = answer.then(() => back.look());
    }),
  }));

  await callWith(mesh.remote, { timeoutMs: 10_000 }).start();
  answered();
  await later;

  expect(mesh.seen[0]?.remainingMs).toBeGreaterThan(10_000);
});

test("calls that are answered at the same time do not mix up their callers", async () => {
  await using mesh = await hop((back) => ({
    ask: method({ ...open, input: z.number() }, async (turns) => {
      for (let turn = 0; turn < turns; turn++) await null;
      await callWith(back, { timeoutMs: 3_600_000 }).look();
    }),
  }));

  await Promise.all(Array.from({ length: 20 }, (_, n) => callWith(mesh.remote, { timeoutMs: (n + 1) * 60_000 }).ask(20 - n)));

  const minutesLeft = mesh.seen.map(({ remainingMs }) => Math.ceil(remainingMs / 60_000)).sort((a, b) => a - b);
  expect(minutesLeft).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
});

test("that a further call did not run does not say so of the method that made it", async () => {
  await using server = new Kite({ name: "gone", version: "1.0.0" });
  const { url } = await server.listen();
  await server.close();
  await using middle = new Kite({ name: "middle", version: "1.0.0" });
  const nobody = callWith(middle.dial<BackContract>({ url }), { retry: false });
  let runs = 0;
  await using mesh = await hop(() => ({
    ask: method(open, async () => {
      runs++;
      await nobody.look();
    }),
  }));

  const failed = await mesh.remote.ask().catch((error: KiteError) => error);

  expect(failed).toMatchObject({ code: "unavailable", outcome: undefined });
  expect(runs).toBe(1);
});
