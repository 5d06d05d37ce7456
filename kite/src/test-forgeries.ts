import { exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { dnodeAuthenticator } from "./auth/dnode-authenticator.ts";
import { KeySet } from "./auth/key-set.ts";
import { tokenAuthenticator } from "./auth/token.ts";
import { formatIdentity, type Identity } from "./identity.ts";
import type { Authenticate } from "./session/acceptor.ts";
import type { Auth } from "./session/handshake.ts";
import type { Mutator } from "./test-mutator.ts";

/** What looks like a token of kontrol's for this kite, and is none. */
export const FORGERIES = [
  "alg none",
  "alg none with a kid",
  "alg HS256 with the public key as its secret",
  "a key of its own in the header",
  "a kid that is a path",
  "a kid that is a property of every object",
  "a kid that is a query",
  "the kid of another algorithm's key",
  "a wrong aud",
  "an aud that is good for all",
  "another issuer",
  "an end long ago",
  "no role that there is",
  // Those without a role are judged by rules of their own in dnode, where a token need not name its key either.
  "no role and alg none",
  "no role and alg HS256 with the public key as its secret",
  "no role and a key of its own in the header",
  "no role and a kid that is a path",
  "no role and a kid that is a property of every object",
  "no role and a kid that is no text",
  "no role and the kid of another algorithm's key",
  "no role and a wrong aud",
  "no role and an aud that is good for all",
  "nothing",
] as const;

export type Forgery = (typeof FORGERIES)[number];

/** Who can prove what to a kite of this identity, and everything that proves nothing. */
export interface Credentials {
  readonly v1: Authenticate;
  readonly dnode: Authenticate;
  readonly owner: Auth;
  readonly viewer: Auth;
  /** The owner's, as the original signs it: without a role, and without the name of its key. For dnode alone. */
  readonly original: Auth;
  readonly forged: Readonly<Record<Forgery, string>>;
}

export async function credentials(audience: Identity): Promise<Credentials> {
  const [edwards, rsa, stranger, strangersRsa] = await Promise.all(
    (["EdDSA", "RS256", "EdDSA", "RS256"] as const).map((alg) => generateKeyPair(alg, { extractable: true })),
  );
  if (edwards === undefined || rsa === undefined || stranger === undefined || strangersRsa === undefined)
    throw new Error("four pairs of keys");
  const rsaPem = await exportSPKI(rsa.publicKey);
  const keys = new KeySet({
    trusted: [
      { kid: "ed", alg: "EdDSA", pem: await exportSPKI(edwards.publicKey) },
      { kid: "rsa", alg: "RS256", pem: rsaPem },
    ],
  });
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: "kontrol",
    sub: "mallory",
    aud: formatIdentity(audience),
    iat: now,
    nbf: now,
    exp: now + 3_600,
    jti: "j",
    role: "owner",
  };
  const sign = (changed: object, key: Parameters<SignJWT["sign"]>[0] = edwards.privateKey, header: object = {}) =>
    new SignJWT({ ...claims, ...changed }).setProtectedHeader({ alg: "EdDSA", kid: "ed", ...header }).sign(key);
  const own = { sub: audience.username };
  const original = { ...claims, ...own, role: undefined, aud: `/${audience.username}` };
  const signOriginal = (header: object, key: Parameters<SignJWT["sign"]>[0] = strangersRsa.privateKey, changed: object = {}) =>
    new SignJWT({ ...original, ...changed }).setProtectedHeader({ alg: "RS256", ...header }).sign(key);
  const v1 = tokenAuthenticator({ keys, issuer: "kontrol", audience });
  return {
    v1,
    dnode: dnodeAuthenticator({ keys, issuer: "kontrol", audience, ownKey: "own", tokens: v1 }),
    owner: { type: "token", key: await sign(own) },
    viewer: { type: "token", key: await sign({ role: "viewer" }) },
    original: { type: "token", key: await signOriginal({}, rsa.privateKey) },
    forged: {
      "alg none": new UnsecuredJWT({ ...claims, ...own }).encode(),
      "alg none with a kid": `${base64({ alg: "none", kid: "ed" })}.${base64({ ...claims, ...own })}.`,
      "alg HS256 with the public key as its secret": await sign(own, new TextEncoder().encode(rsaPem), { alg: "HS256", kid: "rsa" }),
      "a key of its own in the header": await sign(own, stranger.privateKey, { jwk: { kty: "OKP" }, jku: "http://127.0.0.1:9/keys" }),
      "a kid that is a path": await sign(own, stranger.privateKey, { kid: "../../../../dev/null" }),
      "a kid that is a property of every object": await sign(own, stranger.privateKey, { kid: "__proto__" }),
      "a kid that is a query": await sign(own, stranger.privateKey, { kid: "ed' or '1'='1" }),
      "the kid of another algorithm's key": await sign(own, edwards.privateKey, { kid: "rsa" }),
      "a wrong aud": await sign({ ...own, aud: formatIdentity({ ...audience, id: "other" }) }),
      "an aud that is good for all": await sign({ ...own, aud: "/" }),
      "another issuer": await sign({ ...own, iss: "evil" }),
      "an end long ago": await sign({ ...own, iat: now - 9_000, nbf: now - 9_000, exp: now - 8_000 }),
      "no role that there is": await sign({ ...own, role: "root" }),
      "no role and alg none": `${base64({ alg: "none" })}.${base64(original)}.`,
      "no role and alg HS256 with the public key as its secret": await signOriginal({ alg: "HS256" }, new TextEncoder().encode(rsaPem)),
      "no role and a key of its own in the header": await signOriginal({
        jwk: await exportJWK(strangersRsa.publicKey),
        jku: "http://127.0.0.1:9/keys",
      }),
      "no role and a kid that is a path": await signOriginal({ kid: "../../../../dev/null" }),
      "no role and a kid that is a property of every object": await signOriginal({ kid: "__proto__" }),
      "no role and a kid that is no text": await signOriginal({ kid: ["rsa"] }, rsa.privateKey),
      "no role and the kid of another algorithm's key": await signOriginal({ kid: "ed" }, rsa.privateKey),
      "no role and a wrong aud": await signOriginal({}, rsa.privateKey, { aud: "/mallory" }),
      "no role and an aud that is good for all": await signOriginal({}, rsa.privateKey, { aud: "/" }),
      nothing: "",
    },
  };
}

/** One of the forgeries, or the true credential with a character changed in what is signed. */
export function forge(by: Mutator, { forged, owner }: Credentials): Auth {
  if (by.oneIn(2))
    return { type: by.oneIn(8) ? by.pick(["kiteKey", "TOKEN", "", "password"]) : "token", key: by.pick(Object.values(forged)) };
  // The last characters hold bits that belong to nothing: changed, the token is as good as before.
  const at = by.below(owner.key.lastIndexOf("."));
  const other = by.pick([..."AQgw05-_.{"].filter((character) => character !== owner.key[at]));
  return { type: "token", key: owner.key.slice(0, at) + other + owner.key.slice(at + 1) };
}

function base64(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
