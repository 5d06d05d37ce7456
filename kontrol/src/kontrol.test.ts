import { callWith, type Kite, type Remote, type WatchEvent } from "@kite-mesh/kite";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import type { KontrolContract } from "./contract.ts";
import { createKontrol } from "./kontrol.ts";
import { only, openTestWire, silent, startTestKontrol, type TestKontrol, type TestPerson, type WhoContract } from "./testing.ts";

// Each test has a mesh of its own; on a machine whose processors are busy one takes seconds.
vi.setConfig({ testTimeout: 60_000 });
// The first to ask waits until the cluster is made.
const firstDatabase = await freshDatabase();

test("a kite registers, is found with a token, and answers with who called", async () => {
  await using mesh = await startTestKontrol(firstDatabase);
  const alice = await mesh.person("alice");
  await listening(alice.kite());

  const who = await caller(mesh, alice, { name: "who" });

  expect(await who.who()).toEqual({ username: "alice", role: "owner" });
});

test("a watcher sees kites come and go, by a version constraint, and goes on from its revision", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const alice = await mesh.person("alice");
  const watching = (await alice.kontrol.watch({ query: { name: "math", version: "^1.2" } }))[Symbol.asyncIterator]();
  const next = async () => (await watching.next()).value as WatchEvent;
  expect(await next()).toMatchObject({ type: "snapshot", kites: [] });

  await listening(alice.kite({ name: "math", version: "2.0.0" }));
  const kite = await listening(alice.kite({ name: "math", version: "1.3.0" }));
  const registered = await next();
  expect(registered).toMatchObject({ type: "registered", kite: { kite: { version: "1.3.0" }, role: "owner", visibility: "private" } });
  await watching.return?.();

  await kite.close();
  const resumed = await alice.kontrol.watch({ query: { name: "math", version: "^1.2" }, since: registered.revision });
  for await (const event of resumed) {
    expect(event).toMatchObject({ type: "gone", kite: { id: kite.identity.id }, reason: "its session closed" });
    break;
  }
});

test("a kite whose machine loses its power leaves the directory at once, and why is known", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const alice = await mesh.person("alice");
  await using wire = await openTestWire(mesh.kontrol.url);
  const kite = await listening(alice.kite({ kontrolUrl: wire.url }));

  wire.cut();
  await vi.waitFor(() => isGone(alice, kite));

  // And not for its beats, which it has not had the time to miss; how long it takes, `npm run bench:registry` measures.
  expect(await alice.kontrol.why({ id: kite.identity.id })).toMatchObject({ found: true, state: "gone", reason: "its session closed" });
});

test("who knows no id asks for what left lately by name, and is told of what he could see", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const [alice, mallory] = [await mesh.person("alice"), await mesh.person("mallory")];
  const [old, newer, other] = [
    await listening(alice.kite({ name: "math", version: "1.0.0" })),
    await listening(alice.kite({ name: "math", version: "2.0.0" })),
    await listening(alice.kite({ name: "meth" })),
  ];

  for (const kite of [old, newer, other]) {
    await kite.close();
    await vi.waitFor(() => isGone(alice, kite));
  }

  const found = await alice.kontrol.departed({ query: { name: "math" } });
  expect(found).toMatchObject([
    { kite: newer.identity, state: "gone", reason: "its session closed" },
    { kite: old.identity, state: "gone" },
  ]);
  expect(await alice.kontrol.departed({ query: { name: "math", version: "^1.0" } })).toMatchObject([{ kite: old.identity }]);
  expect(await alice.kontrol.departed({ query: { id: other.identity.id } })).toMatchObject([{ kite: other.identity }]);
  expect(await mallory.kontrol.departed({ query: { name: "math" } })).toEqual([]);
  expect(await mesh.root.departed({ query: { name: "math" } })).toHaveLength(2);
});

test("a kite that falls silent leaves after two missed beats, and a healthy one stays", async () => {
  await using mesh = await startTestKontrol(await freshDatabase(), { heartbeatMs: 1_000 });
  const alice = await mesh.person("alice");
  await using wire = await openTestWire(mesh.kontrol.url);
  const kite = await listening(alice.kite({ kontrolUrl: wire.url }));
  await listening(alice.kite({ name: "healthy" }));

  wire.freeze();
  await vi.waitFor(() => isGone(alice, kite));

  expect(await alice.kontrol.why({ id: kite.identity.id })).toMatchObject({ state: "gone", reason: "it missed 2 heartbeats" });
  expect((await alice.kontrol.getKites({ query: { name: "healthy" } })).kites).toHaveLength(1);
});

