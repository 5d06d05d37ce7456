import { formatIdentity, Kite } from "@kite-mesh/kite";
import { decodeJwt, exportSPKI, generateKeyPair, SignJWT } from "jose";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { freshDatabase } from "../../test/postgres.ts";
import { asking, knock, registered } from "./test-attacker.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson } from "./testing.ts";

// Each test is an attack on a mesh with a person `alice`, a person `mallory` and a service `gateway`.

vi.setConfig({ testTimeout: 20_000 });
const databaseUrl = await freshDatabase();
const logged: string[] = [];
let nowMs = Date.now();
let mesh: TestKontrol;
let alice: TestPerson;
let mallory: TestPerson;
let gateway: TestPerson;

beforeAll(async () => {
  const write = (...said: unknown[]) =>
    void logged.push(JSON.stringify(said, (_, value) => (value instanceof Error ? [value.message, value.stack, { ...value }] : value)));
  mesh = await startTestKontrol(databaseUrl, { clock: () => nowMs, log: { debug: write, info: write, warn: write, error: write } });
  alice = await mesh.person("alice");
  mallory = await mesh.person("mallory");
  gateway = await mesh.service("gateway");
});
afterAll(() => mesh[Symbol.asyncDispose]());
beforeEach(() => {
  nowMs = Date.now();
});

