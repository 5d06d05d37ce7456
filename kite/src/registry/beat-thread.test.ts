import type { IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";
import { silent } from "../log.ts";
import { beatFromThread } from "./beat-thread.ts";

// A thread takes a while to start where other tests run beside.
const LONG = { timeout: 15_000, interval: 10 };
vi.setConfig({ testTimeout: 30_000 });

test("kites of one process beat from its thread, each with its own ticket, until they are let go", async () => {
  await using kontrol = await startBeatServer();
  const [math, web] = [kontrol.beat({ id: "math-1" }), kontrol.beat({ id: "web/1" })];

  await vi.waitFor(() => expect([math.answered, web.answered]).toEqual([true, true]), LONG);
  await vi.waitFor(() => expect(kontrol.beats.get("/beats/math-1")?.length).toBeGreaterThan(2), LONG);
  expect(kontrol.beats.get("/beats/web%2F1")?.[0]).toMatch(/^\[0,\d+\]$/);
  expect(kontrol.protocols).toContainEqual("kite.beats,kite.ticket.of-math-1");
  math[Symbol.dispose]();

  await vi.waitFor(() => expect([...kontrol.open]).toEqual(["/beats/web%2F1"]), LONG);
  // Not at once: an answer that took longer than half a beat makes the thread connect anew.
  await vi.waitFor(() => expect(web.answered).toBe(true), LONG);
  web[Symbol.dispose]();
  await vi.waitFor(() => expect(kontrol.open.size).toBe(0), LONG);
});

test("a wait ends as soon as kontrol answers no more, and beats are answered again when it is back", async () => {
  await using kontrol = await startBeatServer();
  using math = kontrol.beat({ id: "math-1" });
  await vi.waitFor(() => expect(math.answered).toBe(true), LONG);

  kontrol.deaf = true;
  await math.wait(60_000, new AbortController().signal);
  expect(math.answered).toBe(false);
  kontrol.deaf = false;

  await vi.waitFor(() => expect(math.answered).toBe(true), LONG);
});

test("a ticket that was refused is not shown again, and the session is left to beat", async () => {
  await using kontrol = await startBeatServer({ refuses: true });
  using math = kontrol.beat({ id: "math-1" });
  using web = kontrol.beat({ id: "web-1" });

  await vi.waitFor(() => expect(kontrol.refused).toBe(2), LONG);
  await math.wait(200, new AbortController().signal);

  expect([math.answered, web.answered]).toEqual([false, false]);
  expect(kontrol.refused).toBe(2);
});

test("a wait can be cancelled", async () => {
  await using kontrol = await startBeatServer();
  using math = kontrol.beat({ id: "math-1" });
  await vi.waitFor(() => expect(math.answered).toBe(true), LONG);

  const waiting = math.wait(60_000, AbortSignal.abort());

  await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
});

test("where kontrol is not reached by HTTP, no thread beats", () => {
  expect(beatFromThread({ kontrolUrl: "nats://127.0.0.1", id: "math-1", ticket: "t", heartbeatMs: 50, log: silent })).toBeUndefined();
});

/** Answers beats as kontrol does. */
async function startBeatServer({ refuses = false } = {}) {
  const beats = new Map<string, string[]>();
  const open = new Set<string>();
  const protocols: string[] = [];
  const handleProtocols = (offered: Set<string>) => {
    protocols.push([...offered].join());
    return "kite.beats";
  };
  const verifyClient = () => {
    if (refuses) server.refused += 1;
    return !refuses;
  };
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols, verifyClient });
  await new Promise((resolve) => sockets.once("listening", resolve));
  sockets.on("connection", (socket: WebSocket, { url = "" }: IncomingMessage) => {
    open.add(url);
    socket.on("close", () => open.delete(url));
    socket.on("message", (data) => {
      beats.set(url, [...(beats.get(url) ?? []), String(data)]);
      if (!server.deaf) socket.send("[]");
    });
  });
  const kontrolUrl = `http://127.0.0.1:${(sockets.address() as AddressInfo).port}/`;
  const server = {
    deaf: false,
    refused: 0,
    beats,
    open,
    protocols,
    beat({ id }: { id: string }) {
      const own = beatFromThread({ kontrolUrl, id, ticket: `of-${encodeURIComponent(id)}`, heartbeatMs: 400, log: silent });
      if (own === undefined) throw new Error("no thread could be started");
      onTestFinished(() => own[Symbol.dispose]());
      return own;
    },
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets.clients) socket.terminate();
        sockets.close(() => resolve());
      }),
  };
  return server;
}
