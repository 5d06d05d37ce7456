import { exportSPKI, generateKeyPair, SignJWT } from "jose";
import { expect, test, vi } from "vitest";
import { z } from "zod";
import { dnodeAuthenticator } from "../auth/dnode-authenticator.ts";
import { KeySet } from "../auth/key-set.ts";
import { KiteError } from "../errors.ts";
import { Kite } from "../kite.ts";
import type { Logger } from "../log.ts";
import { type Call, type Methods, method } from "../method.ts";
import { matcher } from "../query.ts";
import { testCaller, testIdentity, until } from "../testing.ts";
import { connectDnode, dnodeHost } from "./test-dnode.ts";

// The defects of the original Kite, each by its number in the record of them, shown to be absent. B3, B4 and B5 are of its
// registry's databases and B9 of its command line; no part of them is in this package.

const anything = z.custom<unknown>(() => true);
const methods: Methods = {
  echo: method({ role: "anyone", input: anything }, (value) => value),
  text: method({ role: "anyone", input: z.object({ query: z.string() }) }, ({ query }) => query),
  owned: method({}, () => "owned"),
  wait: method({ role: "anyone" }, () => new Promise(() => {})),
};

function math(options: Partial<ConstructorParameters<typeof Kite>[0]> = {}): Kite {
  return new Kite({ name: "math", version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller(), ...options });
}

function client(): Kite {
  return new Kite({ name: "client", version: "1.0.0" });
}

interface Contract {
  echo<T>(value: T): Promise<T>;
  wait(): Promise<void>;
}

test("B0: a message without arguments ends its own session, and neither the process nor another one", async () => {
  const host = dnodeHost(methods);
  const [evil, good] = [connectDnode(host), connectDnode(host)];

  evil.send('{"method":"kite.ping","arguments":[],"callbacks":{}}');
  await until(() => evil.closed() !== undefined);
  const answer = good.call("echo", ["well"]);
  await until(() => good.answerTo(answer) !== undefined);

  expect(good.answerTo(answer)?.result).toBe("well");
  end(host);
});

test("B0: a hundred malformed messages, one session each, leave the kite as it was", async () => {
  const host = dnodeHost(methods);
  const whole =
    '{"method":"echo","arguments":[{"withArgs":[{"a":"[Function]"}],"responseCallback":"[Function]"}],"callbacks":{"0":[0,"withArgs",0,"a"],"1":[0,"responseCallback"]}}';
  // Cut after each of its first characters, with a bracket too many at every second cut.
  const broken = Array.from({ length: 100 }, (_, index) => whole.slice(0, index + 1) + (index % 2 === 0 ? "" : "]"));

  const peers = broken.map((raw) => {
    const peer = connectDnode(host);
    peer.send(raw);
    return peer;
  });
  const good = connectDnode(host);
  const answer = good.call("echo", ["well"]);
  await until(() => good.answerTo(answer) !== undefined && peers.every((peer) => peer.closed() !== undefined));

  expect(new Set(peers.map((peer) => peer.closed()?.code))).toEqual(new Set([4001]));
  expect(good.closed()).toBeUndefined();
  end(host);
});

test("B1: a token that names no kite opens none", async () => {
  const { privateKey, publicKey } = await generateKeyPair("RS256");
  const keys = new KeySet({ trusted: [{ kid: "", alg: "RS256", pem: await exportSPKI(publicKey) }] });
  const authenticate = dnodeAuthenticator({
    keys,
    issuer: "kontrol",
    audience: testIdentity(),
    ownKey: "jti",
    tokens: async () => testCaller(),
  });
  const token = (aud: string) =>
    new SignJWT({ aud, iss: "kontrol", sub: "alice" }).setProtectedHeader({ alg: "RS256" }).setExpirationTime("1h").sign(privateKey);

  await expect(authenticate({ type: "token", key: await token("/") }, undefined)).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(authenticate({ type: "token", key: await token("//test") }, undefined)).rejects.toMatchObject({ code: "unauthenticated" });
  expect(await authenticate({ type: "token", key: await token("/alice/test/test") }, undefined)).toMatchObject({ role: "owner" });
});

test("B2: a call that waits holds up neither the ones after it nor the next connection", async () => {
  await using server = math();
  await using caller = client();
  const remote = caller.dial<Contract>({ ...(await server.listen()), dialect: "dnode" });
  const waiting = remote.wait();

  const ping = await remote.echo("ping");
  server.endSessions(() => true, new KiteError("disconnected", "cut"));

  await expect(waiting).rejects.toMatchObject({ code: "disconnected", outcome: "unknown" });
  expect([ping, await remote.echo("again")]).toEqual(["ping", "again"]);
});

