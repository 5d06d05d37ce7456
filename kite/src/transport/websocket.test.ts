import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { z } from "zod";
import { peerOf } from "../calling/remote.ts";
import { Kite } from "../kite.ts";
import { LIMITS } from "../limits.ts";
import { Listener } from "../listener.ts";
import { type ContractOf, method } from "../method.ts";
import { testCaller, until } from "../testing.ts";
import { PROTOCOL } from "../wire/v1.ts";
import { maskedFrame } from "./socket-frame.ts";
import type { Transport } from "./transport.ts";
import { dialWebSocket } from "./websocket.ts";

const methods = { length: method({ role: "viewer", input: z.string() }, (text) => text.length) };
type Contract = ContractOf<typeof methods>;

function math(limits = {}): Kite {
  return new Kite({ name: "math", version: "1.0.0", username: "alice", methods, limits, authenticate: async () => testCaller() });
}

test("a frame larger than the other side takes ends the session instead of being sent again for ever", async () => {
  await using server = math({ frameBytes: 1_000 });
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const remote = client.dial<Contract>(await server.listen());

  const call = remote.length("x".repeat(5_000));

  await expect(call).rejects.toMatchObject({ code: "disconnected", message: expect.stringContaining("1009") });
  await until(() => [...server.sessions].length === 0);
  expect(await remote.length("short")).toBe(5);
});

test("a reason of any length and alphabet closes the socket, also one that a stranger chose", async () => {
  await using server = math();
  const { url } = await server.listen();
  const socket = new WebSocket(url, [PROTOCOL]);
  const heard: string[] = [];
  const closed = new Promise<string>((resolve) => socket.once("close", (_, reason) => resolve(reason.toString())));
  socket.on("message", (data) => heard.push(String(data)));

  socket.once("open", () => socket.send(JSON.stringify({ hello: { kite: { name: "鳶".repeat(200) } } })));

  expect(Buffer.byteLength(await closed)).toBeLessThanOrEqual(123);
  expect(await closed).not.toContain("\ufffd");
  expect(heard[0]).toMatch(/^\{"refused":/);
});

test("a frame of text that is not UTF-8 ends the session", async () => {
  await using server = math();
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const { url } = await server.listen();
  const remote = client.dial<Contract>({ url });
  await remote.length("a");
  const socket = new WebSocket(url, [PROTOCOL]);
  socket.on("error", () => {});
  socket.once("open", () => socket.send('{"hello":{}}'));
  await until(() => [...server.sessions].length === 2);

  socket.send(Buffer.from([0xff, 0xfe]), { binary: false });

  await until(() => [...server.sessions].length === 1);
  expect(await remote.length("ab")).toBe(2);
});

test("a port's transports tell when the bytes of a frame are not needed any more, so that the next frame may have them", async () => {
  const accepted: Transport[] = [];
  const listener = await Listener.open({}, LIMITS, { onTransport: (transport) => void accepted.push(transport) });
  const socket = new WebSocket(listener.url, [PROTOCOL]);
  const taken = vi.fn();
  await until(() => accepted.length === 1);

  accepted[0]?.send(new Uint8Array(64 * 1024), taken);

  await until(() => taken.mock.calls.length === 1);
  socket.terminate();
  await listener.close();
});

test("the bytes of a frame are never in Node's pool, where other bytes are beside them", async () => {
  const accepted: Transport[] = [];
  const listener = await Listener.open({}, LIMITS, { onTransport: (transport) => void accepted.push(transport) });
  const received: Uint8Array[] = [];
  const receiver = { frame: (frame: string | Uint8Array) => void received.push(frame as Uint8Array), closed: () => {} };
  const signal = new AbortController().signal;
  const dialled = await dialWebSocket({ url: listener.url, protocols: [PROTOCOL], maxFrameBytes: 1_000_000, signal });
  dialled.start(receiver);
  await until(() => accepted.length === 1);
  accepted[0]?.start(receiver);

  for (const length of [1, 100, 3_000, 100_000]) {
    const before = received.length;
    accepted[0]?.send(new Uint8Array(length).fill(1));
    dialled.send(new Uint8Array(length).fill(1));
    await until(() => received.length === before + 2);
  }
  const inPieces = await upgraded(listener.port);
  await until(() => accepted.length === 2);
  accepted[1]?.start(receiver);
  const frame = maskedFrame(new Uint8Array(100).fill(1));
  // The pong tells that the first piece was read by itself.
  inPieces.write(Buffer.concat([new Uint8Array([0x89, 0x80, 0, 0, 0, 0]), frame.subarray(0, 50)]));
  await once(inPieces, "data");
  inPieces.write(frame.subarray(50));
  await until(() => received.length === 9);

  for (const bytes of received) {
    expect(bytes).toEqual(new Uint8Array(bytes.length).fill(1));
    expect(bytes.buffer.byteLength).not.toBe(Buffer.poolSize);
  }
  inPieces.destroy();
  dialled.close(1000, "");
  await listener.close();
});

test("an address that is none is refused as what it is", async () => {
  const dial = dialWebSocket({ url: "not an address", protocols: [PROTOCOL], maxFrameBytes: 1, signal: new AbortController().signal });

  await expect(dial).rejects.toMatchObject({ code: "invalid_argument" });
});

test("a server that is no kite is reported", async () => {
  await using server = math();
  await server.listen();
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const dialled = client.dial<Contract>({ url: `${server.url}`.replace("http", "https") });

  await expect(dialled.length("a")).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
  expect(peerOf(dialled).state).toBe("connecting");
});

test("a kite that is closed while its port opens leaves none open, and calls nobody any more", async () => {
  const server = math();
  const opening = server.listen();

  await server.close();
  const { port } = await opening;

  await using other = math();
  expect((await other.listen({ port })).port).toBe(port);
  expect(() => server.dial({ url: "http://127.0.0.1:1" })).toThrow(expect.objectContaining({ code: "failed_precondition" }));
  await expect(server.listen()).rejects.toMatchObject({ code: "failed_precondition" });
});

/** A connection that says frames by itself from now on. */
async function upgraded(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.write(
    `GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${"A".repeat(22)}==\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ${PROTOCOL}\r\n\r\n`,
  );
  await once(socket, "data");
  return socket;
}
