import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { expect, onTestFinished, test, vi } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { KiteProxy, type KiteProxyOptions } from "./kite-proxy.ts";

test("what a kite says at once, before the page is connected, is not lost", async () => {
  await using way = await openWay((kite) => kite.send("hello"));

  const page = way.page();
  const [data] = await once(page, "message");

  expect(String(data)).toBe("hello");
});

test("a page that does not read stops the kite, not the gateway", async () => {
  let kite: WebSocket | undefined;
  await using way = await openWay((socket) => {
    kite = socket;
  });
  const page = way.page();
  await once(page, "open");
  page.pause();
  const chunk = Buffer.alloc(256 * 1024);
  const total = 200;
  for (let sent = 0; sent < total; sent++) kite!.send(chunk);

  // What nobody reads is held back at the kite: buffers on the way are far smaller than what was sent.
  await vi.waitFor(() => expect(kite!.bufferedAmount).toBeGreaterThan(0));
  const held = await steady(() => kite!.bufferedAmount);
  expect(held).toBeGreaterThan((total / 2) * chunk.length);

  let received = 0;
  page.on("message", (data: Buffer) => {
    received += data.length;
  });
  page.resume();
  await vi.waitFor(() => expect(received).toBe(total * chunk.length), { timeout: 10_000 });
});

test("when the kite closes, the page learns with which code; when it breaks, the connection breaks", async () => {
  const kites: WebSocket[] = [];
  await using way = await openWay((socket) => kites.push(socket));
  // One after the other: then the first page's kite is the first.
  const first = way.page();
  await once(first, "open");
  const second = way.page();
  await once(second, "open");

  kites[0]!.close(4003, "bye");
  expect(await once(first, "close")).toEqual([4003, Buffer.from("bye")]);
  kites[1]!.terminate();

  expect((await once(second, "close"))[0]).toBe(1006);
});

test("when the page goes away, so does the way to the kite", async () => {
  const kites: WebSocket[] = [];
  await using way = await openWay((socket) => kites.push(socket));
  const page = way.page();
  await once(page, "open");

  page.terminate();

  await once(kites[0]!, "close");
});

test("a side that does not answer the heartbeat is taken for dead", async () => {
  const kites: WebSocket[] = [];
  await using way = await openWay((socket) => kites.push(socket), { heartbeatMs: 30 });
  const page = way.page({ autoPong: false });
  await once(page, "open");

  expect((await once(page, "close"))[0]).toBe(1006);
  await vi.waitFor(() => expect(kites[0]!.readyState).toBe(WebSocket.CLOSED));
});

test("a side that answers the heartbeat stays", async () => {
  // Beaten by hand: of a clock, the next beat may come before the answer to the last one, and an answer that is late is none.
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  await using way = await openWay((kite) => kite.on("message", (data) => kite.send(data)), { heartbeatMs: 1_000 });
  const page = way.page();
  await once(page, "open");

  for (let beat = 0; beat < 6; beat++) {
    const pinged = once(page, "ping");
    vi.advanceTimersByTime(1_000);
    await pinged;
    // It comes back behind the answers of both sides.
    page.send("are you there?");
    await once(page, "message");
  }

  expect(page.readyState).toBe(WebSocket.OPEN);
});

test("one person cannot take all the room", async () => {
  await using way = await openWay(() => undefined, { linksPerPerson: 1 });
  const first = way.page();
  await once(first, "open");

  const [error] = await once(way.page(), "error");
  expect(String(error)).toContain("503");

  first.close();
  await once(first, "close");
  await vi.waitFor(async () => {
    const page = way.page();
    await once(page, "open");
    page.close();
  });
});

test("ending the links of a person closes their pages and nobody else's", async () => {
  await using way = await openWay(() => undefined);
  const [alices, bobs] = [way.page({}, "alice"), way.page({}, "bob")];
  await Promise.all([once(alices, "open"), once(bobs, "open")]);

  expect(way.proxy.endLinksOf("alice")).toBe(1);

  expect((await once(alices, "close"))[0]).toBe(1008);
  expect(bobs.readyState).toBe(WebSocket.OPEN);
});

test("an address where something else than a kite listens is not reached, and nothing is told of it", async () => {
  const other = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => "kite.token.abc" });
  await once(other, "listening");
  const { port } = other.address() as AddressInfo;
  other.on("connection", (socket) => socket.send("secret"));
  await using way = await openWay(() => undefined, { urlOf: async () => `http://127.0.0.1:${port}` });

  const [unasked] = await once(way.page({}, "alice", []), "error");
  expect(String(unasked)).toContain("426");
  const [foreign] = await once(way.page({}, "alice", ["kite.v1", "kite.token.abc"]), "error");
  expect(String(foreign)).toContain("502");

  for (const socket of other.clients) socket.terminate();
  other.close();
});

/** A kite, the gateway's proxy before it, and pages that connect. */
async function openWay(onKite: (socket: WebSocket) => void, options: Partial<KiteProxyOptions> = {}) {
  const kites = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  kites.on("connection", onKite);
  await once(kites, "listening");
  const proxy = new KiteProxy({
    urlOf: async () => `http://127.0.0.1:${(kites.address() as AddressInfo).port}`,
    log: pino({ enabled: false }),
    ...options,
  });
  const server = createServer();
  server.on("upgrade", (request, socket, head) => proxy.open(request, socket, head, { username: request.url!.slice(1), kiteId: "k" }));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const pages: WebSocket[] = [];
  return {
    proxy,
    page(socketOptions: { autoPong?: boolean } = {}, username = "alice", protocols = ["kite.v1"]): WebSocket {
      const page = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/${username}`, protocols, socketOptions);
      pages.push(page);
      return page;
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      for (const page of pages) page.terminate();
      for (const kite of kites.clients) kite.terminate();
      kites.close();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** The value once it has stopped moving for a moment. */
async function steady(read: () => number): Promise<number> {
  let last = -1;
  let since = Date.now();
  await vi.waitFor(
    () => {
      const value = read();
      if (value !== last) since = Date.now();
      last = value;
      expect(Date.now() - since).toBeGreaterThan(200);
    },
    { timeout: 15_000 },
  );
  return last;
}
