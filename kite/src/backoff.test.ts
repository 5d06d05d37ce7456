import fc from "fast-check";
import { expect, test } from "vitest";
import { Backoff } from "./backoff.ts";

test("the limit of each wait doubles until it reaches the maximum", () => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 1_000, random: () => 0.5 });

  expect([1, 2, 3, 4, 5, 6].map(() => backoff.next())).toEqual([50, 100, 200, 400, 500, 500]);
  expect(backoff.tries).toBe(6);
});

test("a wait is any part of its limit, so that clients spread out", () => {
  fc.assert(
    fc.property(fc.nat({ max: 60 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (before, chance) => {
      const backoff = new Backoff({ firstMs: 100, maxMs: 5_000, random: () => chance });
      for (let tried = 0; tried < before; tried++) backoff.next();

      const limitMs = Math.min(5_000, 100 * 2 ** before);
      expect(backoff.next()).toBe(Math.floor(chance * limitMs));
    }),
  );
});

test("the budget ends the tries, and the last wait ends with the budget", () => {
  let now = 0;
  const backoff = new Backoff({ firstMs: 400, maxMs: 400, budgetMs: 1_000, random: () => 1, now: () => now });

  const waits: (number | undefined)[] = [];
  for (let tried = 0; tried < 5; tried++) {
    const wait = backoff.next();
    waits.push(wait);
    now += wait ?? 0;
  }

  expect(waits).toEqual([400, 400, 200, undefined, undefined]);
});

test("the number of tries can be the budget", () => {
  const backoff = new Backoff({ tries: 2, random: () => 0 });

  expect([backoff.next(), backoff.next(), backoff.next()]).toEqual([0, 0, undefined]);
});

test("after a reset the first wait is short again, and the budget is whole", () => {
  let now = 0;
  const backoff = new Backoff({ firstMs: 100, budgetMs: 500, random: () => 1, now: () => now });
  backoff.next();
  backoff.next();
  now = 1_000;
  expect(backoff.next()).toBeUndefined();

  backoff.reset();

  expect(backoff.next()).toBe(100);
});
