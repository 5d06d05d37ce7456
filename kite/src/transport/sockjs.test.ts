import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { Kite } from "../kite.ts";
import { testCaller, until } from "../testing.ts";
import { memoryLink } from "./memory.ts";
import { acceptSockjs, dialledSockjs, sockjsUrl } from "./sockjs.ts";
import type { Transport } from "./transport.ts";

type Why = { code: number; reason: string };

/** Keeps what a transport delivers. */
function listen(transport: Transport): { frames: unknown[]; closed: () => Why | undefined } {
  const frames: unknown[] = [];
  let closed: Why | undefined;
  transport.start({ frame: (raw) => frames.push(raw), closed: (why) => (closed = why) });
  return { frames, closed: () => closed };
}

/** A socket's other end, framed on this side. */
function framed(frame: (socket: Transport) => Transport): { transport: Transport; socket: Transport } {
  const [here, there] = memoryLink().ends;
  return { transport: frame(there), socket: here };
}

const turns = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

describe("the server's side", () => {
  test("opens with o, beats every ten seconds, and closes with c", async () => {
    const { transport, socket } = framed(acceptSockjs);
    const peer = listen(socket);
    listen(transport);

    await vi.advanceTimersByTimeAsync(20_000);
    transport.send('{"a":"b"}');
    transport.close(3000, "Go away!");
    await turns();

    expect(peer.frames).toEqual(["o", "h", "h", 'a["{\\"a\\":\\"b\\"}"]', 'c[3000,"Go away!"]']);
    expect(peer.closed()).toEqual({ code: 3000, reason: "Go away!" });
    expect(vi.getTimerCount()).toBe(0);
  });

  test("takes batches in order, also before anybody has read the o, and empty frames as nothing", async () => {
    const { transport, socket } = framed(acceptSockjs);
    socket.send('["one","two"]');
    socket.send("");
    socket.send('["three"]');

    const got = listen(transport);
    await turns();

    expect(got.frames).toEqual(["one", "two", "three"]);
    expect(got.closed()).toBeUndefined();
    transport.close(3000, "");
  });

  test.each(['"a text"', "garbage", "[1]", '["a",{"b":1}]', "{}", "[[]]", `["a",${"[".repeat(100_000)}`, new Uint8Array(3)])(
    "ends the session over a frame that is none (%#)",
    async (frame) => {
      const { transport, socket } = framed(acceptSockjs);
      const peer = listen(socket);
      const got = listen(transport);

      socket.send(frame);
      await turns();

      expect(got.frames).toEqual([]);
      expect(peer.closed()).toMatchObject({ code: 4001, reason: expect.stringContaining("array of strings") });
      expect(vi.getTimerCount()).toBe(0);
    },
  );

  test("beats no more when the socket is lost", async () => {
    const { ends, sever } = memoryLink();
    const got = listen(acceptSockjs(ends[0]));

    sever();
    await turns();

    expect(got.closed()?.code).toBe(1006);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("the client's side", () => {
  test("reads o, h, a, m and c, and sends without waiting", async () => {
    const { transport, socket } = framed(dialledSockjs);
    const server = listen(socket);
    const got = listen(transport);

    transport.send("hello");
    for (const frame of ["o", "h", 'a["one","two"]', 'm"three"', 'c[3000,"Go away!"]']) socket.send(frame);
    await turns();

    expect(server.frames).toEqual(['["hello"]']);
    expect(got.frames).toEqual(["one", "two", "three"]);
    expect(got.closed()).toEqual({ code: 3000, reason: "Go away!" });
  });

  test.each(["x", "a[1]", 'a"text"', "m1", new Uint8Array(2)])("ends the session over a frame that is none (%#)", async (frame) => {
    const { transport, socket } = framed(dialledSockjs);
    listen(socket);
    const got = listen(transport);

    socket.send(frame);
    await turns();

    expect(got.frames).toEqual([]);
    expect(got.closed()?.code).toBe(4001);
  });

  test.each([
    ["https://koding.com/kloud/kite", /^https:\/\/koding\.com\/kloud\/kite\/[1-9]\d\d\/[0-9a-f]{20}\/websocket$/],
    ["http://127.0.0.1:4000/kite/", /^http:\/\/127\.0\.0\.1:4000\/kite\/[1-9]\d\d\/[0-9a-f]{20}\/websocket$/],
  ])("dials a session of its own under %s", (url, dialled) => {
    expect(sockjsUrl(url)).toMatch(dialled);
    expect(sockjsUrl(url, () => 0.999)).toContain("/999/ffff");
  });
});

describe("the port of a kite", () => {
  beforeEach(() => void vi.useRealTimers());

  async function kite(dnode?: boolean): Promise<Kite & { base: string }> {
    const server = new Kite({ name: "math", version: "1.0.0", username: "alice", authenticate: async () => testCaller(), dnode });
    const { url } = await server.listen();
    return Object.assign(server, { base: url });
  }

  test.each(["/kite", "/kite/"])("welcomes at %s", async (path) => {
    await using server = await kite();

    const response = await fetch(server.base + path);

    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/plain;charset=UTF-8"]);
    expect(await response.text()).toBe("Welcome to SockJS!\n");
  });

  test("says that it has a WebSocket, to pages of any origin", async () => {
    await using server = await kite();

    const response = await fetch(`${server.base}/kite/info?t=1`, { headers: { origin: "https://example.com" } });

    expect(await response.json()).toEqual({ websocket: true, cookie_needed: false, origins: ["*:*"], entropy: expect.any(Number) });
    expect(response.headers.get("access-control-allow-origin")).toBe("https://example.com");
    expect(response.headers.get("access-control-allow-credentials")).toBe("true");
    expect(response.headers.get("cache-control")).toBe("no-store, no-cache, must-revalidate, max-age=0");
  });

  test("answers a browser that asks first", async () => {
    await using server = await kite();

    const response = await fetch(`${server.base}/kite/info`, { method: "OPTIONS", headers: { "access-control-request-headers": "x-a" } });

    expect(response.status).toBe(204);
    expect(response.headers.get("access-control-allow-methods")).toBe("OPTIONS, GET");
    expect(response.headers.get("access-control-allow-headers")).toBe("x-a");
  });

  test.each([
    ["POST", "/kite/info", 405],
    ["POST", "/kite", 405],
    ["GET", "/kite/1/abc/websocket", 400],
    ["POST", "/kite/1/abc/xhr", 404],
    ["GET", "/kite/other", 404],
    ["GET", "/", 404],
  ])("%s %s is answered with %i", async (verb, path, status) => {
    await using server = await kite();

    expect((await fetch(server.base + path, { method: verb })).status).toBe(status);
  });

  test.each([
    ["/kite/123/abc/websocket", "o"],
    ["/", undefined],
    ["/any/path", undefined],
    ["/kite/websocket", undefined],
  ])("a socket at %s hears %s first", async (path, first) => {
    await using server = await kite();
    const heard: string[] = [];
    const socket = new WebSocket(server.base.replace("http", "ws") + path);
    socket.on("message", (data) => heard.push(String(data)));
    const call = '{"method":"nosuch","arguments":[{"responseCallback":0}],"callbacks":{"0":[0,"responseCallback"]}}';

    socket.once("open", () => socket.send(first === undefined ? call : JSON.stringify([call])));
    await until(() => heard.length === (first === undefined ? 1 : 2));

    const answer =
      '{"method":0,"arguments":[{"error":{"type":"methodNotFound","message":"Method not found: nosuch","code":"","id":""},"result":null}],"callbacks":{}}';
    expect(heard).toEqual(first === undefined ? [answer] : [first, `a${JSON.stringify([answer])}`]);
    socket.close();
  });

  test("of a kite without the dialect has nothing of it", async () => {
    await using server = await kite(false);

    const socket = new WebSocket(server.base.replace("http", "ws"));
    const refused = await new Promise<Error>((resolve) => socket.once("error", resolve));

    expect(refused.message).toContain("426");
    expect((await fetch(`${server.base}/kite`)).status).toBe(404);
  });

  test("speaks both dialects at once, and its methods cannot tell which", async () => {
    await using server = await kite();
    await using client = new Kite({ name: "client", version: "1.0.0" });

    const errors = await Promise.all(
      (["kite.v1", "dnode"] as const).map((dialect) => {
        const remote = client.dial<{ nosuch(): Promise<void> }>({ url: server.base, dialect });
        return remote.nosuch().catch((error: { code: string }) => error.code);
      }),
    );

    expect(errors).toEqual(["method_not_found", "method_not_found"]);
    expect([...server.sessions]).toHaveLength(2);
  });
});
