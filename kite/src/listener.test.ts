import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { Kite } from "./kite.ts";
import type { Limits } from "./limits.ts";
import { method } from "./method.ts";
import { testCaller, until } from "./testing.ts";
import { PROTOCOL } from "./wire/v1.ts";

const KIB = 1024;

// A close that is never answered takes two seconds by itself.
vi.setConfig({ testTimeout: 30_000 });

describe("a stranger who begins a frame that never ends", () => {
  test("is cut off in kite.v1 after the length of a hello, long before the frame is whole", async () => {
    await using host = await listeningKite();
    await using stranger = await upgraded(host, { protocol: PROTOCOL });

    stranger.socket.write(frameHead(30 * KIB * KIB));
    stranger.socket.write(Buffer.alloc(100 * KIB));
    await until(() => stranger.closed(), 20_000);

    expect(stranger.heard()).toContain("a stranger may send 69632 bytes");
    expect([...host.kite.sessions]).toEqual([]);
  });

  test("is cut off in kite.v1 also after its hello, while its credential is being verified", async () => {
    await using host = await listeningKite({ helloMs: 60_000 }, () => new Promise(() => {}));
    await using stranger = await upgraded(host, { protocol: PROTOCOL });

    stranger.socket.write(textFrame('{"hello":{"auth":{"type":"token","key":"x"}}}'));
    stranger.socket.write(frameHead(30 * KIB * KIB));
    stranger.socket.write(Buffer.alloc(100 * KIB));
    await until(() => stranger.closed(), 20_000);

    expect([...host.kite.sessions]).toEqual([]);
  });

  test("is cut off when the frame is a message in many small fragments, which take far more room than they have bytes", async () => {
    await using host = await listeningKite();
    await using stranger = await upgraded(host, { protocol: PROTOCOL });
    const codes: unknown[] = [];
    stranger.socket.on("data", (data: Buffer) => codes.push(data.subarray(-2).readUInt16BE()));

    stranger.socket.write(Buffer.concat([fragment(0x01), ...Array.from({ length: 1_024 }, () => fragment(0x00))]));

    await until(() => codes.length > 0, 20_000);
    expect(codes).toEqual([1008]);
  });

  test.each(["/", "/kite/1/a/websocket"])("has in dnode, at %s, what all strangers share, and leaves it to the next one", async (path) => {
    await using host = await listeningKite({ frameBytes: 100 * KIB });
    const begin = async () => {
      const stranger = await upgraded(host, { path });
      stranger.socket.write(frameHead(190 * KIB));
      stranger.socket.write(Buffer.alloc(180 * KIB, 32));
      return stranger;
    };

    // Four times a frame is shared, and each takes 112 KiB of it.
    const strangers = [await begin(), await begin(), await begin(), await begin()];
    await until(() => strangers.some((each) => each.closed()), 20_000);
    const left = strangers.filter((each) => !each.closed());
    left[0]?.socket.destroy();
    await until(() => [...host.kite.sessions].length === 2, 20_000);
    await using next = await begin();
    await until(() => [...host.kite.sessions].length === 3, 20_000);

    expect(left).toHaveLength(3);
    expect([next, left[1], left[2]].map((each) => each?.closed())).toEqual([false, false, false]);
    for (const each of strangers) each.socket.destroy();
  });
});

test("the first call of a session of dnode may be as large as any other", async () => {
  await using host = await listeningKite();
  await using stranger = await upgraded(host, { path: "/" });
  const call = { withArgs: ["x".repeat(5 * KIB * KIB)], responseCallback: 0 };

  stranger.socket.write(textFrame(JSON.stringify({ method: "length", arguments: [call], callbacks: { 0: [0, "responseCallback"] } })));
  await until(() => stranger.heard().includes('"result"'), 20_000);

  expect(stranger.heard()).toContain(`"result":${5 * KIB * KIB}`);
});

