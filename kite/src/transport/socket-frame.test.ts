import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { WebSocketServer } from "ws";
import { until } from "../testing.ts";
import { maskedFrame } from "./socket-frame.ts";
import { dialWebSocket } from "./websocket.ts";

test.each([0, 1, 2, 3].flatMap((offset) => [4_096, 4_097, 65_535, 65_536, 70_001, 262_266].map((length) => [length, offset])))(
  "%i bytes that begin %i behind a word arrive as they were, and in order",
  async (length, offset) => {
    const { transport, received } = await dialled();
    const payload = new Uint8Array(length + offset).map((_, at) => (at * 31) % 251).subarray(offset);

    transport.send("before");
    transport.send(payload);
    transport.send(new Uint8Array([1, 2, 3]));
    await until(() => received.length === 3);

    expect(String(received[0])).toBe("before");
    expect(received[1]?.equals(payload)).toBe(true);
    expect([...(received[2] ?? [])]).toEqual([1, 2, 3]);
    expect(payload[10]).toBe(((10 + offset) * 31) % 251);
  },
);

test("a large frame is told to be taken, and counts as buffered until then", async () => {
  const { transport, received } = await dialled();

  const taken = new Promise<void>((resolve) => transport.send(new Uint8Array(16_000_000), resolve));
  expect(transport.bufferedBytes).toBeGreaterThan(0);
  await taken;

  await until(() => received.length === 1);
  expect(transport.bufferedBytes).toBe(0);
});

test("every frame has a key of its own, also when those that were drawn together are used up", () => {
  const payload = new Uint8Array(5_000);

  const keys = Array.from({ length: 3_000 }, () => Buffer.from(maskedFrame(payload).subarray(4, 8)).toString("hex"));

  // Of 3,000 random numbers of 32 bits two are the same once in a thousand runs.
  expect(new Set(keys).size).toBeGreaterThan(2_990);
});

async function dialled() {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const received: Buffer[] = [];
  server.on("connection", (socket) => socket.on("message", (data: Buffer) => received.push(data)));
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = await dialWebSocket({ url, protocols: [], maxFrameBytes: 1_000_000, signal: new AbortController().signal });
  transport.start({ frame: () => {}, closed: () => {} });
  onTestFinished(async () => {
    transport.close(1000, "");
    for (const socket of server.clients) socket.terminate();
    await new Promise((closed) => server.close(closed));
  });
  return { transport, received };
}
