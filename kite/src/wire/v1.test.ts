import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { writeFrame } from "./test-frame.ts";
import { readFrame, writeControl, writeFrameHead } from "./v1.ts";

const protocol = readFileSync(new URL("../../PROTOCOL.md", import.meta.url), "utf8");

test.each([
  ["a call", writeFrame(1, 0, ['[0,1,"square",[12],60000]'], []), '[1,0,[0,1,"square",[12],60000]]'],
  ["a result", writeFrame(1, 1, ["[1,1,144]"], []), "[1,1,[1,1,144]]"],
  [
    "a batch",
    writeFrame(3, 2, ['[0,7,"fs.readFile",[{"path":"/etc/hosts"}],60000]', "[3,6]"], []),
    '[3,2,[0,7,"fs.readFile",[{"path":"/etc/hosts"}],60000],[3,6]]',
  ],
  ["an acknowledgement", writeControl(3), "[0,3]"],
  ["a ping", writeControl(3, "[12]"), "[0,3,[12]]"],
])("%s is written as PROTOCOL.md shows it", (_, frame, shown) => {
  expect(frame).toBe(shown);
  expect(protocol).toContain(shown);
});

test("a binary frame is its length, its JSON and its segments", () => {
  const message = '[1,7,{"head":{"$":["b",0]},"tail":{"$":["b",1]}}]';
  const segments = [new Uint8Array([1, 2, 3, 4, 5]), new Uint8Array([6, 7, 8])];

  const frame = writeFrame(4, 2, [message], segments) as Uint8Array;

  const json = `[4,2,[5,3],${message}]`;
  expect(protocol).toContain(json);
  expect(new DataView(frame.buffer).getUint32(0)).toBe(json.length);
  expect(new TextDecoder().decode(frame.subarray(4, 4 + json.length))).toBe(json);
  expect(readFrame(frame)).toEqual({ sequence: 4, ack: 2, messages: [JSON.parse(message)], segments, marked: true });
});

test("a large message is written as PROTOCOL.md shows it, up to its segments", () => {
  const head = writeFrameHead(0, 0, ['[0,1,"echo",[{"$":["b",0]}]]'], [2]);

  const json = new TextDecoder().decode(head.subarray(4));
  expect(protocol).toContain(json);
  expect(protocol).toContain(`[14,3,0,${head.byteLength + 2}]`);
  expect(new DataView(head.buffer).getUint32(0)).toBe(json.length);
});

test.each([
  ["not JSON", "hello"],
  ["an object", "{}"],
  ["a frame without numbers", "[]"],
  ["a negative number", "[-1,0]"],
  ["a fraction", "[1.5,0]"],
  ["a number beyond what is exact", "[9007199254740993,0]"],
  ["a message that is not an array", "[1,0,7]"],
  ["an empty binary frame", new Uint8Array(0)],
  ["a binary frame whose JSON is longer than itself", new Uint8Array([0, 0, 1, 0, 91])],
  ["a binary frame that is not UTF-8", new Uint8Array([0, 0, 0, 1, 0xff])],
  ["a binary frame without lengths", binary("[1,0]")],
  ["segments that do not fill the frame", binary("[1,0,[3]]", 2)],
  ["segments that overrun the frame", binary("[1,0,[1,9007199254740991]]", 2)],
])("%s is refused as a protocol error", (_, frame) => {
  expect(() => readFrame(frame)).toThrow(expect.objectContaining({ code: "protocol_error" }));
});

function binary(json: string, extra = 0): Uint8Array {
  const frame = new Uint8Array(4 + json.length + extra);
  new DataView(frame.buffer).setUint32(0, json.length);
  frame.set(new TextEncoder().encode(json), 4);
  return frame;
}

const message = fc.array(fc.jsonValue(), { minLength: 1, maxLength: 4 });

test("every frame comes back as it was, with and without bytes", () => {
  fc.assert(
    fc.property(
      fc.maxSafeNat(),
      fc.maxSafeNat(),
      fc.array(message, { minLength: 1, maxLength: 4 }),
      fc.array(fc.uint8Array()),
      (sequence, ack, sent, bytes) => {
        const texts = sent.map((each) => JSON.stringify(each));

        const read = readFrame(writeFrame(sequence, ack, texts, bytes));

        expect(read).toMatchObject({ sequence, ack, messages: texts.map((text) => JSON.parse(text)) });
        expect(read.segments).toEqual(bytes);
      },
    ),
  );
});

test("any text and any bytes are read as a frame, or refused with a code, whatever they are", () => {
  const binary = fc
    .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.json())
    .map(([head, json]) => new Uint8Array([...head, ...Buffer.from(json)]));

  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), fc.uint8Array(), binary), (raw) => {
      try {
        expect(readFrame(raw).messages.every(Array.isArray)).toBe(true);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(KiteError);
      }
    }),
  );
});
