import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OutputBatch } from "./output-batch.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("the first output after a pause goes at once, and so does an echo right behind it", () => {
  const { batch, sent } = open();

  batch.push(Buffer.from("a"));
  batch.push(Buffer.from("b"));

  expect(sent).toEqual(["a", "b"]);
});

test("a flood is gathered for 8 ms", () => {
  const { batch, sent } = open();

  for (let index = 0; index < 20; index++) batch.push(Buffer.from("x"));
  expect(sent).toEqual(Array(8).fill("x"));

  vi.advanceTimersByTime(8);
  expect(sent.at(-1)).toBe("x".repeat(12));
});

test("a full piece does not wait for the clock, and nothing is reordered", () => {
  const { batch, sent } = open();

  for (let index = 0; index < 9; index++) batch.push(Buffer.alloc(4096, String(index)));
  batch.push(Buffer.from("end"));
  vi.advanceTimersByTime(8);

  expect(sent.map((piece) => piece.length)).toEqual([4096, 32_768, 3]);
  expect(sent.join("")).toBe(`${Array.from({ length: 9 }, (_, index) => String(index).repeat(4096)).join("")}end`);
});

test("a closed batch leaves no timer", () => {
  const { batch } = open();
  batch.push(Buffer.from("x"));

  batch.close();

  expect(vi.getTimerCount()).toBe(0);
});

function open(): { batch: OutputBatch; sent: string[] } {
  const sent: string[] = [];
  return { batch: new OutputBatch((piece) => void sent.push(piece.toString())), sent };
}