test("a forged kite.key, consistent in itself but signed by a foreign key, opens nothing", async () => {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  const claims = { ...decodeJwt(alice.kiteKey), kontrolKey: await exportSPKI(publicKey) };
  const { current } = await alice.kontrol.getKey();

  for (const kid of ["foreign", current]) {
    const forged = await new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", kid }).sign(privateKey);
    await expect(asking(mesh, "kiteKey", forged).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  }
});

test("a kite.key without a signature (alg none), or signed with the public key as a secret, opens nothing", async () => {
  const claims = decodeJwt(alice.kiteKey);
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const { current } = await alice.kontrol.getKey();
  const secret = new TextEncoder().encode(claims.kontrolKey as string);

  const unsigned = `${encode({ alg: "none", kid: current })}.${encode(claims)}.`;
  const confused = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: current }).sign(secret);

  for (const key of [unsigned, confused])
    await expect(asking(mesh, "kiteKey", key).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a token is no kite.key, and a kite.key is no token", async () => {
  const { token } = await alice.kontrol.getToken({ query: { name: "kontrol" } });

  await expect(asking(mesh, "kiteKey", token).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(asking(mesh, "token", alice.kiteKey).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(asking(mesh, "password", "secret").whoami()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("an expired token opens nothing, and says that it is only old", async () => {
  const { token, expiresAt } = await gateway.kontrol.people.token({ username: "alice" });
  await expect(asking(mesh, "token", token).whoami()).resolves.toMatchObject({ username: "alice" });

  nowMs = expiresAt + 60_000;

  await expect(asking(mesh, "token", token).whoami()).rejects.toMatchObject({ code: "token_expired" });
});

test("a stolen token cannot renew itself: what comes from it ends with it", async () => {
  const { token, expiresAt } = await gateway.kontrol.people.token({ username: "alice" });
  nowMs = expiresAt - 60_000;

  const renewed = await asking(mesh, "token", token).getToken({ query: { name: "kontrol" } });

  expect(renewed.expiresAt).toBe(expiresAt);
});

test("a token for another kite does not open kontrol", async () => {
  const other = await registered(alice, "other");
  const { token } = await alice.kontrol.getToken({ query: { id: other.identity.id } });

  await expect(asking(mesh, "token", token).whoami()).rejects.toMatchObject({
    code: "unauthenticated",
    message: expect.stringContaining("is for"),
  });
});

test("a replayed join token gives no second kite.key, however many try at once", async () => {
  const { joinToken } = await gateway.kontrol.joinTokens.create({ username: "alice", purpose: "machine" });
  const stranger = asking(mesh);

  const tries = await Promise.allSettled(Array.from({ length: 10 }, () => stranger.registerMachine({ joinToken })));

  expect(tries.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  await expect(stranger.registerMachine({ joinToken })).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(stranger.registerMachine({ joinToken: "guessed" })).rejects.toMatchObject({ code: "unauthenticated" });
});

test("an expired join token, and one for a person who was removed, give nothing", async () => {
  await mesh.person("leaver");
  const { joinToken: late } = await gateway.kontrol.joinTokens.create({ username: "alice", purpose: "late", ttlMs: 5_000 });
  const { joinToken: orphaned } = await gateway.kontrol.joinTokens.create({ username: "leaver", purpose: "orphaned" });
  await mesh.root.people.remove({ username: "leaver" });

  await expect(asking(mesh).registerMachine({ joinToken: orphaned })).rejects.toMatchObject({ code: "not_found" });
  nowMs += 6_000;
  await expect(asking(mesh).registerMachine({ joinToken: late })).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a stranger without a credential can do nothing but join", async () => {
  const stranger = asking(mesh);

  for (const call of [
    () => stranger.whoami(),
    () => stranger.getKites({ query: {} }),
    () => stranger.getToken({ query: { name: "kontrol" } }),
    () => stranger.watch({ query: {} }),
    () => stranger.people.list(),
    () => stranger.joinTokens.create({ username: "alice", purpose: "x" }),
  ]) {
    await expect(call()).rejects.toMatchObject({ code: "unauthenticated" });
  }
});

test("a user who registers under another's name is entered under his own", async () => {
  const kite = mallory.kite({ username: "alice", name: "kloud" });
  await kite.listen();
  await kite.register();

  const found = only((await mallory.kontrol.getKites({ query: { id: kite.identity.id } })).kites);

  expect(found.kite.username).toBe("mallory");
  expect((await alice.kontrol.getKites({ query: { username: "alice", name: "kloud" } })).kites).toEqual([]);
});

test("a user cannot put a kite of his in the place of somebody else's by taking its id", async () => {
  const victim = await registered(alice, "victim");

  const thief = mallory.kite({ name: "victim", id: victim.identity.id });
  await thief.listen();

  await expect(thief.register()).rejects.toMatchObject({ code: "already_exists" });
  expect(only((await alice.kontrol.getKites({ query: { id: victim.identity.id } })).kites).url).toBe(victim.url);
});

test("a user cannot show a kite named kloud to the whole mesh to collect what others send it", async () => {
  const trap = mallory.kite({ name: "kloud" });
  await trap.listen();

  await expect(trap.register({ visibility: "mesh" })).rejects.toMatchObject({ code: "permission_denied" });
});

test("a token is not enough to register a kite", async () => {
  const { token } = await gateway.kontrol.people.token({ username: "alice" });
  const kite = { username: "alice", environment: "x", name: "x", version: "1.0.0", region: "x", hostname: "x", id: "x" };

  const registering = asking(mesh, "token", token).register({ kite, url: "http://127.0.0.1:1" });

  await expect(registering).rejects.toMatchObject({ code: "permission_denied" });
});

test("a query by id alone gives a token for that kite's own path, never for everything", async () => {
  const kite = await registered(alice, "only-by-id");

  const { token } = await alice.kontrol.getToken({ query: { id: kite.identity.id } });

  expect(decodeJwt(token)).toMatchObject({ aud: formatIdentity(kite.identity), sub: "alice", iss: "kontrol", role: "owner" });
});

test("a kite that one may not see cannot be told from one that is not there", async () => {
  const secret = await registered(alice, "secret");
  const fate = (query: { id: string }) =>
    mallory.kontrol.getToken({ query }).catch(({ code, message }) => ({ code, message: message.replace(query.id, "ID") }));

  expect(await fate({ id: secret.identity.id })).toEqual(await fate({ id: "not-there" }));
  expect((await mallory.kontrol.getKites({ query: { username: "alice" } })).kites).toEqual([]);
  expect(await mallory.kontrol.why({ id: secret.identity.id })).toEqual({ found: false });
  expect(await alice.kontrol.why({ id: secret.identity.id })).toMatchObject({ found: true, state: "present" });
});

test("a person is no administrator, and an administrator who is a person cannot be somebody else", async () => {
  for (const call of [
    () => mallory.kontrol.audit.list(),
    () => mallory.kontrol.people.list(),
    () => mallory.kontrol.people.get({ username: "alice" }),
    () => mallory.kontrol.people.remove({ username: "alice" }),
    () => mallory.kontrol.people.token({ username: "alice" }),
    () => mallory.kontrol.keys.issue({ username: "alice" }),
    () => mallory.kontrol.joinTokens.create({ username: "alice", purpose: "x" }),
    () => mallory.kontrol.grants.add({ username: "mallory", role: "owner", query: { username: "alice" } }),
    () => mesh.root.people.token({ username: "alice" }),
  ]) {
    await expect(call()).rejects.toMatchObject({ code: "permission_denied" });
  }
  await expect(mesh.root.people.remove({ username: "gateway" })).rejects.toMatchObject({ code: "failed_precondition" });
  await expect(mesh.root.people.create({ username: "Anonymous" })).rejects.toMatchObject({ code: "invalid_argument" });
});

test("nobody can fill the directory with grants", async () => {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const many = `insert into kontrol.grants (owner, username, role, query) select 'mallory', 'alice', 'viewer', '{}' from generate_series(1, 1000)`;
  await database.query(many);
  const grant = { username: "alice", role: "viewer", query: { name: "math" } } as const;

  await expect(mallory.kontrol.grants.add(grant)).rejects.toMatchObject({ code: "limit_exceeded" });
  await database.query("delete from kontrol.grants where owner = 'mallory'");
  await expect(mallory.kontrol.grants.add(grant)).resolves.toMatchObject({ owner: "mallory" });

  await database.end();
});

test("a revoked kite.key ends its session, its kite and the tokens that came from it, and no other key", async () => {
  const { kiteKey } = await mesh.root.keys.issue({ username: "alice" });
  const { kiteKey: other } = await mesh.root.keys.issue({ username: "alice" });
  const jti = decodeJwt(kiteKey).jti as string;
  const stolen = asking(mesh, "kiteKey", kiteKey);
  const { token } = await stolen.getToken({ query: { name: "kontrol" } });
  const kite = mesh.closing(new Kite({ name: "stolen", version: "1.0.0", kiteKey, kontrolUrl: mesh.kontrol.url }));
  await kite.register();
  expect(await mallory.kontrol.keys.revoke({ jti })).toEqual({ revoked: false });

  expect(await alice.kontrol.keys.revoke({ jti })).toEqual({ revoked: true });

  await expect(stolen.whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(asking(mesh, "kiteKey", kiteKey).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(asking(mesh, "token", token).whoami()).rejects.toMatchObject({ code: "unauthenticated" });
  expect((await alice.kontrol.getKites({ query: { name: "stolen" } })).kites).toEqual([]);
  await expect(asking(mesh, "kiteKey", other).whoami()).resolves.toMatchObject({ username: "alice" });
});

test("the relay opens for a token for exactly that kite, and for nothing less", async () => {
  const hidden = mesh.closing(alice.kite({ name: "hidden" }));
  await hidden.register();
  const found = only((await alice.kontrol.getKites({ query: { id: hidden.identity.id } })).kites);
  const other = await registered(alice, "neighbour");
  const { token: foreign } = await alice.kontrol.getToken({ query: { id: other.identity.id } });
  const { privateKey } = await generateKeyPair("EdDSA");
  const forged = await new SignJWT(decodeJwt(found.token)).setProtectedHeader({ alg: "EdDSA", kid: "foreign" }).sign(privateKey);

  expect(await knock(found.url, ["kite.v1"])).toBe("401");
  expect(await knock(found.url, [`kite.token.${found.token}`])).toBe("426");
  for (const token of [foreign, forged, "nonsense", alice.kiteKey]) {
    expect(await knock(found.url, ["kite.v1", `kite.token.${token}`])).toBe("unauthenticated");
  }
  expect(await knock(found.url.replace(/[^/]*$/, "%E0%A4%A"), ["kite.v1", "kite.token.x"])).toBe("404");
  nowMs = found.tokenExpiresAt + 60_000;
  expect(await knock(found.url, ["kite.v1", `kite.token.${found.token}`])).toBe("token_expired");
});

test("no answer and no table but its own holds a private key, and no credential is in the log or the database", async () => {
  const { joinToken } = await gateway.kontrol.joinTokens.create({ username: "alice", purpose: "planted" });
  const { kiteKey } = await asking(mesh).registerMachine({ joinToken });
  const { token } = await alice.kontrol.getToken({ query: { name: "kontrol" } });
  const jwks = await (await fetch(`${mesh.kontrol.url}/.well-known/jwks.json`)).text();
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query(
    "select table_name from information_schema.tables where table_schema = 'kontrol' and table_name <> 'keys'",
  );
  const dump: string[] = [];
  for (const { table_name } of rows) dump.push(JSON.stringify((await client.query(`select * from kontrol.${table_name}`)).rows));
  const { d } = (await client.query("select private_jwk as jwk from kontrol.keys")).rows[0].jwk;
  await client.end();

  const everything = [jwks, JSON.stringify(await alice.kontrol.getKey()), ...dump, ...logged].join("\n");

  expect(d).toMatch(/^[\w-]{43}$/);
  for (const secret of [d, joinToken, kiteKey.split(".")[2], token.split(".")[2]]) expect(everything).not.toContain(secret);
});
