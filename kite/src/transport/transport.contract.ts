import { describe, expect, test } from "vitest";
import { until } from "../testing.ts";
import type { RawFrame } from "../wire/v1.ts";
import { CLOSE, type Transport } from "./transport.ts";

/** Two ends of one connection: the one that dialled, and the one that was. */
export interface TransportPair extends AsyncDisposable {
  readonly ends: readonly [Transport, Transport];
}

export interface TransportTraits {
  /** Code and reason of a close reach the other end. */
  readonly tellsWhy: boolean;
}

/** What a session relies on, whatever carries its frames. */
export function testTransport(name: string, traits: TransportTraits, open: () => Promise<TransportPair>): void {
  describe(`a transport over ${name}`, () => {
    test("carries frames of text and bytes in both directions, in order", async () => {
      await using pair = await open();
      const [here, there] = pair.ends.map(listen) as [Heard, Heard];
      const frames = Array.from({ length: 300 }, (_, n) => (n % 3 === 0 ? Uint8Array.of(n % 256, 0, 255) : `frame ${n} 鳶`));

      for (const frame of frames) {
        pair.ends[0].send(frame);
        pair.ends[1].send(frame);
      }

      await until(() => here.frames.length === 300 && there.frames.length === 300, LIMIT_MS);
      expect(here.frames).toEqual(frames);
      expect(there.frames).toEqual(frames);
    });

    test("delivers what came before it was started, first", async () => {
      await using pair = await open();
      pair.ends[0].send("early");
      pair.ends[0].send(Uint8Array.of(1));
      await settled();

      const there = listen(pair.ends[1]);
      pair.ends[0].send("late");

      await until(() => there.frames.length === 3, LIMIT_MS);
      expect(there.frames).toEqual(["early", Uint8Array.of(1), "late"]);
    });

    test("carries a large frame whole, between small ones", async () => {
      await using pair = await open();
      const [here, there] = pair.ends.map(listen) as [Heard, Heard];
      pair.ends[1].send("welcome");
      await until(() => here.frames.length === 1, LIMIT_MS);
      const frames = ["a", "鳶".repeat(2_000_000), "b", new Uint8Array(7_000_000).fill(9), "c"];

      for (const frame of frames) pair.ends[0].send(frame);

      await until(() => there.frames.length === frames.length, LIMIT_MS);
      expect(there.frames.every((frame, index) => Buffer.compare(Buffer.from(frame), Buffer.from(frames[index] ?? "")) === 0)).toBe(true);
      await until(() => pair.ends[0].bufferedBytes < 256 * 1024, LIMIT_MS);
    });

    test("tells both ends once that it was closed, behind the last frame", async () => {
      await using pair = await open();
      const [here, there] = pair.ends.map(listen) as [Heard, Heard];

      pair.ends[0].send("x".repeat(1_000));
      pair.ends[0].send("goodbye");
      pair.ends[0].close(CLOSE.goodbye, "done");
      pair.ends[0].close(CLOSE.silent, "again");
      pair.ends[0].send("too late");

      await until(() => here.closed.length > 0 && there.closed.length > 0, LIMIT_MS);
      await settled();
      expect(there.frames.at(-1)).toBe("goodbye");
      expect([here.closed.length, there.closed.length]).toEqual([1, 1]);
      if (traits.tellsWhy) expect([...here.closed, ...there.closed]).toEqual(Array(2).fill({ code: CLOSE.goodbye, reason: "done" }));
    });

    test("may be closed from both ends at once, and neither throws afterwards", async () => {
      await using pair = await open();
      const [here, there] = pair.ends.map(listen) as [Heard, Heard];

      for (const end of pair.ends) end.close(CLOSE.goodbye, "鳶".repeat(100));
      for (const end of pair.ends) end.send("too late");

      await until(() => here.closed.length > 0 && there.closed.length > 0, LIMIT_MS);
      await settled();
      expect([here.closed.length, there.closed.length]).toEqual([1, 1]);
      expect([...here.frames, ...there.frames]).toEqual([]);
    });

    test("says when it is started that it has closed before", async () => {
      await using pair = await open();
      pair.ends[0].close(CLOSE.goodbye, "done");
      await settled();

      const here = listen(pair.ends[0]);

      await until(() => here.closed.length > 0, LIMIT_MS);
      expect(here.closed.length).toBe(1);
    });
  });
}

interface Heard {
  readonly frames: RawFrame[];
  readonly closed: { code: number; reason: string }[];
}

function listen(transport: Transport): Heard {
  const heard: Heard = { frames: [], closed: [] };
  transport.start({ frame: (raw) => heard.frames.push(raw), closed: (why) => heard.closed.push(why) });
  return heard;
}

/** Turns of the event loop, in which what is told twice would be told again. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
}

// Real sockets on a busy machine.
const LIMIT_MS = 20_000;
