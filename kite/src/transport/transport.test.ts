import { afterAll, beforeAll, vi } from "vitest";
import { describeWith } from "../../../test/services.ts";
import { overNats } from "../nats/test-carrier.ts";
import { TestNatsServer } from "../nats/test-nats-server.ts";
import { PROTOCOL, type RawFrame } from "../wire/v1.ts";
import { linkTransport } from "./link.ts";
import { type OpenCarrier, overMemory, overWebSocket } from "./test-worlds.ts";
import { type TransportPair, testTransport } from "./transport.contract.ts";
import type { Transport } from "./transport.ts";

// Real servers on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

testTransport("memory", { tellsWhy: true }, () => pairOver(overMemory));
testTransport("WebSocket", { tellsWhy: true }, () => pairOver(overWebSocket));
testTransport("a link inside another session", { tellsWhy: false }, async () => {
  const here = linkTransport({ [Symbol.asyncIterator]: () => carried(there.outgoing) });
  const there = linkTransport(carried(here.outgoing));
  return pair(here.transport, there.transport, async () => {});
});

describeWith("nats-server", "NATS", (program) => {
  let server: TestNatsServer;
  beforeAll(async () => {
    server = await TestNatsServer.start(program);
  }, 30_000);
  afterAll(() => server[Symbol.asyncDispose]());

  testTransport("NATS", { tellsWhy: true }, () => pairOver(overNats(() => server)));
});

/** What a session does with a stream: whoever reads it leaves behind what was sent before. */
async function* carried(frames: AsyncIterable<RawFrame>): AsyncGenerator<RawFrame> {
  yield* frames;
}

async function pairOver(open: OpenCarrier): Promise<TransportPair> {
  let accept = (_: Transport) => {};
  const accepted = new Promise<Transport>((resolve) => (accept = resolve));
  const carrier = await open((transport) => accept(transport));
  const { signal } = new AbortController();
  const here = await carrier.dial({ url: carrier.url, protocols: [PROTOCOL], maxFrameBytes: 32 * 1024 * 1024, signal });
  return pair(here, await accepted, () => carrier[Symbol.asyncDispose]());
}

function pair(here: Transport, there: Transport, dispose: () => PromiseLike<void>): TransportPair {
  return {
    ends: [here, there],
    [Symbol.asyncDispose]: async () => {
      here.close(4000, "the test is over");
      there.close(4000, "the test is over");
      await dispose();
    },
  };
}
