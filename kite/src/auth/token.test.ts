import { exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import { formatIdentity, type Identity } from "../identity.ts";
import { KeySet } from "./key-set.ts";
import { Revocations } from "./revocations.ts";
import type { Algorithm, KeyLookup } from "./signed.ts";
import { tokenAuthenticator, verifyToken } from "./token.ts";

const math: Identity = {
  username: "alice",
  environment: "dev",
  name: "math",
  version: "1.0.0",
  region: "eu",
  hostname: "host1",
  id: "5f0c",
};
const NOW = Date.UTC(2026, 0, 1, 12);
const AT = NOW / 1000;

type Pair = Awaited<ReturnType<typeof generateKeyPair>>;
let edwards: Pair;
let rsa: Pair;
let stranger: Pair;
let keys: KeySet;

beforeAll(async () => {
  [edwards, rsa, stranger] = await Promise.all([
    generateKeyPair("EdDSA", { extractable: true }),
    generateKeyPair("RS256", { extractable: true }),
    generateKeyPair("EdDSA", { extractable: true }),
  ]);
  keys = new KeySet({
    trusted: [
      { kid: "ed", alg: "EdDSA", pem: await exportSPKI(edwards.publicKey) },
      { kid: "rsa", alg: "RS256", pem: await exportSPKI(rsa.publicKey) },
    ],
  });
});

describe("a token", () => {
  test.each<[Algorithm, string]>([
    ["EdDSA", "ed"],
    ["RS256", "rsa"],
  ])("that kontrol signed with %s for this kite says who calls, as what and until when", async (alg, kid) => {
    const verified = await verify(await token({ methods: ["square"] }, { alg, kid, key: alg === "RS256" ? rsa : edwards }));

    expect(verified).toEqual({
      username: "bob",
      role: "viewer",
      methods: ["square"],
      jti: "token-1",
      kid,
      issuedAt: NOW,
      expiresAt: NOW + 600_000,
    });
  });

  test.each<[string, Record<string, unknown>, string]>([
    ["for another kite", { aud: formatIdentity({ ...math, name: "other" }) }, "this kite is"],
    ["for an older instance of this kite", { aud: formatIdentity({ ...math, id: "0000" }) }, "this kite is"],
    ["for everybody", { aud: "/" }, 'the token is for "/"; this kite is "/alice/dev/math/1.0.0/eu/host1/5f0c"'],
    ["for the start of the path", { aud: "/alice/dev/math" }, "this kite is"],
    ["for several kites", { aud: [formatIdentity(math), "/"] }, "has no aud"],
    ["for nobody", { aud: undefined }, "has no aud"],
    ["by another issuer", { iss: "evil" }, 'the token is by "evil"; this kite trusts "kontrol"'],
    ["without a user", { sub: "" }, "has no sub"],
    ["without an id", { jti: undefined }, "has no jti"],
    ["without an end", { exp: undefined }, "has no exp"],
    ["with an end that is a word", { exp: "never" }, "has no exp"],
    ["without a role", { role: undefined }, "one of viewer, operator, owner, got null"],
    ["with a role that does not exist", { role: "root" }, 'got "root"'],
    ["with methods that are no list", { methods: "all" }, "not a list of names"],
    ["that is not valid yet", { nbf: AT + 120 }, "valid in 120 s"],
    ["from the future", { iat: AT + 120 }, "valid in 120 s"],
  ])("%s is refused", async (_title, claims, reason) => {
    await expect(verify(await token(claims))).rejects.toMatchObject({ code: "unauthenticated", message: expect.stringContaining(reason) });
  });

  test("that is too old is refused as expired, with its age", async () => {
    const old = await token({ iat: AT - 1200, nbf: AT - 1200, exp: AT - 600 });

    await expect(verify(old)).rejects.toMatchObject({ code: "token_expired", message: expect.stringContaining("expired 600 s ago") });
  });

  test("is accepted while clocks differ by less than half a minute", async () => {
    await expect(verify(await token({ exp: AT - 29 }))).resolves.toBeDefined();
    await expect(verify(await token({ nbf: AT + 29, iat: AT + 29 }))).resolves.toBeDefined();
    await expect(verify(await token({ exp: AT - 31 }))).rejects.toMatchObject({ code: "token_expired" });
  });

  test("that nobody signed is refused", async () => {
    const unsigned = new UnsecuredJWT(claimsFor({})).encode();

    await expect(verify(unsigned)).rejects.toMatchObject({ message: expect.stringContaining("only EdDSA and RS256 are accepted") });
  });

  test("signed by a stranger in kontrol's name is refused", async () => {
    await expect(verify(await token({}, { key: stranger }))).rejects.toMatchObject({
      message: expect.stringContaining("is not by the key"),
    });
    await expect(verify(await token({}, { key: stranger, kid: "mine" }))).rejects.toMatchObject({
      message: expect.stringContaining("not a key of this kite's kontrol"),
    });
    await expect(verify(await token({}, { kid: undefined }))).rejects.toMatchObject({ message: expect.stringContaining("(kid)") });
  });

  test("signed with the public key as a secret is refused", async () => {
    const secret = new TextEncoder().encode(await exportSPKI(rsa.publicKey));
    const forged = await new SignJWT(claimsFor({})).setProtectedHeader({ alg: "HS256", kid: "rsa" }).sign(secret);

    await expect(verify(forged)).rejects.toMatchObject({ message: expect.stringContaining('signed by "HS256"') });
  });

  test("whose algorithm is not that of the key it names is refused", async () => {
    await expect(verify(await token({}, { alg: "RS256", key: rsa, kid: "ed" }))).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test.each([
    ["", "got nothing"],
    ["abc", "got 1"],
    ["a.b.c", "header of the token cannot be read"],
    ["x".repeat(10_000), "at most 8192 characters"],
  ])("that is no JWT is refused: %.10s", async (text, reason) => {
    await expect(verify(text)).rejects.toMatchObject({ code: "unauthenticated", message: expect.stringContaining(reason) });
  });

  test("is in no error", async () => {
    for (const bad of [await token({ aud: "/" }), await token({ exp: AT - 600 }), await token({}, { key: stranger })]) {
      const error: Error = await verify(bad).catch((thrown) => thrown);

      expect(error.message).not.toContain(bad.split(".")[2]);
    }
  });
});

describe("the authenticator of a kite", () => {
  test("believes the token, and of the claims only what the token does not decide", async () => {
    const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: math, now: () => NOW });
    const claimed: Identity = { ...math, username: "root", name: "cli" };

    const caller = await authenticate({ type: "token", key: await token({}) }, claimed);

    expect(caller).toEqual({
      username: "bob",
      role: "viewer",
      kite: { ...claimed, username: "bob" },
      expiresAt: NOW + 600_000,
      methods: undefined,
      credential: { type: "token", jti: "token-1", kid: "ed", issuedAt: NOW },
    });
  });

  test("gives a caller without a credential no role", async () => {
    const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: math });

    const caller = await authenticate(undefined, { ...math, username: "root" });

    expect(caller).toMatchObject({ username: "anonymous", role: undefined, kite: { username: "anonymous" }, credential: undefined });
  });

  test("refuses credentials of other types, and says which it takes", async () => {
    const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: math });

    await expect(authenticate({ type: "kiteKey", key: "…" }, undefined)).rejects.toMatchObject({
      code: "unauthenticated",
      message: expect.stringContaining('(auth type "token"), got "kiteKey"'),
    });
  });

  test("verifies a token once, and notices when a known one expires", async () => {
    let now = NOW;
    let asked = 0;
    const counting: KeyLookup = { find: (kid, alg) => keys.find(kid, alg).finally(() => asked++) };
    const authenticate = tokenAuthenticator({ keys: counting, issuer: "kontrol", audience: math, now: () => now });
    const auth = { type: "token", key: await token({}) };

    await Promise.all(Array.from({ length: 20 }, () => authenticate(auth, undefined)));
    await authenticate(auth, undefined);
    expect(asked).toBe(1);

    now += 700_000;
    await expect(authenticate(auth, undefined)).rejects.toMatchObject({ code: "token_expired" });
  });

  test("a token that was refused once is not remembered as good", async () => {
    let trusts = false;
    const late: KeyLookup = { find: async (kid, alg) => (trusts ? keys.find(kid, alg) : undefined) };
    const authenticate = tokenAuthenticator({ keys: late, issuer: "kontrol", audience: math, now: () => NOW });
    const auth = { type: "token", key: await token({}) };
    await expect(authenticate(auth, undefined)).rejects.toMatchObject({ code: "unauthenticated" });

    trusts = true;

    await expect(authenticate(auth, undefined)).resolves.toMatchObject({ username: "bob" });
  });

  test("refuses a revoked token until its holder has a newer one", async () => {
    const revocations = new Revocations({ kiteId: math.id, now: () => NOW });
    const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: math, now: () => NOW, revocations });
    const before = { type: "token", key: await token({}) };
    await authenticate(before, undefined);

    revocations.add({ revision: "1", username: "bob", reason: "the grant ended", at: NOW + 10 });

    await expect(authenticate(before, undefined)).rejects.toMatchObject({ message: expect.stringContaining("the grant ended") });
    const after = { type: "token", key: await token({ iat: AT + 1 }) };
    await expect(authenticate(after, undefined)).resolves.toMatchObject({ username: "bob" });
  });
});

