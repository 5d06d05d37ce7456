import { createRequire } from "node:module";
import { Kite, method } from "@kite-mesh/kite";
import { testCaller } from "@kite-mesh/kite/testing";
import { expect, test } from "vitest";
import { z } from "zod";
import { until } from "../until.ts";

interface Socket {
  send(message: string): void;
  close(code?: number, reason?: string): void;
  readonly transport: string;
  onopen: () => void;
  onmessage: (event: { data: string }) => void;
  onclose: (event: { code: number; reason: string }) => void;
}
const SockJS = createRequire(import.meta.url)("sockjs-client") as new (url: string, _?: null, options?: object) => Socket;

const methods = { square: method({ role: "anyone", input: z.number() }, (n) => n * n) };

function math(): Kite {
  return new Kite({ name: "math", version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller() });
}

/** What a client of SockJS hears, with the socket. */
function connect(url: string, options?: object) {
  const socket = new SockJS(url, null, options);
  const heard: string[] = [];
  let closed: { code: number; reason: string } | undefined;
  let open = false;
  socket.onopen = () => {
    open = true;
  };
  socket.onmessage = ({ data }) => heard.push(data);
  socket.onclose = ({ code, reason }) => {
    closed = { code, reason };
  };
  return { socket, heard, isOpen: () => open, closed: () => closed };
}

const call = (id: number, n: number): string =>
  JSON.stringify({
    method: "square",
    arguments: [{ withArgs: [n], responseCallback: "[Function]" }],
    callbacks: { [id]: ["0", "responseCallback"] },
  });

test("sockjs-client chooses its WebSocket, calls, and is told when the kite goes", async () => {
  await using kite = math();
  const { url } = await kite.listen();
  const peer = connect(`${url}/kite`);
  await until("the socket to open", 10_000, peer.isOpen);
  const { transport } = peer.socket;

  peer.socket.send(call(0, 12));
  peer.socket.send(call(1, 3));
  await until("two answers", 10_000, () => peer.heard.length === 2);
  await kite.close();
  await until("the socket to close", 10_000, () => peer.closed() !== undefined);

  expect(transport).toBe("websocket");
  expect(peer.heard).toEqual([
    '{"method":0,"arguments":[{"error":null,"result":144}],"callbacks":{}}',
    '{"method":1,"arguments":[{"error":null,"result":9}],"callbacks":{}}',
  ]);
  expect(peer.closed()).toEqual({ code: 3000, reason: "Go away!" });
});

test("sockjs-client that wants to poll is told that it cannot, and the kite keeps nothing of it", async () => {
  await using kite = math();
  const { url } = await kite.listen();

  const peer = connect(`${url}/kite`, { transports: ["xhr-polling"] });
  await until("the socket to close", 10_000, () => peer.closed() !== undefined);

  expect(peer.isOpen()).toBe(false);
  expect([...kite.sessions]).toEqual([]);
});

test("a session that sockjs-client closes is over on both sides", async () => {
  await using kite = math();
  const { url } = await kite.listen();
  const peer = connect(`${url}/kite/`);
  await until("the socket to open", 10_000, peer.isOpen);

  peer.socket.close();

  await until("the session to end", 10_000, () => [...kite.sessions].length === 0);
  expect(peer.closed()?.code).toBe(1000);
});