test("a session that ends late does not take out the kite that registered anew", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const alice = await mesh.person("alice");
  const first = await listening(alice.kite({ id: "the-same" }));
  const before = only((await alice.kontrol.getKites({ query: { id: "the-same" } })).kites);
  await listening(alice.kite({ id: "the-same" }));

  await first.close();
  await alice.kontrol.whoami();

  const { url } = only((await alice.kontrol.getKites({ query: { id: "the-same" } })).kites);
  expect(url).not.toBe(before.url);
});

test("kites stay in the directory while kontrol restarts, and those that do not come back leave after two beats", async () => {
  const databaseUrl = await freshDatabase();
  const first = await startTestKontrol(databaseUrl, { heartbeatMs: 500 });
  const port = Number(new URL(first.kontrol.url).port);
  const alice = await first.person("alice");
  const kite = await listening(alice.kite({ name: "stays" }));
  await using wire = await openTestWire(first.kontrol.url);
  const leaving = await listening(alice.kite({ name: "leaves", kontrolUrl: wire.url }));
  const { revision } = await alice.kontrol.getKites({ query: {} });
  await first.kontrol.close();
  wire.cut();

  await using second = await startTestKontrol(databaseUrl, { port, heartbeatMs: 500 });
  const again = second.closing(await reopened(second, alice));
  const watching = (await again.watch({ query: { name: "leaves" }, since: revision }))[Symbol.asyncIterator]();

  // The first that is heard of it since before kontrol stopped: it stayed until its time was over.
  const gone = { type: "gone", kite: { id: leaving.identity.id }, reason: "its kontrol stopped, and it did not come back" };
  expect((await watching.next()).value).toMatchObject(gone);
  await watching.return?.();
  await vi.waitFor(async () => {
    const reason = expect.stringMatching(/^it registered, and its session is open; last beat/);
    expect(await again.why({ id: kite.identity.id })).toMatchObject({ state: "present", reason });
  });
  await first[Symbol.asyncDispose]();
});

test("a machine gets its owner's kite.key with a join token", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  await mesh.person("alice");
  const kloud = await mesh.service("kloud");
  const { joinToken, expiresAt } = await kloud.kontrol.joinTokens.create({ username: "alice", purpose: "machine hello" });
  expect(expiresAt).toBeGreaterThan(Date.now());

  const machine = mesh.closing(kloud.kite().dial<KontrolContract>({ url: mesh.kontrol.url, auth: undefined }));
  const { kiteKey } = await machine.registerMachine({ joinToken });

  const klient = kloud.kite({ name: "klient", kiteKey });
  await klient.register();
  expect(klient.identity.username).toBe("alice");
});

test("the same outside identity always gets the same person, one who was removed too", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const external = { issuer: "https://gitlab.example.org", subject: "42" };

  const first = await mesh.root.people.create({ username: "carol", name: "Carol", email: "carol@example.org", external });
  const again = await mesh.root.people.create({ username: "other", external });
  expect(first).toMatchObject({ created: true, person: { username: "carol", state: "active", external: [external] } });
  expect(again).toEqual({ created: false, person: first.person });
  await expect(mesh.root.people.create({ username: "carol" })).rejects.toMatchObject({ code: "already_exists" });

  expect(await mesh.root.people.remove({ external })).toEqual({ removed: true, username: "carol" });
  expect(await mesh.root.people.remove({ external })).toEqual({ removed: false });
  expect(await mesh.root.people.remove({ username: "nobody" })).toEqual({ removed: false });
  expect(await mesh.root.people.create({ username: "carol2", external })).toMatchObject({ created: false, person: { state: "removed" } });
  expect((await mesh.root.people.list()).map(({ username }) => username)).toEqual(["carol", "kontrol", "root"]);
});

