import { expect, test, vi } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { silent } from "../log.ts";
import { method } from "../method.ts";
import { explaining } from "../session/failure.ts";
import { connectedPair, testCaller } from "../testing.ts";
import { type Middleware, serveMethods } from "./serve.ts";
import { testCall } from "./test-call.ts";

const methods = {
  square: method({ role: "viewer", input: z.number(), output: z.number() }, (n) => n * n),
  add: method({ role: "viewer", input: [z.number(), z.number()] }, (a, b) => a + b),
  broken: method({ role: "viewer", output: z.number() }, () => "seven" as unknown as number),
  open: method({ role: "anyone" }, (call) => call.caller.username),
};

test("middleware runs around the method, outermost first", async () => {
  const seen: string[] = [];
  const note =
    (name: string): Middleware =>
    async (call, args, next) => {
      seen.push(`${name} before ${call.method}(${args})`);
      const result = await next();
      seen.push(`${name} after`);
      return result;
    };
  await using pair = await connectedPair(methods, { middleware: [note("outer"), note("inner")] });

  expect(await pair.client.square(3)).toBe(9);
  expect(seen).toEqual(["outer before square(3)", "inner before square(3)", "inner after", "outer after"]);
});

test("middleware may refuse a call, and change what comes back", async () => {
  const strict: Middleware = (call, _, next) => {
    if (call.method === "add") throw new KiteError("unavailable", "adding is closed today");
    return next();
  };
  const doubling: Middleware = async (_call, _args, next) => Number(await next()) * 2;
  await using pair = await connectedPair(methods, { middleware: [strict, doubling] });

  await expect(pair.client.add(1, 2)).rejects.toMatchObject({ code: "unavailable", message: "adding is closed today" });
  expect(await pair.client.square(3)).toBe(18);
});

test("middleware does not see calls that the caller had no right to make", async () => {
  const seen: string[] = [];
  const note: Middleware = (call, _, next) => {
    seen.push(call.method);
    return next();
  };
  const options = { middleware: [note], authenticate: async () => testCaller({ role: undefined }) };
  await using pair = await connectedPair(methods, options);

  await expect(pair.client.square(3)).rejects.toMatchObject({ code: "unauthenticated" });
  await pair.client.open();

  expect(seen).toEqual(["open"]);
});

test("a result that breaks the method's own contract does not reach the caller", async () => {
  await using pair = await connectedPair(methods);

  await expect(pair.client.broken()).rejects.toMatchObject({ code: "invalid_result", message: expect.stringContaining("broken") });
});

test("more arguments than the contract has are refused", async () => {
  await using pair = await connectedPair(methods);

  const call = pair.peer.call("add", [1, 2, 3]);

  await expect(call).rejects.toMatchObject({ code: "invalid_argument", message: "add takes 2 arguments, got 3" });
});

test.each([
  ["a caller with a role", testCaller({ role: "viewer" }), "Method not found: sqare; did you mean square?"],
  ["a stranger", testCaller({ role: undefined }), "Method not found: sqare"],
])("an unknown method is answered, and only somebody with a role is told what there is: %s", async (_, caller, message) => {
  await using pair = await connectedPair(methods, { authenticate: async () => caller });

  await expect(pair.peer.call("sqare", [2])).rejects.toMatchObject({ code: "method_not_found", message });
});

test("a token that has expired calls nothing but open methods", async () => {
  await using pair = await connectedPair(methods, { authenticate: async () => testCaller({ expiresAt: Date.now() - 1 }) });

  await expect(pair.client.square(2)).rejects.toMatchObject({ code: "token_expired" });
  expect(await pair.client.open()).toBe("alice");
});

test("a token for some methods calls no other", async () => {
  await using pair = await connectedPair(methods, { authenticate: async () => testCaller({ methods: ["square"] }) });

  expect(await pair.client.square(2)).toBe(4);
  await expect(pair.client.add(1, 2)).rejects.toMatchObject({ code: "permission_denied" });
});

const secret = "password authentication failed for user math";
const failing = {
  direct: method({ role: "viewer" }, () => {
    throw new TypeError(secret);
  }),
  later: method({ role: "viewer" }, async () => {
    throw new TypeError(secret);
  }),
  text: method({ role: "viewer" }, () => Promise.reject(secret)),
};

