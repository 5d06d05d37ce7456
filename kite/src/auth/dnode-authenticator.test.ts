import { type CryptoKey, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import { testCaller, testIdentity } from "../testing.ts";
import { dnodeAuthenticator } from "./dnode-authenticator.ts";
import { KeySet } from "./key-set.ts";
import { parseKiteKey, verifyKiteKey } from "./kite-key.ts";
import { Revocations } from "./revocations.ts";

interface Pair {
  readonly privateKey: CryptoKey;
  readonly pem: string;
}

let old: Pair;
let other: Pair;
let edwards: Pair;
let keys: KeySet;

const audience = testIdentity({ username: "alice", environment: "dev", name: "math", id: "id-1" });
const NOW = 1_795_201_323_000;

beforeAll(async () => {
  [old, other, edwards] = await Promise.all([pair("RS256"), pair("RS256"), pair("EdDSA")]);
  keys = new KeySet({
    trusted: [
      { kid: "ed", alg: "EdDSA", pem: edwards.pem },
      { kid: "first", alg: "RS256", pem: other.pem },
      { kid: "second", alg: "RS256", pem: old.pem },
    ],
  });
});

describe("a token of the original's", () => {
  test("makes its kite's own user the owner, and everybody else a viewer, whatever they claim", async () => {
    const claimed = testIdentity({ username: "root" });
    const [alice, bob] = await Promise.all(
      ["alice", "bob"].map(async (sub) => authenticator()({ type: "token", key: await token({ sub }) }, claimed)),
    );

    expect(alice).toMatchObject({ username: "alice", role: "owner", kite: { username: "alice" }, expiresAt: 1_795_374_423_000 });
    expect(bob).toMatchObject({
      username: "bob",
      role: "viewer",
      kite: { username: "bob" },
      credential: { type: "token", jti: "def8511e" },
    });
  });

  test("is good when one of kontrol's keys signed it, named or not", async () => {
    const named = await sign(claims(), old, { kid: "second" });
    const unnamed = await sign(claims(), other);

    expect(await authenticator()({ type: "token", key: named }, undefined)).toMatchObject({ role: "owner" });
    expect(await authenticator()({ type: "token", key: unnamed }, undefined)).toMatchObject({ role: "owner" });
  });

  test.each([
    ["/alice", undefined],
    ["/alice/dev", undefined],
    ["/alice/dev/math", undefined],
    ["/alice/dev/math/1.0.0/here/host/id-1", undefined],
    ["/bob", 'token: audience: username "bob" not allowed (/bob)'],
    ["/alice/prod/math", 'token: audience: environment "prod" not allowed (/alice/prod/math)'],
    ["/alice/dev/other", 'token: audience: kite "other" not allowed (/alice/dev/other)'],
    ["/alice/dev/math/1.0.0/here/host/id-2", 'token: audience: id "id-2" not allowed (/alice/dev/math/1.0.0/here/host/id-2)'],
    ["alice/dev/math", "token: invalid audience: invalid kite string (alice/dev/math)"],
    ["/", "token: audience: it names no user, and would be good for every kite (/)"],
    ["//dev/math", "token: audience: it names no user, and would be good for every kite (//dev/math)"],
    ["", "token: token has no audience"],
  ])("for %j: %s", async (aud, words) => {
    const asked = authenticator()({ type: "token", key: await token({ aud }) }, undefined);

    if (words === undefined) expect(await asked).toMatchObject({ role: "owner" });
    else await expect(asked).rejects.toMatchObject({ code: "unauthenticated", message: words });
  });

  test.each<[string, Record<string, unknown>, string, string]>([
    ["that ended 11 s ago", { exp: NOW / 1000 - 11 }, "token_expired", "token: token is expired by 11s"],
    ["that has no end", { exp: undefined }, "unauthenticated", "token: token has no end"],
    ["that has not begun", { nbf: NOW / 1000 + 60 }, "unauthenticated", "token: token is not valid yet"],
    ["from the future", { iat: NOW / 1000 + 60 }, "unauthenticated", "token: Token used before issued"],
    ["of nobody", { sub: undefined }, "unauthenticated", "token: token has no username"],
    ["by another name", { iss: "evil" }, "unauthenticated", "token: issuer is not trusted: evil"],
  ])("%s is refused", async (_, changed, code, message) => {
    await expect(authenticator()({ type: "token", key: await token(changed) }, undefined)).rejects.toMatchObject({ code, message });
  });

  test("by a key that is not known counts as expired, so that its bearer asks for a new one", async () => {
    const evil = await pair("RS256");
    const unnamed = await sign(claims(), evil);
    const named = await sign(claims(), evil, { kid: "gone" });

    for (const key of [unnamed, named]) {
      await expect(authenticator()({ type: "token", key }, undefined)).rejects.toMatchObject({
        code: "token_expired",
        message: expect.stringContaining("token: token is expired: "),
      });
    }
  });

  test("is signed with RS256 or not at all", async () => {
    const key = await sign(claims(), edwards, { kid: "ed", alg: "EdDSA" });

    await expect(authenticator()({ type: "token", key }, undefined)).rejects.toMatchObject({
      message: expect.stringContaining("invalid signing method"),
    });
  });

  test("that was revoked is refused", async () => {
    const revocations = new Revocations({ kiteId: audience.id, now: () => NOW });
    revocations.add({ jti: "def8511e", reason: "lost", at: NOW, revision: "1" });

    await expect(authenticator(revocations)({ type: "token", key: await token({}) }, undefined)).rejects.toMatchObject({
      message: "token: the token of alice was revoked: lost",
    });
  });
});

test("a token that names a role is judged as in kite.v1", async () => {
  const tokens = async () => testCaller({ role: "operator" });
  const authenticate = dnodeAuthenticator({ keys, issuer: "kontrol", audience, ownKey: "jti", tokens, now: () => NOW });

  expect(await authenticate({ type: "token", key: await token({ role: "operator", aud: "/" }) }, undefined)).toMatchObject({
    role: "operator",
  });
});

describe("a kite.key of the original's", () => {
  test("is read as one's own, and its key verifies what its kontrol signs", async () => {
    const own = await parseKiteKey(await kiteKey("alice"));

    expect(own).toMatchObject({ username: "alice", issuer: "kontrol", kontrolKey: { kid: "", alg: "RS256", pem: old.pem } });
    const trusting = new KeySet({ trusted: [own.kontrolKey] });
    expect(await verifyKiteKey(await kiteKey("bob"), { keys: trusting, issuer: "kontrol" })).toMatchObject({ username: "bob" });
  });

  test("of this kite's user that is not the kite's own is refused: it may have been revoked before anybody here can remember", async () => {
    const key = await kiteKey("alice", { jti: "another" });

    await expect(authenticator()({ type: "kiteKey", key }, undefined)).rejects.toMatchObject({
      code: "unauthenticated",
      message: expect.stringContaining("kiteKey: a kite accepts the kite.key that it lives by itself"),
    });
  });

  test.each([true, "yes", null])(
    "of a machine (%j) lets its bearer look, and no more: whoever works there can read it",
    async (machine) => {
      const key = await kiteKey("alice", { machine });

      expect(await authenticator()({ type: "kiteKey", key }, undefined)).toMatchObject({ username: "alice", role: "viewer" });
    },
  );

  test("makes its user the owner of that user's kites, and nothing of others'", async () => {
    expect(await authenticator()({ type: "kiteKey", key: await kiteKey("alice") }, undefined)).toMatchObject({
      username: "alice",
      role: "owner",
    });

    await expect(authenticator()({ type: "kiteKey", key: await kiteKey("bob") }, undefined)).rejects.toMatchObject({
      code: "unauthenticated",
      message: expect.stringContaining("kiteKey: a kite.key is accepted by its own user's kites"),
    });
  });

  test("that was revoked is refused", async () => {
    const revocations = new Revocations({ kiteId: audience.id, now: () => NOW });
    revocations.add({ username: "alice", reason: "left", at: NOW, revision: "1" });

    await expect(authenticator(revocations)({ type: "kiteKey", key: await kiteKey("alice") }, undefined)).rejects.toThrow(
      "was revoked: left",
    );
  });
});

function authenticator(revocations?: Revocations) {
  const tokens = async () => testCaller({ username: "never", role: undefined });
  return dnodeAuthenticator({ keys, issuer: "kontrol", audience, ownKey: "jti", tokens, revocations, now: () => NOW });
}

async function pair(alg: "RS256" | "EdDSA"): Promise<Pair> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, pem: (await exportSPKI(publicKey)).trim() };
}

/** As captured from the original kontrol. */
function claims(): Record<string, unknown> {
  return {
    aud: "/alice/dev/math",
    exp: 1_795_374_423,
    jti: "def8511e",
    iat: 1_795_201_023,
    iss: "kontrol",
    nbf: 1_795_201_023,
    sub: "alice",
  };
}

function token(changed: Record<string, unknown>): Promise<string> {
  return sign({ ...claims(), ...changed }, old);
}

function kiteKey(sub: string, more: Record<string, unknown> = {}): Promise<string> {
  const own = { iss: "kontrol", sub, iat: 1_795_201_023, jti: "jti", kontrolURL: "http://127.0.0.1:4000/kite", kontrolKey: old.pem };
  return sign({ ...own, ...more }, old);
}

function sign(payload: Record<string, unknown>, by: Pair, header: { kid?: string; alg?: string } = {}): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: "RS256", typ: "JWT", ...header }).sign(by.privateKey);
}
