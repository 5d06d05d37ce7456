import { type CryptoKey, compactVerify, decodeProtectedHeader } from "jose";
import { KiteError } from "../errors.ts";

/** How kontrol may sign: EdDSA by default, RS256 for kites that can only verify that. Nothing else is read, `none` least of all. */
export const ALGORITHMS = ["EdDSA", "RS256"] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** Where public keys come from, by the id in the header of what they signed. */
export interface KeyLookup {
  find(kid: string, alg: Algorithm): Promise<CryptoKey | undefined>;
}

/** What was signed, and with which key. The claims were not looked at yet. */
export interface Signed {
  readonly kid: string;
  readonly claims: Readonly<Record<string, unknown>>;
}

/**
 * Makes sure that a JWT was signed by a key of the lookup. `what` names it in errors, which never contain it.
 *
 * @throws {KiteError} `unauthenticated`, with what is wrong.
 */
export async function verifySigned(jwt: string, keys: KeyLookup, what: string): Promise<Signed> {
  const { kid, alg } = readHeader(jwt, what);
  const key = await keys.find(kid, alg);
  if (key === undefined)
    throw wrongKey(`the ${what} was signed with the ${alg} key ${quote(kid)}, which is not a key of this kite's kontrol`);
  let payload: Uint8Array;
  try {
    ({ payload } = await compactVerify(jwt, key, { algorithms: [alg] }));
  } catch (cause) {
    throw wrongKey(`the signature of the ${what} is not by the key ${quote(kid)} that it names`, cause);
  }
  return { kid, claims: parseObject(new TextDecoder().decode(payload), what) };
}

/**
 * As {@link verifySigned}, for what the original Kite signed: always RS256, and without the name of the key.
 *
 * @throws {KiteError} `unauthenticated`, with what is wrong.
 */
export async function verifyUnnamed(jwt: string, keys: readonly CryptoKey[], what: string): Promise<Signed> {
  readHeader(jwt, what, "");
  for (const key of keys) {
    const verified = await compactVerify(jwt, key, { algorithms: ["RS256"] }).catch(() => undefined);
    if (verified !== undefined) return { kid: "", claims: parseObject(new TextDecoder().decode(verified.payload), what) };
  }
  throw wrongKey(`the ${what} was signed by none of the ${keys.length} RS256 keys of this kite's kontrol`);
}

/** By which a credential that a kontrol of long ago may have signed, or a stranger, is told from one that says something wrong. */
export const WRONG_KEY = "wrong_key";

/**
 * The header of a JWT, as far as it is needed to find the key. Nothing of it is verified. `unnamed` is the id of the key where
 * the header names none, as in what the original Kite signed; left out, a name must be there.
 */
export function readHeader(jwt: string, what: string, unnamed?: string): { kid: string; alg: Algorithm } {
  if (jwt.length > MAX_LENGTH) throw refused(`a ${what} has at most ${MAX_LENGTH} characters, got ${jwt.length}`);
  const parts = jwt.split(".").length;
  if (parts !== 3) throw refused(`a ${what} is a signed JWT of 3 parts, got ${jwt === "" ? "nothing" : `${parts}`}`);
  let header: { kid?: unknown; alg?: unknown };
  try {
    header = decodeProtectedHeader(jwt);
  } catch (cause) {
    throw refused(`the header of the ${what} cannot be read`, cause);
  }
  const alg = ALGORITHMS.find((allowed) => allowed === header.alg);
  if (alg === undefined)
    throw refused(`the ${what} says that it is signed by ${quote(header.alg)}; only ${ALGORITHMS.join(" and ")} are accepted`);
  if (header.kid === undefined && alg === "RS256" && unnamed !== undefined) return { kid: unnamed, alg };
  if (typeof header.kid !== "string" || header.kid === "") throw refused(`the ${what} does not name the key that signed it (kid)`);
  return { kid: header.kid, alg };
}

/** A claim that must be a string with something in it. */
export function stringClaim(claims: Signed["claims"], name: string, what: string): string {
  const value = claims[name];
  if (typeof value !== "string" || value === "") throw refused(`the ${what} has no ${name}`);
  return value;
}

/** A claim that must be a time; JWTs count seconds, everything here counts milliseconds. */
export function timeClaim(claims: Signed["claims"], name: string, what: string): number {
  const value = claims[name];
  if (typeof value !== "number" || !Number.isFinite(value)) throw refused(`the ${what} has no ${name}`);
  return value * 1000;
}

/** The error for a credential that is not accepted. */
export function refused(message: string, cause?: unknown): KiteError {
  return new KiteError("unauthenticated", message, { cause });
}

function wrongKey(message: string, cause?: unknown): KiteError {
  return new KiteError("unauthenticated", message, { cause, reason: WRONG_KEY });
}

/** Prints what a stranger sent, shortened: an error must not carry more than it explains. */
export function quote(value: unknown): string {
  return JSON.stringify(typeof value === "string" ? value.slice(0, 200) : (value ?? null));
}

// A token has about 500 characters and a kite.key with an RSA key 1,300; a larger one costs work and is a mistake or an attack.
const MAX_LENGTH = 8_192;

function parseObject(text: string, what: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw refused(`the claims of the ${what} are not JSON`, cause);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw refused(`the claims of the ${what} are not an object`);
  return value as Record<string, unknown>;
}
