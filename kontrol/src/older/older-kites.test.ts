import { type Identity, method, type Remote } from "@kite-mesh/kite";
import { dialWithMethods, testIdentity } from "@kite-mesh/kite/testing";
import { decodeJwt, decodeProtectedHeader, importSPKI, jwtVerify } from "jose";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { freshDatabase } from "../../../test/postgres.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";
import type { KiteEvent } from "./older-watches.ts";

// kontrol as kites in Go and of kite.js see it: their methods, arguments and answers. `go` is alice's kite.key that is signed
// with RS256; handlers do not know the dialect of a session, so these go over kite.v1 and HTTP.

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();
const logged: string[] = [];
let mesh: TestKontrol;
let alice: TestPerson;
let bob: TestPerson;
let go: string;

/** kontrol's methods as older kites call them. */
interface OlderKontrol {
  register(request: { url: string }): Promise<{ url: string; heartbeatInterval: number }>;
  getKites(request: object): Promise<{ kites: { kite: Identity; url: string; keyId: string; token: string }[]; watcherID?: string }>;
  cancelWatcher(id: string): Promise<void>;
  getToken(query: object): Promise<string>;
  getKey(): Promise<string>;
  registerMachine(request: { authType: string; username?: string }): Promise<string>;
}

beforeAll(async () => {
  const write = (...said: unknown[]) =>
    void logged.push(JSON.stringify(said, (_, value) => (value instanceof Error ? value.stack : value)));
  mesh = await startTestKontrol(databaseUrl, { log: { debug: write, info: write, warn: write, error: write } });
  alice = await mesh.person("alice");
  bob = await mesh.person("bob");
  ({ kiteKey: go } = await mesh.root.keys.issue({ username: "alice", alg: "RS256" }));
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("an RS256 kite.key is what a kite in Go can read: whole seconds, the key inside, and an address that ends in /kite", async () => {
  const { iat, kontrolKey, kontrolURL, sub } = decodeJwt(go) as Record<string, string>;

  await expect(jwtVerify(go, await importSPKI(kontrolKey as string, "RS256"))).resolves.toBeDefined();
  expect(decodeProtectedHeader(go).alg).toBe("RS256");
  expect(Number.isInteger(iat)).toBe(true);
  expect([sub, kontrolURL]).toEqual(["alice", `${mesh.kontrol.url}/kite`]);
});

test("a kite registers with its url alone, under its session's identity, and is asked to beat", async () => {
  const beats = vi.fn();
  const kite = older({ identity: identity({ name: "gopher" }), onHeartbeat: beats });

  const answer = await kite.register({ url: "http://10.0.0.7:3636/kite" });

  expect(answer).toEqual({ url: "http://10.0.0.7:3636/kite", heartbeatInterval: 10 });
  await vi.waitFor(() => expect(beats).toHaveBeenCalledWith(10), { timeout: 10_000 });
  const found = only((await alice.kontrol.getKites({ query: { name: "gopher" } })).kites);
  expect(found).toMatchObject({ kite: { username: "alice", name: "gopher" }, url: answer.url, visibility: "private" });
});

test("a kite whose session closes leaves at once", async () => {
  const kite = older({ identity: identity({ name: "leaver" }) });
  await kite.register({ url: "http://10.0.0.7:3636/kite" });

  await kite[Symbol.asyncDispose]();

  await vi.waitFor(async () => expect((await alice.kontrol.getKites({ query: { name: "leaver" } })).kites).toEqual([]), {
    timeout: 10_000,
  });
});

test("a kite that stops beating leaves, and comes back with its next beat", async () => {
  await using brisk = await startTestKontrol(await freshDatabase(), { heartbeatMs: 1_000 });
  const carol = await brisk.person("carol");
  let beat: () => Promise<unknown> = async () => {};
  const onHeartbeat = (_: number, given: typeof beat) => {
    beat = given;
  };
  const auth = { type: "kiteKey", key: (await brisk.root.keys.issue({ username: "carol", alg: "RS256" })).kiteKey };
  const kite = older({ auth, onHeartbeat }, brisk);
  await kite.register({ url: "http://10.0.0.7:3636/kite" });
  const present = async () => (await carol.kontrol.getKites({ query: { username: "carol" } })).kites.length;

  await vi.waitFor(async () => expect(await present()).toBe(0), { timeout: 15_000 });
  await beat();

  await vi.waitFor(async () => expect(await present()).toBe(1), { timeout: 10_000 });
});

test("a token for a kite with an RS256 kite.key is signed with that key, whoever asks", async () => {
  const kite = older({ identity: identity({ name: "verifier" }) });
  await kite.register({ url: "http://10.0.0.7:3636/kite" });
  const trusted = await importSPKI(decodeJwt(go)["kontrolKey"] as string, "RS256");

  const { token } = only((await alice.kontrol.getKites({ query: { name: "verifier" } })).kites);

  const { payload } = await jwtVerify(token, trusted, { algorithms: ["RS256"], issuer: "kontrol" });
  expect([payload.iat, payload.nbf, payload.exp].every(Number.isInteger)).toBe(true);
  expect(payload.aud).toMatch(/^\/alice\/.*\/verifier\//);
});

test("a kite that reads RS256 alone gets such tokens and the key as PEM; kites of today verify them", async () => {
  const target = mesh.closing(alice.kite({ name: "modern" }));
  await target.listen();
  await target.register();
  const kite = older();

  const token = await kite.getToken({ name: "modern", username: "" });
  const pem = await kite.getKey();

  await expect(jwtVerify(token, await importSPKI(pem, "RS256"))).resolves.toMatchObject({ payload: { sub: "alice" } });
  const called = target.dial<{ who(): Promise<{ username: string }> }>({ url: target.url as string, auth: { type: "token", key: token } });
  expect(await mesh.closing(called).who()).toEqual({ username: "alice", role: "owner" });
  expect(only((await kite.getKites({ query: { name: "modern" }, watchCallback: null, who: null })).kites as never)).toMatchObject({
    keyId: decodeProtectedHeader(token).kid,
  });
});

test("an RS256 kite.key finds kites under /kite, where older kites look for SockJS, and kites of today dial them there as well", async () => {
  const target = mesh.closing(alice.kite({ name: "under-kite" }));
  await target.listen();
  await target.register();
  await older({ identity: identity({ name: "elsewhere" }) }).register({ url: "http://10.0.0.7:3636/a/path" });
  const urlOf = async (name: string) => (await older().getKites({ query: { name } })).kites.map(({ url }) => url);

  const found = [await urlOf("under-kite"), await urlOf("elsewhere")];
  const today = mesh.closing(alice.kite({ name: "today", kiteKey: go, kontrolUrl: mesh.kontrol.url }));
  const remote = mesh.closing(await today.connect<{ who(): Promise<{ username: string }> }>({ name: "under-kite" }));

  expect(found).toEqual([[`${target.url}/kite`], ["http://10.0.0.7:3636/a/path"]]);
  expect(await remote.who()).toEqual({ username: "alice", role: "owner" });
  expect(only((await bob.kontrol.getKites({ query: { name: "kontrol" } })).kites).url).toBe(mesh.kontrol.url);
});

test("kites that exist keep their EdDSA tokens, and every key is published", async () => {
  const { token } = await bob.kontrol.getToken({ query: { name: "kontrol" } });
  const { keys } = (await (await fetch(`${mesh.kontrol.url}/.well-known/jwks.json`)).json()) as { keys: { alg: string }[] };

  expect(decodeProtectedHeader(token).alg).toBe("EdDSA");
  expect(keys.map(({ alg }) => alg).sort()).toEqual(["EdDSA", "RS256"]);
});

test("getToken with bare fields answers with a text, and says what was wrong in the words that older kites look for", async () => {
  const kite = older();
  for (const name of ["twin", "twin"]) await older({ identity: identity({ name }) }).register({ url: "http://10.0.0.7:1/kite" });

  await expect(kite.getToken({ name: "nobody" })).rejects.toMatchObject({ message: expect.stringContaining("no kites found") });
  await expect(kite.getToken({ name: "twin" })).rejects.toMatchObject({
    message: expect.stringContaining("query matches more than one kite"),
  });
});

test("a forced token is a new one", async () => {
  const kite = older();
  const query = { name: "kontrol" };
  const first = await kite.getToken(query);
  expect(await kite.getToken(query)).toBe(first);

  await vi.waitFor(async () => expect(await kite.getToken({ ...query, force: true })).not.toBe(first), { timeout: 10_000, interval: 200 });
});

test("B1: a token for an id alone is for that kite's whole path, never for /", async () => {
  const kite = older({ identity: identity({ name: "only-id" }) });
  await kite.register({ url: "http://10.0.0.7:3636/kite" });
  const { id } = only((await alice.kontrol.getKites({ query: { name: "only-id" } })).kites).kite;

  const byToken = await older().getToken({ id });
  const [byKites] = (await older().getKites({ query: { id } })).kites;

  for (const token of [byToken, byKites?.token as string]) expect(decodeJwt(token).aud).toBe(`/alice/test/only-id/1.0.0/here/host/${id}`);
});

test("B3: a version constraint holds for a single match, too", async () => {
  await older({ identity: identity({ name: "single", version: "1.4.2" }) }).register({ url: "http://10.0.0.7:1/kite" });

  const matching = async (version: string) => (await older().getKites({ query: { name: "single", version } })).kites.length;

  expect([await matching(">= 2.0"), await matching("~> 1.4"), await matching("1.4.2")]).toEqual([0, 1, 1]);
});

test("B4: a kite is found by its id alone, and a caller's token for it renewed as often as he asks", async () => {
  const kite = older({ identity: identity({ name: "renewed" }) });
  await kite.register({ url: "http://10.0.0.7:3636/kite" });
  const { id } = only((await alice.kontrol.getKites({ query: { name: "renewed" } })).kites).kite;
  const caller = older();

  const tokens = [await caller.getToken({ id, force: true }), await caller.getToken({ id, force: true })];

  expect((await caller.getKites({ query: { id } })).kites).toMatchObject([{ kite: { name: "renewed" } }]);
  expect(tokens.map((token) => decodeJwt(token).sub)).toEqual(["alice", "alice"]);
});

test.each(["watchCallback", "watchHandler"])("%s is called with what comes and goes, until the watch is cancelled", async (key) => {
  const events: KiteEvent[] = [];
  const heard = method({ role: "anyone", input: z.any() }, () => {});
  const watcher = older({ methods: { heard } });
  const callback = (event: { error: null; result: KiteEvent }) => void events.push(event.result);
  const { kites, watcherID } = await watcher.getKites({ query: { name: `seen-${key}` }, [key]: callback });
  expect([kites, watcherID]).toEqual([[], expect.any(String)]);

  const kite = older({ identity: identity({ name: `seen-${key}` }) });
  await kite.register({ url: "http://10.0.0.7:3636/kite" });
  await vi.waitFor(() => expect(events).toHaveLength(1), { timeout: 10_000 });
  await kite[Symbol.asyncDispose]();
  await vi.waitFor(() => expect(events).toHaveLength(2), { timeout: 10_000 });

  expect(events).toMatchObject([
    { action: "REGISTER", kite: { name: `seen-${key}` }, url: "http://10.0.0.7:3636/kite", token: expect.any(String) },
    { action: "DEREGISTER", kite: { name: `seen-${key}` } },
  ]);
  await watcher.cancelWatcher(watcherID as string);
  await expect(watcher.cancelWatcher(watcherID as string)).rejects.toMatchObject({ code: "not_found" });
});

test("a watch is its session's own: another cannot cancel it", async () => {
  const { watcherID } = await older().getKites({ query: { name: "mine" }, watchCallback: () => {} });

  await expect(older().cancelWatcher(watcherID as string)).rejects.toMatchObject({ code: "not_found" });
});

test("B9: an older machine that registers is asked for its join token, and gets an RS256 kite.key", async () => {
  const kloud = await mesh.service("kloud");
  const { joinToken } = await kloud.kontrol.joinTokens.create({ username: "bob", purpose: "older machine" });
  const getPass = method({ role: "anyone", input: z.string() }, () => `${joinToken}\n`);
  const machine = older({ auth: null, methods: { kite: { getPass } } });

  const kiteKey = await machine.registerMachine({ authType: "password" });

  expect([decodeJwt(kiteKey).sub, decodeProtectedHeader(kiteKey).alg]).toEqual(["bob", "RS256"]);
  await expect(machine.registerMachine({ authType: "nonsense" })).rejects.toMatchObject({ code: "invalid_argument" });
});

test("no key is made for an older machine whose secret is wrong", async () => {
  await using fresh = await startTestKontrol(await freshDatabase());
  const stranger = older({ auth: null }, fresh);

  for (const secret of [
    { authType: "joinToken", token: "wrong" },
    { authType: "password", username: "root", token: "wrong" },
  ])
    await expect(stranger.registerMachine(secret)).rejects.toMatchObject({ code: "unauthenticated" });

  expect((await fresh.root.keys.list()).map(({ alg }) => alg)).toEqual(["EdDSA"]);
});

test("an older person is asked for a password where the name says whose, and a wrong one gives nothing", async () => {
  await mesh.root.people.setPassword({ username: "bob", password: "correct horse battery" });
  const answers = ["correct horse battery", "wrong horse battery"];
  const getPass = method({ role: "anyone", input: z.string() }, () => answers.shift());
  const machine = older({ auth: null, methods: { kite: { getPass } } });

  const kiteKey = await machine.registerMachine({ authType: "password", username: "bob" });

  expect([decodeJwt(kiteKey).sub, decodeProtectedHeader(kiteKey).alg]).toEqual(["bob", "RS256"]);
  await expect(machine.registerMachine({ authType: "password", username: "bob" })).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a kite of a service is visible to the mesh, since it cannot say so itself", async () => {
  await mesh.service("koding");
  const { kiteKey: key } = await mesh.root.keys.issue({ username: "koding", alg: "RS256" });
  await older({ auth: { type: "kiteKey", key }, identity: identity({ name: "klient" }) }).register({ url: "http://10.0.0.8:1/kite" });

  expect(only((await bob.kontrol.getKites({ query: { username: "koding" } })).kites)).toMatchObject({ role: "viewer", visibility: "mesh" });
});

test("a kite registers by HTTP under its key's username, beats, and is told to register again when it is unknown", async () => {
  const kite = identity({ name: "by-http", username: "claimed" });
  expect(await beat(kite.id)).toBe("registeragain");

  const response = await register({ url: "http://10.0.0.7:3636/kite", kite, auth: { type: "kiteKey", key: go } });

  expect([response.status, await response.json()]).toEqual([200, { url: "http://10.0.0.7:3636/kite", heartbeatInterval: 10 }]);
  expect(await beat(kite.id)).toBe("pong");
  expect(only((await alice.kontrol.getKites({ query: { id: kite.id } })).kites).kite.username).toBe("alice");
});

test("B7: a kite that came by HTTP leaves when it is silent; beats by HTTP do not keep one that has a session", async () => {
  await using brisk = await startTestKontrol(await freshDatabase(), { heartbeatMs: 1_000 });
  const carol = await brisk.person("carol");
  const auth = { type: "kiteKey", key: (await brisk.root.keys.issue({ username: "carol", alg: "RS256" })).kiteKey };
  const [byHttp, held] = [identity({ name: "by-http" }), identity({ name: "held" })];
  await register({ url: "http://10.0.0.7:1/kite", kite: byHttp, auth }, brisk);
  await older({ identity: held, auth }, brisk).register({ url: "http://10.0.0.7:1/kite" });

  const left = async () => {
    expect(await beat(held.id, brisk)).toBe("registeragain");
    expect((await carol.kontrol.getKites({ query: { username: "carol" } })).kites).toEqual([]);
  };

  await vi.waitFor(left, { timeout: 15_000 });
  expect(await beat(byHttp.id, brisk)).toBe("registeragain");
  expect(await carol.kontrol.why({ id: held.id })).toMatchObject({ state: "gone", reason: "it missed 3 heartbeats" });
});

test("a beat by HTTP does not tell a kite that registered with a session from one that is not there", async () => {
  const hidden = alice.kite({ name: "hidden" });
  await hidden.register();

  expect(await beat(hidden.identity.id)).toBe("registeragain");
  expect(await beat("nobody")).toBe("registeragain");
});

test("B6: a registration by HTTP without a credential, or with a wrong one, is answered and the connection stays", async () => {
  const kite = identity({ name: "refused" });
  const url = "http://10.0.0.7:3636/kite";
  const answers: [object | string, number, string][] = [
    [{ url, kite }, 401, "no auth was sent"],
    [{ url, kite, auth: { type: "token", key: go } }, 400, "unexpected authentication type: token"],
    [{ url, kite, auth: { type: "kiteKey", key: "a.b" } }, 401, "3 parts"],
    [{ url: "", kite, auth: { type: "kiteKey", key: go } }, 400, "wrong register input"],
    [{ url, kite: { ...kite, name: "a/b" }, auth: { type: "kiteKey", key: go } }, 400, 'must not contain "/"'],
    [{ url, kite: { ...kite, environment: "" }, auth: { type: "kiteKey", key: go } }, 400, "environment"],
    ["nonsense", 400, "not JSON"],
    ["x".repeat(20_000), 413, "bytes"],
  ];
  for (const [body, status, why] of answers) {
    const response = await register(body);
    expect([response.status, ((await response.json()) as { err: string }).err]).toEqual([status, expect.stringContaining(why)]);
  }
  const empty = await fetch(`${mesh.kontrol.url}/heartbeat`);
  expect([empty.status, await empty.json()]).toEqual([400, { err: "query id is empty" }]);
});

test("B5: an id that is no UUID is stored, and nothing is called registered that was not", async () => {
  const kite = identity({ name: "no-uuid", id: "not-a-uuid" });
  const auth = { type: "kiteKey", key: go };
  expect((await register({ url: "http://10.0.0.7:1/kite", kite, auth })).status).toBe(200);
  expect((await alice.kontrol.getKites({ query: { id: "not-a-uuid" } })).kites).toHaveLength(1);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query("alter table kontrol.kites add constraint broken check (name <> 'unwritable')");

  const response = await register({ url: "http://10.0.0.7:1/kite", kite: identity({ name: "unwritable" }), auth });

  await client.query("alter table kontrol.kites drop constraint broken");
  await client.end();
  expect([response.status, await response.json()]).toEqual([500, { err: "internal error - register" }]);
  expect((await alice.kontrol.getKites({ query: { name: "unwritable" } })).kites).toEqual([]);
});

test("B14: no kite.key and no token of all this is in the log", async () => {
  const token = await older().getToken({ name: "kontrol" });

  const everything = logged.join("\n");

  expect(logged.length).toBeGreaterThan(0);
  for (const secret of [go, token]) expect(everything).not.toContain(secret.split(".")[2]);
});

function identity(fields: Partial<Identity>): Identity {
  return testIdentity({ id: crypto.randomUUID(), ...fields });
}

interface OlderOptions {
  identity?: Identity;
  auth?: { type: string; key: string } | null;
  methods?: Parameters<typeof dialWithMethods>[0]["methods"];
  onHeartbeat?: (seconds: number, beat: () => Promise<unknown>) => void;
}

/** A kite that speaks as those in Go do, and serves `kite.heartbeat`; it beats only if the test makes it. */
function older(
  { auth, identity: who = identity({}), methods, onHeartbeat = () => {} }: OlderOptions = {},
  to = mesh,
): Remote<OlderKontrol> {
  const input = [z.number(), z.custom<() => Promise<unknown>>((value) => typeof value === "function")] as const;
  const heartbeat = method({ role: "anyone", input }, (seconds, beat) => {
    // Called with the seconds alone, so that a test can say what it expects of them.
    if (onHeartbeat.length < 2) (onHeartbeat as (seconds: number) => void)(seconds);
    else onHeartbeat(seconds, beat);
    return null;
  });
  const shown = auth === null ? {} : { auth: auth ?? { type: "kiteKey", key: go } };
  const served = methods ?? { kite: { heartbeat } };
  return to.closing(dialWithMethods<OlderKontrol>({ url: to.kontrol.url, ...shown, identity: who, methods: served }));
}

function register(body: object | string, to = mesh): Promise<Response> {
  return fetch(`${to.kontrol.url}/register`, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) });
}

async function beat(id: string, to = mesh): Promise<string> {
  return (await fetch(`${to.kontrol.url}/heartbeat?id=${encodeURIComponent(id)}`)).text();
}
