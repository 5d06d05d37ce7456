import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Kite } from "./kite.ts";
import { method } from "./method.ts";
import { Mutator } from "./test-mutator.ts";
import { testCaller, until } from "./testing.ts";

const SEED = Number(process.env.FUZZ_SEED ?? 7);
const CONNECTIONS = Number(process.env.FUZZ_FRAMES ?? 100_000) / 50;
// Some at a time: what one of them breaks must not stop the others.
const AT_ONCE = 20;

const failures: unknown[] = [];
const note = (failure: unknown) => void failures.push(failure);

beforeAll(() => void process.on("unhandledRejection", note).on("uncaughtException", note));
afterAll(() => void process.off("unhandledRejection", note).off("uncaughtException", note));

test(`requests, upgrades and first frames, mutated with seed ${SEED}, leave a port that answers and holds nothing`, async () => {
  const by = new Mutator(SEED);
  let ran = 0;
  const methods = { secret: method({}, () => ++ran), echo: method({ role: "anyone" }, () => "heard") };
  const authenticate = async () => testCaller({ role: undefined });
  await using kite = new Kite({ name: "host", version: "1.0.0", username: "alice", methods, authenticate, graceMs: 5 });
  const { port, url } = await kite.listen();

  for (let sent = 0; sent < CONNECTIONS; sent += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, () => speak(port, conversation(by))));
    if (sent % 200 === 0) expect(await (await fetch(`${url}/kite`)).text(), `seed ${SEED}, after ${sent}`).toBe("Welcome to SockJS!\n");
  }
  await using caller = new Kite({ name: "caller", version: "1.0.0" });
  const answer = await caller.dial<{ echo(): Promise<string> }>({ url }).echo();
  await until(() => [...kite.sessions].length <= 1, 20_000);

  expect([answer, ran], `seed ${SEED}`).toEqual(["heard", 0]);
  expect(failures, `seed ${SEED}`).toEqual([]);
}, 120_000);

/** What one connection sends, in as many writes. */
function conversation(by: Mutator): readonly Buffer[] {
  const upgrade = by.pick(UPGRADES);
  const request = by.oneIn(3) ? upgrade : by.text(by.oneIn(4) ? by.text(upgrade) : upgrade);
  const frames = Array.from({ length: by.below(4) }, () => {
    const frame = frameOf(by.pick(FRAMES), by.oneIn(5) ? by.below(16) : 1);
    return by.oneIn(2) ? frame : Buffer.from(by.bytes(frame));
  });
  return [Buffer.from(request, "latin1"), ...frames];
}

const KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
const upgradeAt = (path: string, more = "") =>
  `GET ${path} HTTP/1.1\r\nHost: kite\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${KEY}${more}\r\n`;
const UPGRADES = [
  upgradeAt("/", "Sec-WebSocket-Protocol: kite.v1\r\n"),
  upgradeAt("/", "Sec-WebSocket-Protocol: other, kite.v1\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"),
  upgradeAt("/"),
  upgradeAt("/kite/123/abcdef/websocket"),
  upgradeAt("/kite/../websocket?a=%00"),
  upgradeAt("//kite/1/2/websocket#x", "Origin: null\r\n"),
  "GET /kite/info?t=1 HTTP/1.1\r\nHost: kite\r\nOrigin: http://example.com\r\n\r\n",
  "OPTIONS /kite/info HTTP/1.1\r\nHost: kite\r\nAccess-Control-Request-Headers: x-a\r\n\r\n",
  "POST /kite/1/2/xhr_send HTTP/1.1\r\nHost: kite\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
  "GET /nothing HTTP/1.0\r\n\r\n",
];

const FRAMES = [
  '{"hello":{}}',
  '{"hello":{"auth":{"type":"token","key":"x"}}}',
  '[1,0,[0,1,"secret",[]]]',
  '{"method":"secret","arguments":[{"withArgs":[],"responseCallback":0}],"callbacks":{"0":[0,"responseCallback"]}}',
  '["{\\"method\\":\\"secret\\",\\"arguments\\":[{}],\\"callbacks\\":{}}"]',
  "",
  "[".repeat(5_000),
];

/** One frame of WebSocket, masked with zeros as a client's must be. */
function frameOf(text: string, opcode: number): Buffer {
  const body = Buffer.from(text);
  const head = Buffer.alloc(8);
  head[0] = 0x80 | opcode;
  head[1] = 0x80 | 126;
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}

/** Sends it all, hears at least something or nothing for a moment, and leaves. */
function speak(port: number, writes: readonly Buffer[]): Promise<void> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ port, host: "127.0.0.1" });
    const leave = setTimeout(() => socket.destroy(), 15);
    socket.on("error", () => {}).on("data", () => {});
    socket.once("close", () => {
      clearTimeout(leave);
      resolve();
    });
    for (const bytes of writes) socket.write(bytes);
  });
}
