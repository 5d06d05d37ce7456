import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFrame, type Frame, FrameReader } from "./pty-protocol.ts";

const frames: [Frame, string][] = [
  [{ kind: "control", message: { type: "detach", viewer: 7 } }, "0000001d 00 7b2274797065223a22646574616368222c22766965776572223a377d"],
  [{ kind: "output", viewer: 1, data: Buffer.from("hi") }, "00000007 01 00000001 6869"],
  [{ kind: "input", viewer: 258, data: Buffer.from([3]) }, "00000006 02 00000102 03"],
  [{ kind: "acknowledge", viewer: 2, bytes: 65536 }, "00000009 03 00000002 00010000"],
];

test.each(frames)("%j is written as %s", (frame, hex) => {
  const bytes = Buffer.concat(encodeFrame(frame));

  expect(bytes.toString("hex")).toBe(hex.replaceAll(" ", ""));
  expect([...new FrameReader().read(bytes)]).toEqual([frame]);
});

test("frames come out whole however the bytes are cut", () => {
  const all = Buffer.concat(frames.flatMap(([frame]) => encodeFrame(frame)));
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), (sizes) => {
      const reader = new FrameReader();
      const read: Frame[] = [];
      for (let from = 0, turn = 0; from < all.length; turn++) {
        const size = sizes[turn % sizes.length] as number;
        read.push(...reader.read(all.subarray(from, from + size)));
        from += size;
      }
      expect(read).toEqual(frames.map(([frame]) => frame));
    }),
  );
});

test.each(["00000000", "ffffffff", "0000000109", "000000020100", "0000000703000000010000", "0000000200ff"])("%s is refused", (hex) => {
  expect(() => [...new FrameReader().read(Buffer.from(hex, "hex"))]).toThrow();
});
