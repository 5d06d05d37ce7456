import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { expect, test, vi } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { z } from "zod";
import { peerOf } from "../calling/remote.ts";
import { Kite } from "../kite.ts";
import { LIMITS } from "../limits.ts";
import { Listener, type ListenOptions } from "../listener.ts";
import { type ContractOf, method } from "../method.ts";
import { testCaller, until } from "../testing.ts";
import { PROTOCOL } from "../wire/v1.ts";
import { maskedFrame, textFrame } from "./socket-frame.ts";
import type { Transport } from "./transport.ts";
import { dialWebSocket, webSocketTransport } from "./websocket.ts";

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
  await once(socket, "open");

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
    // `toEqual` looks at each byte by itself, which takes seconds.
    expect(Buffer.compare(bytes, new Uint8Array(bytes.length).fill(1))).toBe(0);
    expect(bytes.buffer.byteLength).not.toBe(Buffer.poolSize);
  }
  inPieces.destroy();
  dialled.close(1000, "");
  await listener.close();
});

test.each<[where: string, options: ListenOptions, before: string]>([
  ["behind the request", {}, ""],
  ["behind a line that a balancer says first", { prelude: passBehindLine }, "PROXY UNKNOWN\r\n"],
])("frames that come %s, in the same packet, arrive as they were sent", async (_, options, before) => {
  const heard: string[] = [];
  const listener = await Listener.open(options, LIMITS, {
    onTransport: (transport) => transport.start({ frame: (frame) => void heard.push(String(frame)), closed: () => {} }),
  });
  const frames = Buffer.concat(["one", "two", "three"].map((each) => textFrame(each, { masked: true })));
  const sockets: Socket[] = [];

  for (let at = 0; at <= frames.length; at++) {
    const socket = connect(listener.port, "127.0.0.1");
    socket.write(Buffer.concat([Buffer.from(before + UPGRADE), frames.subarray(0, at)]));
    await once(socket, "data");
    socket.write(frames.subarray(at));
    sockets.push(socket);
  }

  await until(() => heard.length === 3 * sockets.length);
  expect(new Set(heard)).toEqual(new Set(["one", "two", "three"]));
  for (const socket of sockets) socket.destroy();
  await listener.close();
});

test("frames stay in order on a server's own socket that compresses", async () => {
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: true });
  await once(sockets, "listening");
  const heard: string[] = [];
  sockets.on("connection", (socket, { socket: connection }) => {
    const transport = webSocketTransport(socket, connection);
    transport.start({ frame: (frame) => void heard.push(`client ${frame.length}`), closed: () => {} });
    transport.send(new Uint8Array(100_000));
    transport.send("between");
    transport.send("x".repeat(2_000));
  });
  const client = new WebSocket(`ws://127.0.0.1:${(sockets.address() as AddressInfo).port}`);
  client.on("message", (data: Buffer) => heard.push(`server ${data.length}`));
  client.once("open", () => {
    client.send(new Uint8Array(3_000));
    client.send("short");
  });

  await until(() => heard.length === 5);

  expect(heard.filter((each) => each.startsWith("server"))).toEqual(["server 100000", "server 7", "server 2000"]);
  expect(heard.filter((each) => each.startsWith("client"))).toEqual(["client 3000", "client 5"]);
  client.terminate();
  sockets.close();
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

// In Go it welcomes whoever comes to SockJS, and of kite.js it takes any WebSocket without a word about the subprotocol.
test.each([
  ["in Go", () => createServer((_, response) => response.end("Welcome to SockJS!\n"))],
  [
    "of kite.js",
    () => {
      const server = createServer();
      const sockets = new WebSocketServer({ server, handleProtocols: () => false });
      sockets.on("connection", (socket) => socket.terminate());
      return server;
    },
  ],
])("whoever dials a kite %s in kite.v1 hears how it is called", async (_, make) => {
  const server = make();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  await using client = new Kite({ name: "client", version: "1.0.0" });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/kite`;

  const call = client.dial<Contract>({ url, retry: false }).length("a");

  await expect(call).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining('kite.dial({ url, dialect: "dnode" })'),
  });
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
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

const UPGRADE =
  `GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${"A".repeat(22)}==\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ${PROTOCOL}\r\n\r\n`;

function passBehindLine(socket: Socket, pass: () => void): void {
  socket.once("data", (chunk: Buffer) => {
    socket.pause();
    socket.unshift(chunk.subarray(chunk.indexOf("\n") + 1));
    pass();
    socket.resume();
  });
}

/** A connection that says frames by itself from now on. */
async function upgraded(port: number): Promise<Socket> {
  const socket = connect(port, "127.0.0.1");
  socket.write(UPGRADE);
  await once(socket, "data");
  return socket;
}
