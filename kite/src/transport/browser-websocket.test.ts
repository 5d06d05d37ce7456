import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { until } from "../testing.ts";
import { PROTOCOL, type RawFrame } from "../wire/v1.ts";
import { dialBrowserSocket } from "./browser-websocket.ts";
import { overWebSocket, type TestCarrier } from "./test-worlds.ts";
import type { Transport } from "./transport.ts";

// The socket of a page, with `ws` in place of the browser's; pages in a real one are in test/stories/page.test.ts.
const dialled: WebSocket[] = [];
let accepted: Transport | undefined;
let carrier: TestCarrier;

beforeEach(async () => {
  accepted = undefined;
  dialled.length = 0;
  vi.stubGlobal(
    "WebSocket",
    class extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        dialled.push(this);
      }
    },
  );
  carrier = await overWebSocket((transport) => (accepted = transport));
});
afterEach(async () => {
  for (const socket of dialled) socket.terminate();
  await carrier[Symbol.asyncDispose]();
  vi.unstubAllGlobals();
});

test("what came before it was started is delivered first, text as text and bytes as bytes", async () => {
  const transport = await dial();
  let came = 0;
  dialled[0]?.addEventListener("message", () => came++);
  accepted?.send("one");
  accepted?.send(Uint8Array.of(0, 255));
  await until(() => came === 2, 20_000);

  const frames: RawFrame[] = [];
  transport.start({ frame: (raw) => frames.push(raw), closed: () => {} });
  accepted?.send("three");
  await until(() => frames.length === 3, 20_000);

  expect(frames).toEqual(["one", Uint8Array.of(0, 255), "three"]);
});

test("one that was closed before it was started says so, with the reason", async () => {
  const transport = await dial();
  accepted?.start({ frame: () => {}, closed: () => {} });
  accepted?.close(4000, "math has closed");
  await until(() => dialled[0]?.readyState === WebSocket.CLOSED, 20_000);

  const closed = vi.fn();
  transport.start({ frame: () => {}, closed });
  transport.send("too late");

  expect(closed).toHaveBeenCalledExactlyOnceWith({ code: 4000, reason: "math has closed" });
});

test("nobody at the address is unavailable", async () => {
  await carrier[Symbol.asyncDispose]();

  await expect(dial()).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining(carrier.url) });
});

test("a dial that is cancelled leaves no socket behind", async () => {
  const cancel = new AbortController();
  const dialling = dial(cancel.signal);

  cancel.abort();

  await expect(dialling).rejects.toMatchObject({ code: "cancelled" });
  await until(() => dialled[0]?.readyState === WebSocket.CLOSED, 20_000);
});

function dial(signal = new AbortController().signal): Promise<Transport> {
  return dialBrowserSocket({ url: carrier.url, protocols: [PROTOCOL], maxFrameBytes: 1024 * 1024, signal });
}
