import { expect, test } from "vitest";
import { peerOf } from "../calling/remote.ts";
import { method } from "../method.ts";
import { connectedPair } from "../testing.ts";
import { probe } from "./probe.ts";

const methods = { greet: method({ role: "anyone" }, () => "hello") };
const never = new AbortController().signal;

test("a peer that gives no sign of life is let go by the third heartbeat, and has the time before it", async () => {
  let silentBeats = 0;
  const session = {
    get silentBeats() {
      return silentBeats;
    },
    heartbeat: () => void silentBeats++,
  };

  const probing = probe(session, 20, never);
  const asked = silentBeats;
  await probing;

  expect(asked).toBe(2);
  expect(silentBeats).toBe(3);
});

test("a peer that answers keeps its connection, however often it is asked", async () => {
  await using pair = await connectedPair(methods);
  await pair.client.greet();
  const peer = peerOf(pair.client);
  const states: string[] = [];
  peer.onState((state) => states.push(state));

  for (let times = 0; times < 5; times++) await probe(peer.session, 100, never);

  expect(states).toEqual([]);
});