describe("a slow loris", () => {
  test.each([
    ["that connects and says nothing", ""],
    ["that never ends its request", "GET /kite/info HTTP/1.1\r\nHost: kite\r\nX-Slow: "],
    ["that never ends its upgrade", "GET / HTTP/1.1\r\nHost: kite\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "],
  ])("%s is shown out", async (_, said) => {
    await using host = await listeningKite({ helloMs: 200 });
    await using loris = await connected(host);

    loris.socket.write(said);
    await until(() => loris.closed(), 20_000);

    expect(loris.heard()).toContain("408 Request Timeout");
  });

  test("that upgrades and says no hello is shown out, also when it never answers the close", async () => {
    await using host = await listeningKite({ helloMs: 500 });
    await using loris = await upgraded(host, { protocol: PROTOCOL });

    await until(() => loris.closed(), 20_000);

    expect(loris.heard()).toContain("a hello was expected within 500 ms");
  });

  test("that sends its hello byte by byte is shown out in the same time", async () => {
    await using host = await listeningKite({ helloMs: 500 });
    await using loris = await upgraded(host, { protocol: PROTOCOL });
    loris.socket.write(frameHead(60 * KIB));

    const drip = setInterval(() => loris.socket.write("x"), 5);
    await until(() => loris.closed(), 20_000).finally(() => clearInterval(drip));

    expect(loris.heard()).toContain("a hello was expected within 500 ms");
  });

  test("whose upgrade was refused does not keep its half of the connection", async () => {
    await using host = await listeningKite();
    await using loris = await upgraded(host, { protocol: "other" });

    await until(() => loris.closed(), 20_000);

    expect(loris.heard()).toContain("426 Upgrade Required");
  });
});

interface Host extends AsyncDisposable {
  readonly kite: Kite;
  readonly port: number;
}

async function listeningKite(limits: Partial<Limits> = {}, authenticate = async () => testCaller()): Promise<Host> {
  const methods = { length: method({ input: z.string() }, (text) => text.length) };
  const kite = new Kite({ name: "host", version: "1.0.0", username: "alice", methods, authenticate, limits });
  const { port } = await kite.listen();
  return { kite, port, [Symbol.asyncDispose]: () => kite.close() };
}

/** A socket of a peer that speaks in bytes. */
interface Raw extends AsyncDisposable {
  readonly socket: Socket;
  heard(): string;
  /** Whether the kite has closed it; its own half stays open until then. */
  closed(): boolean;
}

async function connected({ port }: Host): Promise<Raw> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  let heard = "";
  let closed = false;
  socket.on("data", (chunk) => (heard += chunk.toString("latin1")));
  socket.on("error", () => (closed = true)).on("close", () => (closed = true));
  await once(socket, "connect");
  // Only a kite that has destroyed its socket answers a byte with a reset; one that has merely said goodbye takes it.
  const probe = setInterval(() => void (socket.readableEnded && socket.write("?")), 10);
  socket.once("close", () => clearInterval(probe));
  return {
    socket,
    heard: () => heard,
    closed: () => closed,
    [Symbol.asyncDispose]: async () => {
      clearInterval(probe);
      socket.destroy();
    },
  };
}

async function upgraded(host: Host, { path = "/", protocol }: { path?: string; protocol?: string }): Promise<Raw> {
  const raw = await connected(host);
  const offered = protocol === undefined ? "" : `Sec-WebSocket-Protocol: ${protocol}\r\n`;
  raw.socket.write(
    `GET ${path} HTTP/1.1\r\nHost: kite\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${offered}\r\n`,
  );
  await until(() => raw.heard().includes("\r\n\r\n"));
  return raw;
}

/** The header of a frame of text, masked with zeros as a client's must be. */
/** One byte of a message. */
function fragment(first: number): Buffer {
  return Buffer.from([first, 0x81, 0, 0, 0, 0, 0x7b]);
}

function frameHead(length: number): Buffer {
  const head = Buffer.alloc(14);
  head[0] = 0x81;
  head[1] = 0x80 | 127;
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

function textFrame(text: string): Buffer {
  return Buffer.concat([frameHead(Buffer.byteLength(text)), Buffer.from(text)]);
}
