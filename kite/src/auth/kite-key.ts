import { type CryptoKey, decodeJwt, importSPKI } from "jose";
import { KiteError } from "../errors.ts";
import type { TrustedKey } from "./key-set.ts";
import { type KeyLookup, quote, readHeader, refused, type Signed, stringClaim, timeClaim, verifySigned, verifyUnnamed } from "./signed.ts";

/** The long-lived credential of a user's kite, read. */
export interface KiteKey {
  /** The credential itself, as it is sent to kontrol and written to the file. Never print it. */
  readonly jwt: string;
  /** Whose kites it speaks for. */
  readonly username: string;
  /** The name under which its kontrol signs; tokens name the same. */
  readonly issuer: string;
  /** By which it can be revoked. */
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  /** A machine's: whoever works there can read it, so it opens less than its user's own. */
  readonly machine: boolean;
  readonly kontrolUrl: string;
  /** The key that signed it, with which tokens are verified until kontrol publishes another. */
  readonly kontrolKey: TrustedKey;
}

/** What kontrol signs, with the id of its key as `kid` in the header. It has no end and no audience. */
export interface KiteKeyClaims {
  iss: string;
  sub: string;
  /** Seconds since the epoch. */
  iat: number;
  jti: string;
  machine?: true;
  kontrolURL: string;
  /** SPKI PEM. */
  kontrolKey: string;
}

/**
 * Reads one's own kite.key, and makes sure that it is whole: it must be signed by the key that it contains. That shows
 * that it was not cut or changed by mistake; it is no reason to trust a stranger's, see {@link verifyKiteKey}.
 *
 * @throws {KiteError} `unauthenticated`, with what is wrong.
 * @example const { username, kontrolUrl } = await parseKiteKey(await readFile(path, "utf8"));
 */
export async function parseKiteKey(text: string): Promise<KiteKey> {
  const jwt = text.trim();
  const { kid, alg } = readHeader(jwt, WHAT, "");
  const find = () => importSPKI(claimedPem(jwt), alg);
  // The original's keys are RS256, and do not say by which key they were signed; here it is always the one inside.
  const verify = kid === "" ? async () => verifyUnnamed(jwt, [await find()], WHAT) : () => verifySigned(jwt, { find }, WHAT);
  return read(jwt, await verify().catch(explainPem));
}

/**
 * Decides whether a kite.key that a peer showed is one of this kontrol's: signed by a key of `keys`, and by that name.
 *
 * @throws {KiteError} `unauthenticated`, with what is wrong.
 * @example const { username } = await verifyKiteKey(auth.key, { keys, issuer: "kontrol" });
 */
export async function verifyKiteKey(text: string, { keys, issuer }: { keys: UnnamedLookup; issuer: string }): Promise<KiteKey> {
  const jwt = text.trim();
  const { kid } = readHeader(jwt, WHAT, keys.unnamed === undefined ? undefined : "");
  const kiteKey = read(
    jwt,
    kid === "" ? await verifyUnnamed(jwt, (await keys.unnamed?.()) ?? [], WHAT) : await verifySigned(jwt, keys, WHAT),
  );
  if (kiteKey.issuer !== issuer) throw refused(`the kite.key is by ${quote(kiteKey.issuer)}; this kontrol is ${quote(issuer)}`);
  return kiteKey;
}

/** Keys by their names and, where the original's kite.keys are accepted, those that sign without one. */
interface UnnamedLookup extends KeyLookup {
  unnamed?(): Promise<readonly CryptoKey[]>;
}

const WHAT = "kite.key";

function read(jwt: string, { claims, kid }: Signed): KiteKey {
  // Tokens are signed with the same key. What has an audience or an end is a token, and must not open what a kite.key opens.
  if (claims["aud"] !== undefined || claims["exp"] !== undefined) throw refused("a kite.key has neither audience nor end; this is a token");
  const { alg } = readHeader(jwt, WHAT, "");
  return {
    jwt,
    username: stringClaim(claims, "sub", WHAT),
    issuer: stringClaim(claims, "iss", WHAT),
    id: stringClaim(claims, "jti", WHAT),
    issuedAt: timeClaim(claims, "iat", WHAT),
    // Whatever it says: a restriction that cannot be understood must not be read as none.
    machine: claims["machine"] !== undefined,
    kontrolUrl: kontrolUrl(stringClaim(claims, "kontrolURL", WHAT)),
    kontrolKey: { kid, alg, pem: stringClaim(claims, "kontrolKey", WHAT) },
  };
}

function kontrolUrl(text: string): string {
  const protocol = URL.canParse(text) ? new URL(text).protocol : "";
  if (/^(https?|wss?):$/.test(protocol)) return text;
  throw refused(`the kontrolURL of a kite.key is an address such as "http://127.0.0.1:4000", got ${quote(text)}`);
}

function claimedPem(jwt: string): string {
  let claims: Record<string, unknown>;
  try {
    claims = decodeJwt(jwt);
  } catch (cause) {
    throw refused("the claims of the kite.key cannot be read; was the file cut?", cause);
  }
  return stringClaim(claims, "kontrolKey", WHAT);
}

function explainPem(cause: unknown): never {
  if (cause instanceof KiteError) throw cause;
  throw refused("the kontrolKey of the kite.key is not a public key in PEM (SPKI)", cause);
}
