import { expect, onTestFinished, test } from "vitest";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { testCaller } from "../testing.ts";
import type { Transport } from "../transport/transport.ts";
import type { RawFrame } from "../wire/v1.ts";
import { Session } from "./session.ts";

// When PROTOCOL.md says that a side acknowledges what came in, though it has nothing to send.

/** A session whose peer sends notifications, each in a frame of its own, and hears nothing but acknowledgements. */
function listener() {
  const sent: RawFrame[] = [];
  const transport: Transport = { start: () => {}, send: (frame) => void sent.push(frame), close: () => {}, bufferedBytes: 0 };
  const session = new Session({ id: "listener", limits: LIMITS, serve: () => undefined, caller: testCaller() });
  session.agree(LIMITS);
  session.attach(transport, 0);
  onTestFinished(() => session.end(new KiteError("disconnected", "the test is over")));
  let sequence = 0;
  return {
    session,
    sent,
    /** A turn of its own for each frame: an acknowledgement leaves at the end of the tick. */
    async hears(frames: number, text = ""): Promise<void> {
      for (let count = 0; count < frames; count++) {
        session.receive(transport, JSON.stringify([++sequence, 0, [4, "note", [text]]]));
        await new Promise(setImmediate);
      }
    },
  };
}

test("after 64 frames that nothing was sent upon, they are acknowledged, and so are the next 64", async () => {
  const { hears, sent } = listener();

  await hears(63);
  expect(sent).toEqual([]);
  await hears(1);
  expect(sent).toEqual(["[0,64]"]);
  await hears(64);

  expect(sent).toEqual(["[0,64]", "[0,128]"]);
});

test("after 512 KiB that nothing was sent upon, they are acknowledged, however few frames they came in", async () => {
  const { hears, sent } = listener();

  await hears(5, "x".repeat(100 * 1024));
  expect(sent).toEqual([]);
  await hears(1, "x".repeat(100 * 1024));

  expect(sent).toEqual(["[0,6]"]);
});

test("at a heartbeat what came in is acknowledged, once", async () => {
  const { hears, sent, session } = listener();
  await hears(1);

  session.heartbeat();
  expect(sent).toEqual(["[0,1]"]);
  await hears(0);
  session.heartbeat();

  // Nothing new came, so the peer is asked for a sign of life instead.
  expect(sent).toEqual(["[0,1]", "[0,1,[12]]"]);
});