test("removing a person ends the sessions, kites and tokens of that person at once", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const [alice, bob, gateway] = [await mesh.person("alice"), await mesh.person("bob"), await mesh.service("gateway")];
  await listening(gateway.kite({ name: "open" }), "mesh");
  await listening(bob.kite({ name: "bobs" }));
  const asBob = await caller(mesh, bob, { name: "open" });
  const { token } = await bob.kontrol.getToken({ query: { name: "open" } });
  const url = only((await bob.kontrol.getKites({ query: { name: "open" } })).kites).url;
  expect(await asBob.who()).toEqual({ username: "bob", role: "viewer" });

  await mesh.root.people.remove({ username: "bob" });
  await expect(withToken(mesh, alice, url, token).who()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(asBob.who()).rejects.toThrow();
  await expect(callWith(bob.kontrol, { timeoutMs: 2_000 }).whoami()).rejects.toMatchObject({ code: "unauthenticated" });

  expect((await mesh.root.people.get({ username: "bob" })).state).toBe("removed");
  expect(await mesh.root.keys.issue({ username: "bob" }).catch((error) => error)).toMatchObject({ code: "not_found" });
  const gone = (await mesh.root.getKites({ query: { username: "bob" } })).kites;
  expect(gone).toEqual([]);
});

test("a grant shows a kite to somebody in its role, and its end ends what it opened", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const [alice, bob] = [await mesh.person("alice"), await mesh.person("bob")];
  await listening(alice.kite({ name: "shared" }));
  await listening(alice.kite({ name: "secret" }));
  await expect(bob.kontrol.getToken({ query: { name: "shared" } })).rejects.toMatchObject({ code: "not_found" });

  const grant = await alice.kontrol.grants.add({ username: "bob", role: "operator", query: { name: "shared" } });
  const asBob = await caller(mesh, bob, { name: "shared" });
  expect(await asBob.who()).toEqual({ username: "bob", role: "operator" });
  expect(await bob.kontrol.grants.list()).toEqual([grant]);
  expect((await bob.kontrol.getKites({ query: { username: "alice" } })).kites).toHaveLength(1);

  expect(await bob.kontrol.grants.remove({ id: grant.id })).toEqual({ removed: false });
  expect(await alice.kontrol.grants.remove({ id: grant.id })).toEqual({ removed: true });
  expect(await alice.kontrol.grants.remove({ id: grant.id })).toEqual({ removed: false });
  await vi.waitFor(() => expect(callWith(asBob, { timeoutMs: 500 }).who()).rejects.toThrow());

  await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: { name: "shared" } });
  const again = await caller(mesh, bob, { name: "shared" });
  expect(await again.who()).toEqual({ username: "bob", role: "viewer" });
});

test("a grant with an end gives no token beyond it, and ends sessions by itself", async () => {
  let aheadMs = 0;
  await using mesh = await startTestKontrol(await freshDatabase(), { clock: () => Date.now() + aheadMs });
  const [alice, bob] = [await mesh.person("alice"), await mesh.person("bob")];
  await listening(alice.kite({ name: "shared" }));
  const expiresAt = Date.now() + 60_000;
  await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: {}, expiresAt });
  const asBob = await caller(mesh, bob, { name: "shared" });
  await asBob.who();
  expect((await bob.kontrol.getToken({ query: { name: "shared" } })).expiresAt).toBe(expiresAt);

  aheadMs = 60_000;
  // With every grant kontrol looks anew when the next one ends.
  const other = await alice.kontrol.grants.add({ username: "root", role: "viewer", query: {} });

  await vi.waitFor(async () => expect(await alice.kontrol.grants.list()).toEqual([other]));
  await expect(callWith(asBob, { timeoutMs: 500 }).who()).rejects.toThrow();
});

test("a token for kontrol on behalf of a person is that person, and no more", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const [alice, gateway] = [await mesh.person("alice"), await mesh.service("gateway")];
  const { token } = await gateway.kontrol.people.token({ username: "alice" });

  const asAlice = mesh.closing(alice.kite().dial<KontrolContract>({ url: mesh.kontrol.url, auth: { type: "token", key: token } }));

  expect(await asAlice.whoami()).toEqual({ username: "alice", admin: false, kind: "person" });
  await expect(asAlice.people.list()).rejects.toMatchObject({ code: "permission_denied" });
});

test("kontrol is in its own directory, and answers over HTTP how it is and with which keys it signs", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const { url } = mesh.kontrol;

  expect(only((await mesh.root.getKites({ query: { name: "kontrol" } })).kites)).toMatchObject({ url, role: "owner", visibility: "mesh" });
  const [jwks, healthy, ready, other] = await Promise.all(
    ["/.well-known/jwks.json", "/healthz", "/readyz", "/else"].map(async (path) => {
      const response = await fetch(url + path);
      return { status: response.status, body: await response.json() };
    }),
  );
  const { keys, current } = await mesh.root.getKey();
  expect(jwks).toEqual({ status: 200, body: { keys } });
  expect(keys).toEqual([{ kty: "OKP", crv: "Ed25519", x: expect.any(String), kid: current, alg: "EdDSA", use: "sig" }]);
  expect([healthy?.status, ready?.status, other?.status]).toEqual([200, 200, 404]);
});

