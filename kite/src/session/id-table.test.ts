import { expect, test } from "vitest";
import { IdTable } from "./id-table.ts";

test("ids grow, and the place of an entry that stays for long is passed over", () => {
  const table = new IdTable<{ id: number }>();
  const first = addNext(table);

  const others: number[] = [];
  for (let count = 0; count < 1000; count++) {
    const { id } = addNext(table);
    others.push(id);
    table.take(id);
  }

  expect(others).toEqual([...new Set(others)].sort((a, b) => a - b));
  expect(table.take(first.id)).toBe(first);
  expect(table.size).toBe(0);
});

test("an entry is taken once, and only under its own id", () => {
  const table = new IdTable<{ id: number }>();
  const entry = addNext(table);

  const strangers = [entry.id + 16, entry.id + 2 ** 32, -entry.id, 0, Number.MAX_SAFE_INTEGER];

  expect(strangers.some((id) => table.take(id) !== undefined)).toBe(false);
  expect(table.take(entry.id)).toBe(entry);
  expect(table.take(entry.id)).toBeUndefined();
});

test("any number of entries waits at once, in the order of their ids, also after the table has been empty", () => {
  const table = new IdTable<{ id: number }>();

  for (let round = 0; round < 2; round++) {
    const added = Array.from({ length: 1000 }, () => addNext(table));
    expect(table.entries()).toEqual(added);
    expect(added.map(({ id }) => table.take(id))).toEqual(added);
  }

  expect(table.entries()).toEqual([]);
});

function addNext(table: IdTable<{ id: number }>): { id: number } {
  const entry = { id: table.nextId() };
  table.add(entry);
  return entry;
}