test("a token of a kontrol that was cut off is refused, and one of a kontrol whose clock is behind is not", async () => {
  const revocations = new Revocations({ kiteId: math.id, now: () => NOW });
  const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: math, now: () => NOW, revocations });
  revocations.add({ revision: "7", username: "bob", reason: "the grant ended", at: NOW - 5_000 });

  const stale = { type: "token", key: await token({ rev: 6, iat: AT }) };
  const good = { type: "token", key: await token({ rev: 7, iat: AT - 20 }) };
  const restored = { type: "token", key: await token({ rev: 7_000, iat: AT - 100 }) };
  const odd = { type: "token", key: await token({ rev: "7" }) };

  await expect(authenticate(stale, undefined)).rejects.toMatchObject({ message: expect.stringContaining("the grant ended") });
  await expect(authenticate(good, undefined)).resolves.toMatchObject({ username: "bob", credential: { revision: 7 } });
  await expect(authenticate(restored, undefined)).rejects.toMatchObject({ code: "unauthenticated" });
  await expect(authenticate(odd, undefined)).rejects.toMatchObject({ message: expect.stringContaining("not a whole number") });
});

test("a flood of revocations makes no kite accept a token again that was revoked before it", async () => {
  const revocations = new Revocations({ kiteId: math.id, now: () => NOW });
  const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: math, now: () => NOW, revocations });
  const stolen = { type: "token", key: await token({ rev: 6 }) };
  const newer = { type: "token", key: await token({ rev: 20_000 }) };
  revocations.add({ revision: "7", jti: "token-1", reason: "stolen", at: NOW });

  for (let n = 0; n < 10_000; n++) revocations.add({ revision: String(8 + n), jti: `flood-${n}`, reason: "again", at: NOW });

  await expect(authenticate(stolen, undefined)).rejects.toMatchObject({ code: "unauthenticated" });
  expect(await authenticate(newer, undefined)).toMatchObject({ username: "bob" });
});