test("two kontrols on one database are one: what one enters the other finds, and a removed person is out of both", async () => {
  const databaseUrl = await freshDatabase();
  await using mesh = await startTestKontrol(databaseUrl);
  await using other = await startTestKontrol(databaseUrl);
  const alice = await mesh.person("alice");
  const kite = await listening(alice.kite());
  const there = other.closing(await reopened(other, alice));

  await vi.waitFor(async () => expect(only((await there.getKites({ query: { name: "who" } })).kites).kite).toEqual(kite.identity));
  await mesh.root.people.remove({ username: "alice" });

  await vi.waitFor(() => expect(there.whoami()).rejects.toMatchObject({ code: "unauthenticated" }));
  expect((await other.root.getKites({ query: { username: "alice" } })).kites).toEqual([]);
});

test("while the database is away kontrol answers from memory and says so, and afterwards all is well without a restart", async () => {
  const databaseUrl = await freshDatabase();
  await using mesh = await startTestKontrol(databaseUrl);
  const alice = await mesh.person("alice");
  const leaving = await listening(alice.kite({ name: "leaving" }));
  await listening(alice.kite({ name: "staying" }));
  await using database = await stoppable(databaseUrl);

  await database.stop();
  await vi.waitFor(async () => expect((await fetch(`${mesh.kontrol.url}/readyz`)).status).toBe(503));
  expect(only((await alice.kontrol.getKites({ query: { name: "staying" } })).kites).role).toBe("owner");
  await expect(mesh.root.people.list()).rejects.toMatchObject({ code: "unavailable", message: expect.not.stringContaining("postgres") });
  await leaving.close();

  await database.start();
  await vi.waitFor(async () => expect((await fetch(`${mesh.kontrol.url}/readyz`)).status).toBe(200));
  await listening(alice.kite({ name: "newcomer" }));
  await vi.waitFor(() => isGone(alice, leaving));
});

test("a port that is taken is named with its setting, and nothing stays open", async () => {
  const databaseUrl = await freshDatabase();
  await using mesh = await startTestKontrol(databaseUrl);
  const port = Number(new URL(mesh.kontrol.url).port);

  const second = createKontrol({ databaseUrl, port, log: silent });

  await expect(second).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(`port ${port} is taken; set KONTROL_PORT`),
  });
});

/** A database that a test can take away and give back: it takes no connections, and those that are there are broken. */
async function stoppable(databaseUrl: string) {
  const name = new URL(databaseUrl).pathname.slice(1);
  const elsewhere = new URL(databaseUrl);
  elsewhere.pathname = "/postgres";
  const client = new pg.Client({ connectionString: elsewhere.href });
  await client.connect();
  const allow = (allowed: boolean) => client.query(`alter database ${name} with allow_connections ${allowed}`);
  return {
    stop: async () => {
      await allow(false);
      await client.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", [name]);
    },
    start: () => allow(true),
    [Symbol.asyncDispose]: async () => {
      await allow(true);
      await client.end();
    },
  };
}

async function listening(kite: Kite, visibility: "private" | "mesh" = "private"): Promise<Kite> {
  await kite.listen();
  await kite.register({ visibility });
  return kite;
}

async function caller(mesh: TestKontrol, person: TestPerson, query: { name: string }): Promise<Remote<WhoContract>> {
  return mesh.closing(await person.kite({ name: "caller" }).connect<WhoContract>(query));
}

function withToken(mesh: TestKontrol, person: TestPerson, url: string, key: string): Remote<WhoContract> {
  return mesh.closing(person.kite({ name: "caller" }).dial<WhoContract>({ url, auth: { type: "token", key } }));
}

async function reopened(mesh: TestKontrol, { kiteKey }: TestPerson): Promise<Remote<KontrolContract>> {
  const root = await mesh.person("onlooker");
  return root.kite().dial<KontrolContract>({ url: mesh.kontrol.url, auth: { type: "kiteKey", key: kiteKey } });
}

async function isGone(person: TestPerson, kite: Kite): Promise<void> {
  expect((await person.kontrol.getKites({ query: { id: kite.identity.id } })).kites).toEqual([]);
}
