import { expect, test } from "vitest";
import type { Connection } from "./connection.ts";
import { callWith, remote } from "./remote.ts";

const echo: Connection = { call: async (...call) => call, [Symbol.asyncDispose]: async () => {} };
type AnyMethod = (...args: unknown[]) => Promise<unknown>;
type Anything = Record<string, AnyMethod>;

test.each(["name", "length", "call", "apply", "bind", "prototype", "constructor", "toString"])(
  "a method may be named %s, which functions have",
  async (name) => {
    const math = remote<Anything>(echo);

    expect(await math[name]?.(12)).toEqual([name, [12], undefined]);
    expect(await math[name]?.(13)).toEqual([name, [13], undefined]);
  },
);

test("a name is a method and a group of them, in whatever order they are called", async () => {
  const kite = remote<{ fs: Anything & AnyMethod }>(echo);

  expect(await kite.fs["read"]?.("/")).toEqual(["fs.read", ["/"], undefined]);
  expect(await kite.fs("/")).toEqual(["fs", ["/"], undefined]);
  expect(kite.fs["read"]).toBe(kite.fs["read"]);
});

test("a remote kite is no promise, also when it was called before", async () => {
  const math = remote<Anything>(echo);
  await math["square"]?.(12);

  expect(await math).toBe(math);
});

test("options are for the calls through what was made with them alone", async () => {
  const math = remote<Anything>(echo);
  await math["square"]?.(12);

  const hurried = callWith(math, { timeoutMs: 500 });

  expect(await hurried["square"]?.(12)).toEqual(["square", [12], { timeoutMs: 500 }]);
  expect(await math["square"]?.(12)).toEqual(["square", [12], undefined]);
});
