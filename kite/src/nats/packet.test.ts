import { expect, test } from "vitest";
import { allocatePacket, bytesPacket, countsBetween, HEADER_BYTES, PACKET, readCount, textPacket } from "./packet.ts";

test("a message says what it is, and carries both counts before its body", () => {
  const packet = textPacket(PACKET.text, 7, 2 ** 32 - 1, "鳶", 3);

  expect([...packet]).toEqual([0, 0, 0, 0, 7, 255, 255, 255, 255, 0xe9, 0xb3, 0xb6]);
  expect([readCount(packet, 1), readCount(packet, 5)]).toEqual([7, 2 ** 32 - 1]);
  expect([...bytesPacket(PACKET.bytes, 0, 0, Uint8Array.of(1, 2)).subarray(HEADER_BYTES)]).toEqual([1, 2]);
  expect(allocatePacket(PACKET.counts, 0, 0, 0)).toHaveLength(HEADER_BYTES);
});

test("counts go on after 2^32", () => {
  expect(countsBetween(2 ** 32 - 5, 3)).toBe(8);
  expect(countsBetween(3, 3)).toBe(0);
});
