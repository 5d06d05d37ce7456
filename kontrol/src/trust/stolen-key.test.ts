import { formatIdentity, Kite, type Remote } from "@kite-mesh/kite";
import { decodeJwt, decodeProtectedHeader, importJWK, type JWK, SignJWT } from "jose";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract, SigningKeyInfo } from "../contract.ts";
import { startTestKontrol, type TestKontrol, type TestPerson, type WhoContract } from "../testing.ts";

// Somebody has read the private half of a signing key, from a backup perhaps, and makes of it what he likes.

vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 15_000 };
const DAY_S = 86_400;
const databaseUrl = await freshDatabase();
let home: TestKontrol;
let other: TestKontrol;
let alice: TestPerson;
/** Of whom the key that is stolen has signed the kite.key. */
let bob: TestPerson;
/** An administrator whose kite.key it has not signed. */
let root: Remote<KontrolContract>;
let kite: Kite;
let kid: string;
let stolen: JWK;

beforeAll(async () => {
  [home, other] = [await startTestKontrol(databaseUrl), await startTestKontrol(databaseUrl)];
  bob = await home.person("bob");
  kid = (await home.root.keys.list())[0]?.kid as string;
  stolen = await privateHalf(kid);
  await home.root.keys.add();
  root = shown(await home.kontrol.issueKey("root"), home);
  alice = await home.person("alice");
  kite = alice.kite({ name: "safe" });
  await kite.listen();
  await kite.register();
}, 60_000);
afterAll(async () => {
  for (const kontrol of [other, home]) await kontrol[Symbol.asyncDispose]();
});

test("a thief of a signing key makes tokens and kite.keys, until it is retired at once: then nothing of it is believed anywhere", async () => {
  const forgedKey = await sign({ ...decodeJwt(bob.kiteKey), iat: Math.floor(Date.now() / 1000) });
  const inside = at(kite, await tokenFor(kite));
  expect(await inside.who()).toEqual({ username: "alice", role: "owner" });
  const asBob = shown(forgedKey, other);
  const { token: laundered } = await asBob.getToken({ query: { name: "kontrol" } });
  expect(decodeProtectedHeader(laundered).kid).not.toBe(kid);
  expect(await shown(laundered, home, "token").whoami()).toMatchObject({ username: "bob" });

  const retired = await root.keys.retire({ kid, now: true });

  // Those of bob, and of the administrator at both kontrols.
  expect(retired).toMatchObject({ retired: true, kiteKeys: 3 });
  await vi.waitFor(() => expect([...kite.sessions]).toEqual([]), LONG);
  await expect(inside.who()).rejects.toThrow();
  // The other kontrol hears of it from the log.
  await vi.waitFor(() => expect(asBob.whoami()).rejects.toThrow(), LONG);
  const refused: (() => Promise<unknown>)[] = [
    async () => at(kite, await tokenFor(kite)).who(),
    ...[home, other].flatMap((kontrol) => [
      () => shown(forgedKey, kontrol).whoami(),
      () => shown(bob.kiteKey, kontrol).whoami(),
      () => shown(laundered, kontrol, "token").whoami(),
    ]),
  ];
  for (const call of refused) await expect(call()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("what other keys signed is as good as before: kites stay, and callers come back with new tokens", async () => {
  const { keys } = await alice.kontrol.getKey();
  const { token } = await alice.kontrol.getToken({ query: { name: "safe" } });

  expect(keys.map((key) => key.kid)).not.toContain(kid);
  expect(await published(other)).toEqual(await published(home));
  expect(await published(home)).not.toContain(kid);
  expect(await at(kite, token).who()).toEqual({ username: "alice", role: "owner" });
  expect(await alice.kontrol.why({ id: kite.identity.id })).toMatchObject({ state: "present" });
});

test("a kontrol that starts later, and a kite that registers then, know the key for revoked", async () => {
  await using later = await startTestKontrol(databaseUrl);
  const late = alice.kite({ name: "late", kontrolUrl: later.kontrol.url });
  await late.listen();
  await late.register();

  await expect(at(late, await tokenFor(late)).who()).rejects.toMatchObject({ code: "unauthenticated" });
  expect(await state(later, kid)).toBe("revoked");
});

test("a kite that came with a kite.key by that key leaves the directory, and says why", async () => {
  const { kid: next } = await root.keys.add();
  const gone = (await home.person("carol")).kite({ name: "gone" });
  await gone.listen();
  await gone.register();
  await root.keys.add();

  await root.keys.retire({ kid: next, now: true });

  const why = { state: "gone", reason: "the key that signed its kite.key was revoked" };
  await vi.waitFor(async () => expect(await root.why({ id: gone.identity.id })).toMatchObject(why), LONG);
});

test("a key that was retired before can be ended at once, the only active one of its kind cannot, and one that has ended is no key", async () => {
  const [active, ...others] = (await root.keys.list()).filter((key) => key.state === "active");
  for (const key of others) await root.keys.retire({ kid: key.kid });

  await expect(root.keys.retire({ kid: active?.kid as string, now: true })).rejects.toMatchObject({
    code: "failed_precondition",
    message: expect.stringContaining("add another one"),
  });
  expect(await root.keys.retire({ kid, now: true })).toEqual({ retired: false, refusedAfter: null, kiteKeys: 0 });
  await expect(root.keys.retire({ kid, ...({ nwo: true } as object) })).rejects.toMatchObject({ code: "invalid_argument" });
});

/** As kontrol would sign it, for longer, and as if it knew of all that will ever be revoked. */
function tokenFor({ identity }: Kite): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const times = { iat: now, nbf: now, exp: now + DAY_S };
  return sign({ iss: "kontrol", sub: "alice", aud: formatIdentity(identity), role: "owner", rev: 1e9, jti: "forged", ...times });
}

async function sign(claims: object): Promise<string> {
  return new SignJWT({ ...claims }).setProtectedHeader({ alg: "EdDSA", kid, typ: "JWT" }).sign(await importJWK(stolen, "EdDSA"));
}

async function privateHalf(id: string): Promise<JWK> {
  const [row] = await query("select private_jwk from kontrol.keys where kid = $1", [id]);
  return row?.["private_jwk"] as JWK;
}

async function query(text: string, values: unknown[]): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query(text, values)).rows;
  } finally {
    await client.end();
  }
}

async function published(kontrol: TestKontrol): Promise<string[]> {
  const { keys } = (await (await fetch(`${kontrol.kontrol.url}/.well-known/jwks.json`)).json()) as { keys: { kid: string }[] };
  return keys.map((key) => key.kid);
}

async function state(kontrol: TestKontrol, id: string): Promise<SigningKeyInfo["state"] | undefined> {
  return (await kontrol.root.keys.list()).find((key) => key.kid === id)?.state;
}

function shown(key: string, { kontrol }: TestKontrol, type = "kiteKey"): Remote<KontrolContract> {
  const asking = home.closing(new Kite({ name: "asking", version: "1.0.0" }));
  return home.closing(asking.dial<KontrolContract>({ url: kontrol.url, auth: { type, key } }));
}

function at({ url = "" }: Kite, key: string): Remote<WhoContract> {
  const thief = home.closing(new Kite({ name: "thief", version: "1.0.0" }));
  return home.closing(thief.dial<WhoContract>({ url, auth: { type: "token", key } }));
}
