import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { anonymous } from "./auth/token.ts";
import { Kite } from "./kite.ts";
import type { Limits } from "./limits.ts";
import { method } from "./method.ts";
import { testCaller, until } from "./testing.ts";
import { PROTOCOL } from "./wire/v1.ts";

// What peers without a credential may open and hold. Each test is an attack, or what must not be mistaken for one.

const KIB = 1024;
const SOON_MS = 20_000;
const kites: Kite[] = [];

vi.setConfig({ testTimeout: 30_000 });
afterEach(async () => {
  for (const kite of kites.splice(0).reverse()) await kite.close();
});

const methods = {
  from: method({ role: "anyone" }, ({ session }) => session.remoteAddress),
  take: method({ role: "anyone", input: z.union([z.string(), z.instanceof(Uint8Array)]) }, (value) => value.length),
  wait: method({ role: "anyone" }, () => new Promise<void>(() => {})),
};
type Open = { from(): Promise<string>; take(value: string | Uint8Array): Promise<number>; wait(): Promise<void> };

describe("where a caller comes from", () => {
  test.each([
    ["kite.v1", "", undefined],
    ["dnode", "", "dnode"],
    ["dnode over SockJS", "/kite", "dnode"],
  ] as const)("a method knows it, in %s, and so does who authenticates", async (_, path, dialect) => {
    const authenticate = vi.fn(async () => testCaller());
    const host = await listening({}, authenticate);
    const client = closing(new Kite({ name: "caller", version: "1.0.0" }));

    const remote = client.dial<Open>({ url: host.url + path, ...(dialect === undefined ? {} : { dialect }) });

    expect(await remote.from()).toBe("127.0.0.1");
    expect((authenticate.mock.calls as unknown[][]).map(([, , origin]) => origin)).toEqual([{ remoteAddress: "127.0.0.1" }]);
  });
});

describe.each(["kite.v1", "dnode"] as const)("a flood of sessions without a credential, in %s", (dialect) => {
  test("is refused at the limit for one source, and leaves room to others", async () => {
    const host = await listening({ strangersPerSource: 2, strangers: 10 });
    const [first, second] = [await stranger(host, dialect, "192.0.2.1"), await stranger(host, dialect, "192.0.2.1")];

    const third = await stranger(host, dialect, "192.0.2.1");
    const other = await stranger(host, dialect, "192.0.2.2");
    await until(() => third.heard().includes("the limit strangersPerSource is 2"), SOON_MS);

    expect([first, second, other].map((each) => each.closed())).toEqual([false, false, false]);
    for (const each of [first, second, other]) each.socket.destroy();
  });

  test("counts a /64 of IPv6 as one source", async () => {
    const host = await listening({ strangersPerSource: 1, strangers: 10 });
    const first = await stranger(host, dialect, "2001:db8:1:2::1");

    const second = await stranger(host, dialect, "2001:db8:1:2:ffff::9");
    await until(() => second.heard().includes("the limit strangersPerSource is 1"), SOON_MS);

    first.socket.destroy();
  });

  test("from ever new sources is refused at the limit for all, and those who leave make room", async () => {
    const host = await listening({ strangersPerSource: 10, strangers: 2 });
    const [first, second] = [await stranger(host, dialect, "192.0.2.1"), await stranger(host, dialect, "192.0.2.2")];
    const third = await stranger(host, dialect, "192.0.2.3");
    await until(() => third.heard().includes("the limit strangers is 2"), SOON_MS);

    first.socket.destroy();
    await until(() => [...host.sessions].length === 1, SOON_MS);
    const next = await stranger(host, dialect, "192.0.2.4");

    expect([second.closed(), next.closed()]).toEqual([false, false]);
    for (const each of [second, next]) each.socket.destroy();
  });
});

test("callers who show a credential are not counted, however many they are", async () => {
  const host = await listening({ strangersPerSource: 1, strangers: 1 }, async () => testCaller());

  const clients = Array.from({ length: 20 }, () => closing(new Kite({ name: "caller", version: "1.0.0" })).dial<Open>({ url: host.url }));

  expect(await Promise.all(clients.map((client) => client.take("abc")))).toEqual(Array(20).fill(3));
});

test("one source that opens sockets and says nothing does not keep others from their handshake", async () => {
  const host = await listening({ unauthenticated: 4, helloMs: 60_000 });
  const silent = await Promise.all(Array.from({ length: 4 }, () => upgraded(host, "192.0.2.1", PROTOCOL)));

  const newcomer = await stranger(host, "kite.v1", "192.0.2.2");
  await until(() => silent.filter((each) => each.closed()).length === 1, SOON_MS);

  expect(newcomer.heard()).toContain('"welcome"');
  const evicted = silent.find((each) => each.closed());
  expect(evicted?.heard()).toContain("the limit unauthenticated is 4, and your address has most of them");
  for (const each of [...silent, newcomer]) each.socket.destroy();
});

