import { type } from "arktype";
import * as v from "valibot";
import { expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { method } from "../method.ts";
import { connectedPair } from "../testing.ts";
import { checkResults } from "./check-results.ts";
import { callWith, peerOf, type Remote } from "./remote.ts";

/** What the caller believes of a kite that answers as it likes. */
interface Prices {
  of(what: string): Promise<number>;
  since(what: string): Promise<Date>;
  shop: { name(): Promise<string>; open(): Promise<boolean> };
}

const anything = { role: "viewer", input: z.unknown() } as const;
const liar = {
  of: method(anything, (what) => (what === "tea" ? 3 : "free")),
  since: method(anything, () => "2026-01-01T00:00:00.000Z"),
  shop: { name: method({ role: "viewer" }, () => 7), open: method({ role: "viewer" }, () => "never") },
};

async function pricesOf() {
  const pair = await connectedPair(liar);
  return { pair, prices: pair.client as unknown as Remote<Prices>, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
}

test("a result that breaks the caller's schema fails the call, and says where", async () => {
  await using world = await pricesOf();

  const prices = checkResults(world.prices, { of: z.number().positive(), shop: { name: v.string(), open: type("boolean") } });

  expect(await prices.of("tea")).toBe(3);
  await expect(prices.of("air")).rejects.toMatchObject({
    code: "invalid_result",
    message: expect.stringMatching(/^of has run, .*expected number/),
  });
  await expect(prices.shop.name()).rejects.toMatchObject({ code: "invalid_result", message: expect.stringContaining("shop.name") });
  await expect(prices.shop.open()).rejects.toMatchObject({ code: "invalid_result" });
});

test("the caller gets what the schema makes of a result, and what has none as it came", async () => {
  await using world = await pricesOf();

  const prices = checkResults(world.prices, { since: z.coerce.date() });

  expect(await prices.since("tea")).toEqual(new Date("2026-01-01"));
  expect(await prices.of("air")).toBe("free");
  expectTypeOf(prices).toEqualTypeOf<Remote<Prices>>();
});

test("results are checked through other options as well, and the kite behind is the same", async () => {
  await using world = await pricesOf();
  const prices = checkResults(world.prices, { of: z.number() });

  const hurried = callWith(prices, { timeoutMs: 1_000, retry: false });

  await expect(hurried.of("air")).rejects.toMatchObject({ code: "invalid_result" });
  await expect(checkResults(callWith(world.prices, { timeoutMs: 1_000 }), { of: z.number() }).of("air")).rejects.toMatchObject({
    code: "invalid_result",
  });
  expect(peerOf(prices)).toBe(peerOf(world.prices));
});

test("what is checked after what was checked is checked by both", async () => {
  await using world = await pricesOf();

  const prices = checkResults(checkResults(world.prices, { of: z.number() }), { of: z.number().max(2) });

  await expect(prices.of("air")).rejects.toMatchObject({ message: expect.stringContaining("expected number") });
  await expect(prices.of("tea")).rejects.toMatchObject({ message: expect.stringContaining("<=2") });
});

test("what is no schema is told at once", async () => {
  await using world = await pricesOf();

  const check = () => checkResults(world.prices, { shop: { name: "a text" as never } });

  expect(check).toThrow(KiteError);
  expect(check).toThrow(/the result of shop\.name is checked by a Standard Schema/);
});