test.each([
  ["is at work", undefined],
  ["waits for its credential to be verified", () => new Promise<never>(() => {})],
])(
  "B2: whose call %s when this side ends the session hears so first, since a client in Go that is not answered never dials again",
  async (_, authenticate) => {
    const host = dnodeHost({ wait: method({}, () => new Promise(() => {})) }, authenticate === undefined ? {} : { authenticate });
    const peer = connectDnode(host);
    const ids = [peer.call("wait"), peer.call("wait")];
    await until(() => peer.session.counts.serving === 2);

    end(host);
    await until(() => peer.closed() !== undefined);

    const told = {
      type: "disconnect",
      message: "Remote kite has disconnected: the test is over",
      code: "",
      id: expect.stringMatching(/^[0-9a-f]{16}$/),
    };
    expect(ids.map((id) => peer.answerTo(id))).toEqual([
      { error: told, result: null },
      { error: told, result: null },
    ]);
    expect(peer.frames).toHaveLength(2);
  },
);

test("B6: a call that lacks its argument hears what was expected", async () => {
  const host = dnodeHost(methods);
  const peer = connectDnode(host);

  const ids = [peer.call("text", null), peer.call("text", [{}]), peer.call("text", [{ query: 1 }])];
  await until(() => peer.frames.length === 3);

  expect(ids.map((id) => peer.answerTo(id)?.error?.["type"])).toEqual(["argumentError", "argumentError", "argumentError"]);
  end(host);
});

test("B7: a kite that has gone is known to have gone at once", async () => {
  const calls: Call[] = [];
  const host = dnodeHost({ register: method({}, (call) => void calls.push(call)) });
  const peer = connectDnode(host);
  peer.call("register");
  await until(() => calls.length === 1);
  const { closed } = calls[0]?.session ?? {};

  peer.drop();

  await until(() => closed?.aborted === true);
});

test("B8: one kite that is down slows no other, a large message crosses whole, and a region is not a prefix", async () => {
  await using server = math();
  await using caller = client();
  const down = caller.dial<Contract>({ url: "http://127.0.0.1:1", dialect: "dnode", retry: false });
  for (let tries = 0; tries < 3; tries++) await expect(down.echo(1)).rejects.toMatchObject({ code: "unavailable", outcome: "not_run" });
  const { url } = await server.listen();
  const text = "x".repeat(1_000_000);

  expect(await caller.dial<Contract>({ url, dialect: "dnode" }).echo(text)).toBe(text);
  expect(await caller.dial<Contract>({ url: `${url}/kite`, dialect: "dnode" }).echo(text)).toBe(text);
  expect(matcher({ region: "eu" })(testIdentity({ region: "eu-west" }))).toBe(false);
});

test("B10: the address that a kite gives is one that it serves", async () => {
  await using server = math();
  await using caller = client();

  const { url } = await server.listen();

  // What it would register with, too.
  expect(server.url).toBe(url);
  expect(await caller.dial<Contract>({ url, dialect: "dnode" }).echo(1)).toBe(1);
  expect(await (await fetch(`${url}/kite`)).text()).toBe("Welcome to SockJS!\n");
});

test("B11: answers are one object, no arguments are no arguments, unknown methods are answered, and no call outlives its connection", async () => {
  const host = dnodeHost({ none: method({}, () => "none"), ask: method({}, (call) => call.session.call("later", [])) });
  const peer = connectDnode(host);

  const ids = [peer.call("none", null), peer.call("none", []), peer.call("none", undefined), peer.call("nosuch")];
  peer.call("ask");
  await until(() => peer.frames.length === 5);

  expect(ids.map((id) => peer.frames.find((frame) => frame.method === id)?.arguments.length)).toEqual([1, 1, 1, 1]);
  expect(ids.map((id) => peer.answerTo(id)?.result)).toEqual(["none", "none", "none", null]);
  expect(peer.frames.find((frame) => frame.method === "later")?.arguments).toMatchObject([{ withArgs: [] }]);
  const { session } = peer;
  peer.drop();
  await until(() => session.counts.calls === 0);
});

test("B12: a method that wants a credential gets one or refuses, and a call that shows one is answered", async () => {
  const host = dnodeHost(methods, { authenticate: async (auth) => testCaller(auth === undefined ? { role: undefined } : {}) });
  const peer = connectDnode(host);

  const [without, with_] = [peer.call("owned"), peer.call("owned", [], { authentication: { type: "kiteKey", key: "k" } })];
  await until(() => peer.frames.length === 2);

  expect(peer.answerTo(without)?.error).toMatchObject({ type: "authenticationError" });
  expect(peer.answerTo(with_)?.result).toBe("owned");
  end(host);
});

