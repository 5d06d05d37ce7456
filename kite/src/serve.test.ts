import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "./errors.ts";
import { method } from "./method.ts";
import type { Middleware } from "./serve.ts";
import { connectedPair, testCaller } from "./testing.ts";

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
