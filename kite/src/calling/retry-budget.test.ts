import { expect, test } from "vitest";
import { RetryBudget } from "./retry-budget.ts";

test("ten calls may be made again at first, then one for every ten", () => {
  const budget = new RetryBudget();
  expect(taken(budget)).toBe(10);

  for (let call = 0; call < 50; call++) budget.earn();

  expect(taken(budget)).toBe(5);
});

test("a quiet time saves up no more than what it began with", () => {
  const budget = new RetryBudget();

  for (let call = 0; call < 10_000; call++) budget.earn();

  expect(taken(budget)).toBe(10);
});

function taken(budget: RetryBudget): number {
  let count = 0;
  while (budget.take()) count++;
  return count;
}
