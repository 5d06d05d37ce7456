import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DnodePeer } from "./dnode/peer.ts";
import { dnodeHost } from "./dnode/test-dnode.ts";
import { KiteError } from "./errors.ts";
import { LIMITS } from "./limits.ts";
import { method } from "./method.ts";
import { serveMethods } from "./serving/serve.ts";
import { connectedPair, testIdentity } from "./testing.ts";
import { memoryLink } from "./transport/memory.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "performance"] }));
afterEach(() => void vi.useRealTimers());

const never = new Promise<never>(() => {});

test("a call that says nothing of time ends after a minute, and its method was told so", async () => {
  let toldMs = 0;
  await using pair = await connectedPair({
    wait: method({}, ({ remainingMs }) => {
      toldMs = remainingMs;
      return never;
    }),
  });

  const ended = endOf(pair.client.wait());

  expect(await within(59_900, ended)).toBe("waits");
  expect(await within(1_000, ended)).toMatchObject({ code: "deadline_exceeded", outcome: "unknown" });
  expect(toldMs).toBe(60_000);
});

test("so does one over dnode", async () => {
  const host = dnodeHost({ wait: method({}, () => never) });
  const peer = new DnodePeer({
    url: "http://old:1/",
    auth: async () => undefined,
    dial: async () => {
      const { ends } = memoryLink();
      host.accept(ends[1]);
      return ends[0];
    },
    limits: LIMITS,
    identity: testIdentity(),
    serve: serveMethods({ methods: {} }),
  });

  const ended = endOf(peer.call("wait", []));

  expect(await within(59_900, ended)).toBe("waits");
  expect(await within(1_000, ended)).toMatchObject({ code: "deadline_exceeded", outcome: "unknown" });
  peer.close();
  host.close(new KiteError("disconnected", "the test is over"));
});

function endOf(call: Promise<unknown>): Promise<unknown> {
  return call.catch((thrown: unknown) => thrown);
}

/** How the call has ended when so much time is over, if it has. */
async function within(ms: number, ended: Promise<unknown>): Promise<unknown> {
  await vi.advanceTimersByTimeAsync(ms);
  return Promise.race([ended, Promise.resolve("waits")]);
}
