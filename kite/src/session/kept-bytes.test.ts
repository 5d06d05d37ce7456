import { expect, test } from "vitest";
import { keptBytes } from "./kept-bytes.ts";

test("a few bytes out of many are copied, so that who keeps them does not keep the others", () => {
  const read = new Uint8Array(256 * 1024).fill(7);

  const kept = keptBytes(read.subarray(1_000, 1_010));

  expect([...kept]).toEqual(Array(10).fill(7));
  expect(kept.buffer.byteLength).toBe(10);
});

test.each([
  ["a chunk of a file", 512 * 1024, 64 * 1024],
  ["what was read with little else", 64 * 1024, 10],
])("%s stays where it is", (_, room, length) => {
  const bytes = new Uint8Array(room).subarray(0, length);

  expect(keptBytes(bytes)).toBe(bytes);
});
