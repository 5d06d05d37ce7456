import { expect, test } from "vitest";
import { method } from "../method.ts";
import { connectedPair } from "../testing.ts";
import { callback, stream } from "./carried.ts";

test("a method that asks for a function gets it, typed as the caller wrote it", async () => {
  const heard: string[] = [];
  await using pair = await connectedPair({
    greet: method({ input: callback<(line: string) => number>() }, async (onLine) => (await onLine("welcome")) + 1),
  });

  const answer = await pair.client.greet((line) => heard.push(line));

  expect(answer).toBe(2);
  expect(heard).toEqual(["welcome"]);
});

test("a method that asks for a stream reads any async iterable of the caller's", async () => {
  await using pair = await connectedPair({
    sum: method({ input: stream<number>() }, async (numbers) => {
      let total = 0;
      for await (const number of numbers) total += number;
      return total;
    }),
  });

  const total = await pair.client.sum(
    (async function* () {
      yield 1;
      yield 2;
    })(),
  );

  expect(total).toBe(3);
});

test("something else than a function is refused by name", async () => {
  await using pair = await connectedPair({ greet: method({ input: callback<() => void>() }, async (call) => void (await call())) });

  const greeting = pair.client.greet("hello" as never);

  await expect(greeting).rejects.toThrow("greet does not accept its argument: expected a function, received string");
});
