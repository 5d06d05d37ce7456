import { expect, test } from "vitest";
import { MACHINE_METHODS, MACHINE_MOVES } from "./machine.ts";
import { OPERATION_MOVES } from "./operation.ts";
import { STACK_MOVES } from "./stack.ts";

const TABLES = [
  { name: "machine", moves: MACHINE_MOVES, first: "NotInitialized", last: ["Terminated"] },
  { name: "stack", moves: STACK_MOVES, first: "planned", last: ["gone"] },
  { name: "operation", moves: OPERATION_MOVES, first: "pending", last: ["succeeded", "failed"] },
] as const;

test.each(TABLES)("every state of a $name can be reached, and leads to an end", ({ moves, first, last }) => {
  const table: Readonly<Record<string, readonly string[]>> = moves;

  expect([...reachable(table, first)].sort()).toEqual(Object.keys(table).sort());
  for (const state of Object.keys(table)) expect([...reachable(table, state)].some((end) => last.some((one) => one === end))).toBe(true);
  expect(Object.keys(table).filter((state) => table[state]?.length === 0)).toEqual([...last]);
});

test("while something is under way with a machine its owner can ask for nothing, and a failure leads out of it", () => {
  for (const state of ["Building", "Starting", "Stopping", "Terminating"] as const) {
    expect(MACHINE_METHODS[state]).toEqual([]);
    expect(MACHINE_MOVES[state]).toContain("Unknown");
  }
});

function reachable(table: Readonly<Record<string, readonly string[]>>, from: string): ReadonlySet<string> {
  const seen = new Set([from]);
  for (const state of seen) for (const next of table[state] ?? []) seen.add(next);
  return seen;
}
