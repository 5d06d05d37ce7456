import { PassThrough } from "node:stream";
import { expect, test, vi } from "vitest";
import type { WebSocket } from "ws";
import { memoryLink } from "./memory.ts";
import { Strangers } from "./stranger.ts";

test.each([
  ["large pieces", 1_000, 69],
  ["single bytes", 1, 1_088],
])("a stranger's frame may come in %s, as long as keeping them takes no more room than a hello", (_, length, most) => {
  const socket = new PassThrough();
  const webSocket = { close: vi.fn() };
  const [transport] = memoryLink().ends;
  new Strangers(0).admit({
    socket,
    webSocket: webSocket as unknown as WebSocket,
    transport,
    remoteAddress: undefined,
    until: "answered",
  });

  for (let count = 0; count < most; count++) socket.emit("data", Buffer.alloc(length));
  const before = webSocket.close.mock.calls.length;
  socket.emit("data", Buffer.alloc(length));

  expect([before, webSocket.close.mock.calls.length]).toEqual([0, 1]);
});
