import { expect, test } from "vitest";
import { type Choosable, chooserOf } from "./choose.ts";
import { highest } from "./rendezvous.ts";

const members = (...fields: Partial<Choosable>[]): Choosable[] =>
  fields.map((given, index) => ({ id: `kite-${index}`, pending: 0, latencyMs: undefined, ...given }));

function choices(count: number, choose: () => Choosable | undefined): string[] {
  return Array.from({ length: count }, () => choose()?.id ?? "none");
}

test("in turn everybody is called as often", () => {
  const three = members({}, {}, {});
  const choose = chooserOf("round-robin", () => 0);

  expect(choices(6, () => choose(three, "square", []))).toEqual(["kite-0", "kite-1", "kite-2", "kite-0", "kite-1", "kite-2"]);
});

test("the one that owes the fewest answers is called, and equals in turn", () => {
  const choose = chooserOf("least-pending", () => 0);

  expect(choose(members({ pending: 3 }, { pending: 1 }, { pending: 2 }), "square", [])?.id).toBe("kite-1");
  expect(new Set(choices(4, () => choose(members({ pending: 1 }, { pending: 1 }, { pending: 5 }), "square", [])))).toEqual(
    new Set(["kite-0", "kite-1"]),
  );
});

test("the nearest is called; of those about as near, the one with the least to do", () => {
  const choose = chooserOf("nearest", () => 0);

  expect(choose(members({ latencyMs: 40 }, { latencyMs: 2 }, { latencyMs: 9 }), "square", [])?.id).toBe("kite-1");
  expect(choose(members({ latencyMs: 20, pending: 7 }, { latencyMs: 22, pending: 1 }, { latencyMs: 90 }), "square", [])?.id).toBe("kite-1");
});

test("while nothing is measured all count as near, and whoever was not measured as far", () => {
  const choose = chooserOf("nearest", () => 0);

  expect(new Set(choices(4, () => choose(members({}, {}), "square", [])))).toEqual(new Set(["kite-0", "kite-1"]));
  expect(choices(2, () => choose(members({}, { latencyMs: 50 }), "square", []))).toEqual(["kite-1", "kite-1"]);
});

test("calls with the same key go to the same kite, whoever makes them", () => {
  const five = members({}, {}, {}, {}, {});
  const byUser = { stickyBy: (_: string, args: readonly unknown[]) => String(args[0]) };
  const [mine, yours] = [chooserOf(byUser, () => 0.1), chooserOf(byUser, () => 0.9)];

  for (const user of ["ada", "bob", "eve"]) expect(mine(five, "read", [user])?.id).toBe(yours([...five].reverse(), "write", [user])?.id);
});

test.each(["round-robin", "least-pending", "nearest", { stickyBy: () => "key" }] as const)("of none, none is chosen: %s", (balance) => {
  expect(chooserOf(balance, () => 0)([], "square", [])).toBeUndefined();
});

test("keys spread evenly, and only those of the kite that leaves move", () => {
  const ids = Array.from({ length: 10 }, (_, index) => ({ id: `5f0c-${index}` }));
  const keys = Array.from({ length: 10_000 }, (_, index) => `user-${index}`);
  const before = new Map(keys.map((key) => [key, highest(key, ids)?.id]));

  const counts = ids.map(({ id }) => keys.filter((key) => before.get(key) === id).length);
  const [gone, ...rest] = ids;
  const moved = keys.filter((key) => highest(key, rest)?.id !== before.get(key));

  expect(Math.min(...counts)).toBeGreaterThan(850);
  expect(Math.max(...counts)).toBeLessThan(1_150);
  expect(moved).toEqual(keys.filter((key) => before.get(key) === gone?.id));
});