describe("revocations", () => {
  const bob = { username: "bob", jti: "token-1", issuedAt: NOW };

  test("name a credential by every field that they give", () => {
    const list = new Revocations({ kiteId: "5f0c", now: () => NOW });

    list.add({ revision: "1", username: "carol", reason: "removed" });
    list.add({ revision: "2", username: "bob", jti: "token-2", reason: "lost" });
    list.add({ revision: "3", username: "bob", kite: "another", reason: "grant ended" });
    list.add({ revision: "4", reason: "names nothing" });
    expect(list.find(bob)).toBeUndefined();

    list.add({ revision: "5", jti: "token-1", reason: "stolen" });
    expect(list.find(bob)).toMatchObject({ reason: "stolen" });
  });

  test("are forgotten when every token of their time has expired", () => {
    let now = NOW;
    const list = new Revocations({ kiteId: "5f0c", now: () => now });
    list.add({ revision: "1", username: "bob", reason: "removed" });

    now += 61 * 60_000;
    list.add({ revision: "2", username: "carol", reason: "removed" });

    expect(list.find(bob)).toBeUndefined();
  });
});

function verify(text: string) {
  return verifyToken(text, { keys, issuer: "kontrol", audience: math, now: () => NOW });
}

function claimsFor(claims: Record<string, unknown>): Record<string, unknown> {
  const usual = { iss: "kontrol", sub: "bob", aud: formatIdentity(math), iat: AT, nbf: AT, exp: AT + 600, jti: "token-1", role: "viewer" };
  return Object.fromEntries(Object.entries({ ...usual, ...claims }).filter(([, value]) => value !== undefined));
}

function token(claims: Record<string, unknown>, how: { alg?: Algorithm; kid?: string | undefined; key?: Pair } = {}): Promise<string> {
  const { alg = "EdDSA", key = edwards } = how;
  const kid = "kid" in how ? how.kid : "ed";
  return new SignJWT(claimsFor(claims)).setProtectedHeader(kid === undefined ? { alg } : { alg, kid }).sign(key.privateKey);
}