test("B13: what takes an answer is let go with it", async () => {
  const host = dnodeHost(methods);
  const peer = connectDnode(host);

  for (let index = 0; index < 1_000; index++) {
    const answer = peer.session.call("ask", []);
    peer.send(`{"method":${index},"arguments":[{"error":null,"result":${index}}]}`);
    expect(await answer).toBe(index);
  }

  expect(peer.session.counts).toMatchObject({ calls: 0, exported: 0 });
  // A second answer has nobody to go to.
  peer.send('{"method":0,"arguments":[{"error":null,"result":"again"}]}');
  end(host);
});

test("B13: a token that ends in a year is not renewed at once, one that ends is renewed again and again", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  try {
    await using server = math();
    await using caller = client();
    const { url } = await server.listen();
    const year = vi.fn(async () => ({ type: "token", key: "y", expiresAt: Date.now() + 365 * 24 * 3_600_000 }));
    const minute = vi.fn(async () => ({ type: "token", key: "m", expiresAt: Date.now() + 60_000 }));
    const [long, short] = [year, minute].map((auth) => caller.dial<Contract>({ url, dialect: "dnode", auth }));

    for (let round = 0; round < 4; round++) {
      await long?.echo(round);
      await short?.echo(round);
      vi.setSystemTime(Date.now() + 45_000);
    }

    expect(year).toHaveBeenCalledTimes(1);
    expect(minute).toHaveBeenCalledTimes(4);
  } finally {
    vi.useRealTimers();
  }
});

test("B14: nothing that was shown is in the log, whatever else goes wrong", async () => {
  const lines: string[] = [];
  const write = (facts: object, message: string) =>
    void lines.push(JSON.stringify([facts, message, (facts as { err?: Error }).err?.message]));
  const log: Logger = { debug: write, info: write, warn: write, error: write };
  const host = dnodeHost(methods, { log, authenticate: async (auth) => Promise.reject(new Error(`not a ${auth?.type}`)) });
  const shown = { authentication: { type: "token", key: "SECRET-TOKEN" } };
  const peer = connectDnode(host);

  peer.call("owned", [], shown);
  peer.call("echo", [1], shown);
  await until(() => peer.frames.length === 2);
  peer.send(`{"method":"echo","arguments":[${JSON.stringify(shown)}`);
  await until(() => peer.closed() !== undefined);

  expect(lines.length).toBeGreaterThan(0);
  expect([...lines, ...peer.frames.map((frame) => JSON.stringify(frame)), peer.closed()?.reason].join()).not.toContain("SECRET");
});

test("B15: a credential is verified when it comes for the first time, and again when it has ended", async () => {
  let expiresAt = Date.now() + 3_600_000;
  const authenticate = vi.fn(async () => testCaller({ expiresAt }));
  const host = dnodeHost({ take: method({}, () => "taken") }, { authenticate });
  const peer = connectDnode(host);
  const shown = { authentication: { type: "token", key: "same" } };
  const call = async (): Promise<unknown> => {
    const id = peer.call("take", [], shown);
    await until(() => peer.answerTo(id) !== undefined);
    return peer.answerTo(id)?.error?.["message"] ?? peer.answerTo(id)?.result;
  };

  for (let index = 0; index < 100; index++) expect(await call()).toBe("taken");
  expect(authenticate).toHaveBeenCalledTimes(1);
  vi.useFakeTimers({ toFake: ["Date"], now: expiresAt + 1 });
  try {
    peer.call("take", [], shown);
    await vi.waitFor(() => expect(peer.frames).toHaveLength(101));
    expect(authenticate).toHaveBeenCalledTimes(2);
    expect(peer.frames.at(-1)?.arguments).toMatchObject([
      { error: { type: "authenticationError", message: expect.stringContaining("token is expired") } },
    ]);
    expiresAt = Date.now() + 1_000;
  } finally {
    vi.useRealTimers();
  }
  end(host);
});

test("B15: a session that shows a thousand credentials keeps only a few of them", async () => {
  const authenticate = vi.fn(async (auth: { key: string } | undefined) => testCaller({ username: auth?.key ?? "" }));
  const host = dnodeHost({ take: method({}, () => "taken") }, { authenticate });
  const peer = connectDnode(host);

  for (let index = 0; index < 1_000; index++) peer.call("take", [], { authentication: { type: "token", key: `k${index}` } });
  await until(() => peer.frames.length === 1_000);

  expect(authenticate).toHaveBeenCalledTimes(1_000);
  expect(peer.session.callers.length).toBeLessThanOrEqual(16);
  end(host);
});

function end(host: ReturnType<typeof dnodeHost>): void {
  host.close(new KiteError("disconnected", "the test is over"));
}
