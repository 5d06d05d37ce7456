import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, request as httpRequest, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { KiteError } from "@kite-mesh/kite";
import type { Person } from "@kite-mesh/kontrol/contract";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { freshDatabase } from "../../test/postgres.ts";
import { type Database, openDatabase } from "./database.ts";
import { MAX_BODY_BYTES } from "./hook.ts";
import { createDoor } from "./http.ts";
import { KiteProxy } from "./kite-proxy.ts";
import { listDeliveries } from "./ledger.ts";
import { createSignInLink } from "./signon.ts";
import { hookSecrets } from "./verify.ts";

const SIGNING_KEY = Buffer.alloc(32, 3);
const TOKEN = "planted-hook-token";
const USER_CREATE = JSON.stringify({ event_name: "user_create", user_id: 41, username: "js" });

const logged: string[] = [];
const log = pino({ level: "debug" }, { write: (line: string) => logged.push(line) });
const persons = new Map<string, Person>();
let kontrolIsAway = false;
let recorded = 0;
let database: Database;
let proxy: KiteProxy;
let server: Server;
let kites: WebSocketServer;
let url: string;

beforeAll(async () => {
  database = await openDatabase(await freshDatabase(), log);
  kites = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: (offered) => (offered.has("kite.v1") ? "kite.v1" : false) });
  kites.on("connection", (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })));
  await once(kites, "listening");
  proxy = new KiteProxy({ urlOf, log });
  const door = createDoor({
    database,
    proxy,
    log,
    secrets: hookSecrets({ hookToken: TOKEN, signingTokens: [`whsec_${SIGNING_KEY.toString("base64")}`] }),
    people: {
      get: async (username) => reach(username),
      token: async (username) => ({ token: `token-of-${reach(username).username}`, expiresAt: 2_000_000_000_000 }),
    },
    assets: async () => new Map([["/", { body: Buffer.from("<title>Kite Mesh</title>"), type: "text/html; charset=utf-8", etag: '"1"' }]]),
    address: () => ({ url }),
    now: () => new Date(),
    onRecorded: () => recorded++,
    ready: async () => {
      if (kontrolIsAway) throw new KiteError("unavailable", "kontrol does not answer");
    },
  });
  server = createServer(door.http);
  server.on("upgrade", (request, socket, head) => {
    if (!door.upgrade(request, socket, head)) socket.end("HTTP/1.1 418 Kite\r\n\r\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}, 60_000);

afterAll(async () => {
  await proxy?.[Symbol.asyncDispose]();
  server?.closeAllConnections();
  server?.close();
  kites?.close();
  await database?.end();
});

beforeEach(async () => {
  await database.query("truncate gateway.deliveries, gateway.sign_in_links, gateway.web_sessions");
  kontrolIsAway = false;
  recorded = 0;
  logged.length = 0;
  persons.clear();
  persons.set("alice", {
    username: "alice",
    name: "Alice",
    email: null,
    kind: "person",
    admin: true,
    state: "active",
    external: [],
    createdAt: "",
  });
});

test("a delivery with the token is in the ledger when GitLab reads 200", async () => {
  const answer = await hook(USER_CREATE, { "x-gitlab-token": TOKEN, "x-gitlab-event": "System Hook", "idempotency-key": "k1" });

  expect(answer.status).toBe(200);
  expect(await listDeliveries(database, {})).toMatchObject([
    { kind: "user_create", webhookId: "k1", instance: "default", orderKey: "default/user:41" },
  ]);
  expect(recorded).toBe(1);
});

test("the same delivery again is 200 and nothing new", async () => {
  const headers = { "x-gitlab-token": TOKEN, "idempotency-key": "k1" };
  const [first, ...others] = await Promise.all([hook(USER_CREATE, headers), hook(USER_CREATE, headers), hook(USER_CREATE, headers)]);

  const answers = await Promise.all(
    [first!, ...others].map(async (answer) => (await answer.json()) as { delivery: string; duplicate: boolean }),
  );

  expect(answers.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
  expect(new Set(answers.map(({ delivery }) => delivery)).size).toBe(1);
  expect(recorded).toBe(1);
});

test("a signed delivery is taken", async () => {
  expect((await hook(USER_CREATE, signed(USER_CREATE))).status).toBe(200);
});

test.each([
  ["no secret", {}],
  ["an empty token", { "x-gitlab-token": "" }],
  ["another token", { "x-gitlab-token": "planted-hook-tokem" }],
  ["a wrong signature beside the right token", { ...signed("another body"), "x-gitlab-token": TOKEN }],
  ["an old signature", signed(USER_CREATE, Math.floor(Date.now() / 1000) - 400)],
])("a delivery with %s is 401 and changes nothing", async (_what, headers) => {
  const answer = await hook(USER_CREATE, headers as Record<string, string>);

  expect(answer.status).toBe(401);
  expect(((await answer.json()) as { error: string }).error.length).toBeGreaterThan(20);
  expect(await listDeliveries(database, {})).toEqual([]);
});

test("what is not JSON is 400, an event that nobody knows 200", async () => {
  expect((await hook("event_name=user_create", { "x-gitlab-token": TOKEN })).status).toBe(400);
  expect((await hook('{"object_kind":"moon_landing"}', { "x-gitlab-token": TOKEN })).status).toBe(200);

  expect(await listDeliveries(database, {})).toMatchObject([{ kind: "moon_landing" }]);
});

test("a body that is announced as too large is refused unread, and the sender reads why", async () => {
  const answer = await post("/-/api/gitlab", Buffer.alloc(MAX_BODY_BYTES + 1, 0x20), { "x-gitlab-token": TOKEN });

  expect(answer).toMatchObject({ status: 413, body: expect.stringContaining(`larger than ${MAX_BODY_BYTES} bytes`) });
});

test("a body that turns out too large is refused while it comes, and the sender reads why", async () => {
  const answer = await post("/-/api/gitlab", Buffer.alloc(MAX_BODY_BYTES + 100_000, 0x20), {
    "x-gitlab-token": TOKEN,
    "transfer-encoding": "chunked",
  });

  expect(answer.status).toBe(413);
  expect(await listDeliveries(database, {})).toEqual([]);
});

test("a large event within the limit is taken", async () => {
  const body = Buffer.from(JSON.stringify({ event_name: "push", project_id: 1, text: "x".repeat(5_000_000) }));

  expect((await post("/-/api/gitlab", body, { "x-gitlab-token": TOKEN })).status).toBe(200);
});

test("a sender that hangs up in the middle of the body leaves nothing behind", async () => {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(`POST /-/api/gitlab HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: ${TOKEN}\r\nContent-Length: 1000\r\n\r\n{"event`);
  await once(socket, "connect");
  socket.destroy();

  expect((await hook(USER_CREATE, { "x-gitlab-token": TOKEN })).status).toBe(200);
  expect(await listDeliveries(database, {})).toHaveLength(1);
});

test("a stranger is refused before the body comes, and takes no room from GitLab", async () => {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write("POST /-/api/gitlab HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: wrong\r\nContent-Length: 20000000\r\n\r\n");

  const [answer] = await once(socket, "data");

  expect(String(answer)).toMatch(/^HTTP\/1.1 401 /);
  socket.destroy();
});

test("the hook takes POST only", async () => {
  const answer = await fetch(`${url}/-/api/gitlab`);

  expect([answer.status, answer.headers.get("allow")]).toEqual([405, "POST"]);
});

test("no secret gets into the log or an answer", async () => {
  const answers = [
    await hook(USER_CREATE, { "x-gitlab-token": TOKEN }),
    await hook(USER_CREATE, { "x-gitlab-token": "planted-wrong-token" }),
    await hook("no json", { "x-gitlab-token": TOKEN }),
  ];

  const seen = logged.join("") + (await Promise.all(answers.map((answer) => answer.text()))).join("");

  expect(seen).not.toContain("planted");
  expect(seen).not.toContain(SIGNING_KEY.toString("base64"));
});

test("the link opens a page that signs nobody in, its button does, and then the link is used", async () => {
  const { secret } = await createSignInLink(database, "alice", new Date());

  const page = await fetch(`${url}/sign-in?t=${secret}`);
  expect([page.status, page.headers.get("set-cookie"), page.headers.get("cache-control")]).toEqual([200, null, "no-store"]);
  expect(await page.text()).toContain("<strong>alice</strong>");

  const signedIn = await submit(secret);
  expect([signedIn.status, signedIn.headers.get("location")]).toEqual([303, "/"]);
  const session = await fetch(`${url}/-/session`, { headers: { cookie: cookieOf(signedIn) } });
  expect(await session.json()).toEqual({
    username: "alice",
    name: "Alice",
    admin: true,
    kontrol: { token: "token-of-alice", expiresAt: 2_000_000_000_000, url: "/-/kites/kontrol" },
  });

  const again = await submit(secret);
  expect([again.status, again.headers.get("set-cookie")]).toEqual([410, null]);
  expect(await again.text()).toContain("This link has been used");
  expect((await fetch(`${url}/sign-in?t=${secret}`)).status).toBe(410);
});

test.each([
  ["expired", "This link has expired"],
  ["unknown", "This link is not known here"],
])("an %s link is 410 and says what to do", async (why, title) => {
  const { secret } = await createSignInLink(database, "alice", new Date(Date.now() - 600_001));

  const answer = await fetch(`${url}/sign-in?t=${why === "expired" ? secret : "x"}`);

  expect(answer.status).toBe(410);
  const text = await answer.text();
  expect(text).toContain(title);
  expect(text).toContain("Ask an administrator");
});

test("another site cannot sign anybody in or out", async () => {
  const { secret } = await createSignInLink(database, "alice", new Date());
  const cookie = await signIn();

  expect((await submit(secret, "https://evil.example")).status).toBe(403);
  expect((await submit(secret, "null")).status).toBe(403);
  expect((await fetch(`${url}/-/sign-out`, { method: "POST", headers: { cookie, origin: "https://evil.example" } })).status).toBe(403);

  expect((await submit(secret)).status).toBe(303);
  expect((await fetch(`${url}/-/session`, { headers: { cookie } })).status).toBe(200);
});

test.each([
  ["POST", "/-/sign-out"],
  ["DELETE", "/-/session"],
])("%s %s ends the session", async (method, path) => {
  const cookie = await signIn();

  const answer = await fetch(url + path, { method, headers: { cookie, origin: url } });

  expect(answer.status).toBe(204);
  expect(answer.headers.get("set-cookie")).toContain("Max-Age=0");
  expect((await fetch(`${url}/-/session`, { headers: { cookie } })).status).toBe(401);
});

test("a person who has left is signed out at the next look, everywhere", async () => {
  const [first, second] = [await signIn(), await signIn()];
  const closed = once(await connected(first), "close");
  persons.delete("alice");

  expect((await fetch(`${url}/-/session`, { headers: { cookie: first } })).status).toBe(401);

  await closed;
  persons.set("alice", {
    username: "alice",
    name: "Alice",
    email: null,
    kind: "person",
    admin: true,
    state: "active",
    external: [],
    createdAt: "",
  });
  expect((await fetch(`${url}/-/session`, { headers: { cookie: second } })).status).toBe(401);
});

test("while kontrol is away, a session is not lost", async () => {
  const cookie = await signIn();
  kontrolIsAway = true;
  expect((await fetch(`${url}/-/session`, { headers: { cookie } })).status).toBe(503);

  kontrolIsAway = false;
  expect((await fetch(`${url}/-/session`, { headers: { cookie } })).status).toBe(200);
});

test("a signed-in page reaches a kite: text stays text, bytes stay bytes, the subprotocol is the kite's", async () => {
  const socket = await connected(await signIn());
  expect(socket.protocol).toBe("kite.v1");

  socket.send("text");
  expect(await next(socket)).toEqual([Buffer.from("text"), false]);
  socket.send(Buffer.from([0, 255]));
  expect(await next(socket)).toEqual([Buffer.from([0, 255]), true]);

  socket.close(4001, "enough");
  expect((await once(socket, "close"))[0]).toBe(4001);
});

test("a kite that the person may not see is 404, and one that does not answer 502", async () => {
  const cookie = await signIn();

  expect(await refused("/-/kites/other", { cookie, origin: url })).toBe(404);
  expect(await refused("/-/kites/broken", { cookie, origin: url })).toBe(502);
});

test("without a session, or from another page, no kite is reached", async () => {
  const cookie = await signIn();

  expect(await refused("/-/kites/echo", { origin: url })).toBe(401);
  expect(await refused("/-/kites/echo", { cookie: "kite-mesh=x", origin: url })).toBe(401);
  expect(await refused("/-/kites/echo", { cookie, origin: "https://evil.example" })).toBe(403);
  expect(await refused("/-/kites/echo", { cookie })).toBe(403);
  expect(await refused("/-/kites/../../etc", { cookie, origin: url })).toBe(404);
  expect(await refused("/-/kites/a%2fb", { cookie, origin: url })).toBe(404);
});

test("upgrades elsewhere are the kite's own", async () => {
  expect(await refused("/", {})).toBe(418);
});

test("every answer forbids scripts from elsewhere, framing and guessing of types", async () => {
  for (const path of ["/", "/nothing", "/sign-in?t=x", "/healthz", "/-/session", "/-/api/gitlab"]) {
    const { headers } = await fetch(url + path);
    expect(headers.get("content-security-policy")).toMatch(/default-src 'none'; script-src 'self';.* frame-ancestors 'none'/);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("referrer-policy")).toMatch(/^no-referrer$|^same-origin$/);
  }
});

test("the dashboard is served, and not sent again to who has it", async () => {
  const first = await fetch(url);
  expect(await first.text()).toContain("Kite Mesh");

  const again = await fetch(url, { headers: { "if-none-match": first.headers.get("etag")! } });

  expect(again.status).toBe(304);
  expect((await fetch(`${url}/assets/../src/http.ts`)).status).toBe(404);
});

test("health says that the process lives, readiness that it can work", async () => {
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect((await fetch(`${url}/readyz`)).status).toBe(200);

  kontrolIsAway = true;

  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  const answer = await fetch(`${url}/readyz`);
  expect([answer.status, await answer.text()]).toEqual([503, "not ready: kontrol does not answer\n"]);
});

function reach(username: string): Person {
  if (kontrolIsAway) throw new KiteError("unavailable", "kontrol does not answer");
  const person = persons.get(username);
  if (person === undefined) throw new KiteError("not_found", `there is no ${username}`);
  return person;
}

async function urlOf(_username: string, kiteId: string): Promise<string> {
  if (kiteId === "echo") return `http://127.0.0.1:${(kites.address() as AddressInfo).port}/`;
  // Port 9 of the loopback is open nowhere.
  if (kiteId === "broken") return "http://127.0.0.1:9/";
  throw new KiteError("not_found", `no kite ${kiteId}`);
}

function hook(body: string, headers: Record<string, string>): Promise<Response> {
  return fetch(`${url}/-/api/gitlab`, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
}

/** As GitLab's own client does: writes all it has, and reads what comes. */
function post(path: string, body: Buffer, headers: Record<string, string>): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const length = headers["transfer-encoding"] === undefined ? { "content-length": body.length } : {};
    const request = httpRequest(url + path, { method: "POST", headers: { ...headers, ...length }, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve({ status: response.statusCode, body: Buffer.concat(chunks).toString() }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

function signed(body: string, timestamp = Math.floor(Date.now() / 1000)): Record<string, string> {
  const signature = createHmac("sha256", SIGNING_KEY).update(`w1.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": "w1", "webhook-timestamp": String(timestamp), "webhook-signature": `v1,${signature}` };
}

function submit(secret: string, origin = url): Promise<Response> {
  return fetch(`${url}/sign-in`, { method: "POST", redirect: "manual", body: new URLSearchParams({ t: secret }), headers: { origin } });
}

async function signIn(): Promise<string> {
  const { secret } = await createSignInLink(database, "alice", new Date());
  return cookieOf(await submit(secret));
}

function cookieOf(answer: Response): string {
  return answer.headers.get("set-cookie")!.split(";")[0]!;
}

async function connected(cookie: string): Promise<WebSocket> {
  const socket = new WebSocket(`${url}/-/kites/echo`, ["kite.v1", "kite.token.abc"], { headers: { cookie, origin: url } });
  await once(socket, "open");
  return socket;
}

async function next(socket: WebSocket): Promise<unknown[]> {
  return once(socket, "message");
}

function refused(path: string, headers: Record<string, string>): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const upgrade = {
      connection: "upgrade",
      upgrade: "websocket",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      "sec-websocket-version": "13",
      "sec-websocket-protocol": "kite.v1",
    };
    const request = httpRequest(url, { path, headers: { ...upgrade, ...headers }, agent: false });
    request.on("response", (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on("upgrade", (_response, socket) => {
      socket.destroy();
      resolve(101);
    });
    request.on("error", reject);
    request.end();
  });
}