describe("a stranger who would fill the memory", () => {
  test("may not begin a large value: the limit names itself, and small ones go on", async () => {
    const host = await listening();
    const remote = closing(new Kite({ name: "caller", version: "1.0.0" })).dial<Open>({ url: host.url });
    await remote.from();

    await expect(remote.take("x".repeat(257 * KIB))).rejects.toMatchObject({ code: "limit_exceeded", details: { limit: "messageBytes" } });
    await expect(remote.take(new Uint8Array(257 * KIB))).rejects.toMatchObject({
      code: "limit_exceeded",
      details: { limit: "messageBytes" },
    });

    expect(await remote.take("x".repeat(200 * KIB))).toBe(200 * KIB);
  });

  test("and announces one all the same loses the session before a byte of it is kept", async () => {
    const host = await listening({ strangerBytes: 64 * KIB });
    const liar = await stranger(host, "kite.v1", "192.0.2.1");

    liar.socket.write(binaryFrame([1, 0, [1], [14, 1, 0, 10 * KIB * KIB]], Buffer.from("x")));
    await until(() => liar.closed(), SOON_MS);

    expect(liar.heard()).toContain(`the limit messageBytes is ${64 * KIB}`);
  });

  test("has few calls at work at a time", async () => {
    const host = await listening();
    const remote = closing(new Kite({ name: "caller", version: "1.0.0" })).dial<Open>({ url: host.url });

    const calls = Array.from({ length: 100 }, () => remote.wait().catch((thrown: unknown) => thrown));
    const refused = await Promise.race(calls);

    expect(refused).toMatchObject({
      code: expect.stringMatching(/overloaded|limit_exceeded/),
      message: expect.stringContaining("the limit pendingCalls is 64"),
    });
  });

  test("shares with all others the room for frames that have begun, in kite.v1 after the welcome, too", async () => {
    const host = await listening({ frameBytes: 100 * KIB });
    const begin = async () => {
      const each = await stranger(host, "kite.v1", "192.0.2.1");
      each.socket.write(frameHead(190 * KIB));
      each.socket.write(Buffer.alloc(180 * KIB, 32));
      return each;
    };

    // Four times a frame is shared, and each takes 112 KiB of it.
    const strangers = [await begin(), await begin(), await begin(), await begin()];
    await until(() => strangers.some((each) => each.closed()), SOON_MS);

    expect(strangers.filter((each) => each.closed())).toHaveLength(1);
    for (const each of strangers) each.socket.destroy();
  });

  test("in dnode is told so when a call is too large for one, and whoever shows a credential is not", async () => {
    const authenticate = async (auth: unknown) => (auth === undefined ? anonymous(undefined) : testCaller());
    const host = await listening({ strangerBytes: 64 * KIB }, authenticate);
    const client = closing(new Kite({ name: "caller", version: "1.0.0" }));
    const nobody = client.dial<Open>({ url: host.url, dialect: "dnode" });
    const somebody = client.dial<Open>({ url: host.url, dialect: "dnode", auth: { type: "token", key: "good" } });

    await expect(nobody.take("x".repeat(65 * KIB))).rejects.toMatchObject({
      message: expect.stringContaining("the limit strangerBytes is"),
    });

    expect(await nobody.take("abc")).toBe(3);
    expect(await somebody.take("x".repeat(65 * KIB))).toBe(65 * KIB);
  });
});

function closing(kite: Kite): Kite {
  kites.push(kite);
  return kite;
}

interface Host {
  readonly url: string;
  readonly port: number;
  readonly sessions: Iterable<unknown>;
}

/** Serves strangers, unless said otherwise; what is dialled as `?from=` counts as the source. */
async function listening(limits: Partial<Limits> = {}, authenticate = async (_auth?: unknown) => anonymous(undefined)): Promise<Host> {
  const kite = closing(new Kite({ name: "host", version: "1.0.0", username: "alice", methods, authenticate, limits, graceMs: 5 }));
  const { url, port } = await kite.listen({
    sourceOf: ({ url = "/", socket }) => new URL(url, "http://kite").searchParams.get("from") ?? socket.remoteAddress,
  });
  return {
    url,
    port,
    get sessions() {
      return kite.sessions;
    },
  };
}

/** A socket of a peer that speaks in bytes. */
interface Raw {
  readonly socket: Socket;
  heard(): string;
  closed(): boolean;
}

/** A session without a credential, in which something was said. */
async function stranger(host: Host, dialect: "kite.v1" | "dnode", from: string): Promise<Raw> {
  const raw = await upgraded(host, from, dialect === "kite.v1" ? PROTOCOL : undefined);
  const call = { method: "from", arguments: [{ withArgs: [], responseCallback: "[Function]" }], callbacks: { 0: [0, "responseCallback"] } };
  raw.socket.write(textFrame(dialect === "kite.v1" ? '{"hello":{}}' : JSON.stringify(call)));
  await until(() => raw.closed() || /"welcome"|"result"|the limit/.test(raw.heard()), SOON_MS);
  return raw;
}

async function upgraded({ port }: Host, from: string, protocol: string | undefined): Promise<Raw> {
  const socket = connect({ port, host: "127.0.0.1" });
  let heard = "";
  let closed = false;
  socket.on("data", (chunk) => (heard += chunk.toString("latin1")));
  socket.on("error", () => (closed = true)).on("close", () => (closed = true));
  await once(socket, "connect");
  const offered = protocol === undefined ? "" : `Sec-WebSocket-Protocol: ${protocol}\r\n`;
  socket.write(
    `GET /?from=${from} HTTP/1.1\r\nHost: kite\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${offered}\r\n`,
  );
  await until(() => heard.includes("\r\n\r\n"), SOON_MS);
  return { socket, heard: () => heard, closed: () => closed };
}

/** The header of a frame, masked with zeros as a client's must be. */
function frameHead(length: number, opcode = 0x81): Buffer {
  const head = Buffer.alloc(14);
  head[0] = opcode;
  head[1] = 0x80 | 127;
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

function textFrame(text: string): Buffer {
  return Buffer.concat([frameHead(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** A frame of kite.v1 with one segment. */
function binaryFrame(json: unknown, segment: Buffer): Buffer {
  const text = Buffer.from(JSON.stringify(json));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  const body = Buffer.concat([length, text, segment]);
  return Buffer.concat([frameHead(body.length, 0x82), body]);
}