test.each(["direct", "later", "text"] as const)("the words of an error that is no KiteError stay in the kite's log: %s", async (name) => {
  const logged: { facts: Record<string, unknown>; message: string }[] = [];
  const log = { ...silent, error: (facts: object, message: string) => void logged.push({ facts: { ...facts }, message }) };
  const serve = serveMethods({ methods: failing, log });

  const error = await failureOf(() => serve(testCall({ method: name })));

  expect(error).toMatchObject({
    code: "internal",
    message: expect.stringMatching(new RegExp(`^${name} failed; .* \\(id [0-9a-f]{8}\\)$`)),
  });
  expect(JSON.stringify(error.toWire())).not.toContain("password");
  expect(logged).toEqual([
    {
      facts: { method: name, caller: "alice", id: error.details?.["id"], err: error.cause },
      message: "a method, stream or function failed",
    },
  ]);
});

test("a kite may show its errors' words, or say what they mean", async () => {
  const open = serveMethods({ methods: failing, explain: explaining({ exposeErrors: true }) });
  const translating = serveMethods({
    methods: failing,
    explain: explaining({
      exposeErrors: (thrown, call) =>
        thrown instanceof TypeError ? new KiteError("unavailable", `${call.method} has no database`) : undefined,
    }),
  });

  expect(await failureOf(() => open(testCall({ method: "later" })))).toMatchObject({ code: "internal", message: secret });
  expect(await failureOf(() => translating(testCall({ method: "direct" })))).toMatchObject({
    code: "unavailable",
    message: "direct has no database",
  });
  const puzzled = serveMethods({
    methods: failing,
    explain: explaining({ exposeErrors: (thrown) => (thrown as never as { missing: { code: never } }).missing.code }),
  });

  expect(await failureOf(() => puzzled(testCall({ method: "direct" })))).toMatchObject({
    code: "internal",
    message: expect.stringContaining("log"),
  });
  expect(await failureOf(() => translating(testCall({ method: "text" })))).toMatchObject({
    code: "internal",
    message: expect.stringContaining("log"),
  });
});

test("a method that fails with a call that was never sent does not say of itself that it did not run", async () => {
  const methods = {
    ask: method({ role: "viewer" }, async (call) => {
      await call.session.call("answer", [], { signal: AbortSignal.abort() });
    }),
  };
  await using pair = await connectedPair(methods);

  await expect(pair.client.ask()).rejects.toMatchObject({ code: "cancelled", outcome: undefined });
});

test("a method that lets itself be cancelled reports why, not that it failed", async () => {
  const logged = vi.fn();
  const serve = serveMethods({
    methods: { wait: method({ role: "viewer" }, (call) => Promise.reject(new DOMException(`${call.signal.aborted}`, "AbortError"))) },
    log: { ...silent, error: logged },
  });
  const [cancelled, byItself] = [testCall({ method: "wait" }), testCall({ method: "wait" })];
  cancelled.end(new KiteError("deadline_exceeded", "too late"));

  expect(await failureOf(() => serve(cancelled))).toMatchObject({ code: "deadline_exceeded", message: "too late" });
  expect(await failureOf(() => serve(byItself))).toMatchObject({ code: "cancelled" });
  expect(logged).not.toHaveBeenCalled();
});

test("middleware sees what a method really threw", async () => {
  const seen: unknown[] = [];
  const watch: Middleware = async (_call, _args, next) => {
    try {
      return await next();
    } catch (thrown) {
      seen.push(thrown);
      throw thrown;
    }
  };
  const serve = serveMethods({ methods: failing, middleware: [watch] });

  const error = await failureOf(() => serve(testCall({ method: "direct" })));

  expect(seen).toEqual([new TypeError(secret)]);
  expect(error.message).not.toContain("password");
});

async function failureOf(work: () => unknown): Promise<KiteError> {
  try {
    await work();
  } catch (thrown) {
    if (thrown instanceof KiteError) return thrown;
    throw thrown;
  }
  throw new KiteError("internal", "nothing was thrown");
}
