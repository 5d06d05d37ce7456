import { KiteError } from "../errors.ts";
import { formatIdentity, type Identity } from "../identity.ts";
import { type Caller, ROLES, type Role } from "../method.ts";
import type { Authenticate } from "../session/acceptor.ts";
import type { Revocations } from "./revocations.ts";
import { type KeyLookup, quote, refused, type Signed, stringClaim, timeClaim, verifySigned } from "./signed.ts";

/** What a token says, verified. */
export interface VerifiedToken {
  /** The caller. */
  readonly username: string;
  readonly role: Role;
  /** If set, the only methods that may be called with it. */
  readonly methods: readonly string[] | undefined;
  readonly jti: string;
  readonly kid: string;
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** What the kontrol that signed it knew of the mesh; undefined for one of a kontrol that does not say. */
  readonly revision: number | undefined;
}

/** What kontrol signs as a token, with the id of its key as `kid` in the header. */
export interface TokenClaims {
  iss: string;
  sub: string;
  /** The full path of the one kite that it is for. */
  aud: string;
  /** When it ends, in seconds since the epoch. */
  exp: number;
  /** When it was issued, in seconds since the epoch. */
  iat: number;
  /** Before this it is not good, in seconds since the epoch. */
  nbf: number;
  jti: string;
  role: Role;
  methods?: string[];
  /** The revision of the mesh by which it was signed: what was revoked later has revoked it. */
  rev?: number;
}

/** What a token has to be to let its bearer in. */
export interface TokenExpectations {
  /** Finds the public key under the id that a token names. */
  keys: KeyLookup;
  /** The name under which kontrol signs. */
  issuer: string;
  /** The kite that is called: a token for any other is refused. */
  audience: Identity;
  /** Milliseconds, as `Date.now`. */
  now?: () => number;
}

/**
 * Decides whether a token lets its bearer call this kite.
 *
 * @throws {KiteError} `token_expired` when all that is wrong with it is its age, else `unauthenticated` with the reason.
 * @example const { username, role } = await verifyToken(auth.key, { keys, issuer: "kontrol", audience: kite.identity });
 */
export async function verifyToken(token: string, expected: TokenExpectations): Promise<VerifiedToken> {
  const signed = await verifySigned(token, expected.keys, WHAT);
  checkIssuer(signed, expected.issuer);
  checkAudience(signed, expected.audience);
  const verified = readClaims(signed);
  checkTimes(signed, verified, expected.now ?? Date.now);
  return verified;
}

/**
 * Accepts callers who show a token of kontrol's for this kite, and callers who show nothing: only open methods answer those.
 *
 * @example const authenticate = tokenAuthenticator({ keys, issuer: "kontrol", audience: identity });
 */
export function tokenAuthenticator(options: TokenExpectations & { revocations?: Revocations }): Authenticate {
  const verify = rememberingVerifier(options);
  return async (auth, claimed) => {
    if (auth === undefined) return anonymous(claimed);
    if (auth.type !== "token")
      throw refused(`this kite accepts a token of kontrol's (auth type "token"), got ${quote(auth.type)}; ask kontrol with getToken`);
    const token = await verify(auth.key);
    const revoked = options.revocations?.find(token);
    if (revoked !== undefined) throw refused(`the token of ${token.username} was revoked: ${revoked.reason}`);
    if (options.revocations?.mayHaveForgotten(token))
      throw refused("more was revoked since the token was issued than this kite remembers; ask kontrol for a new one with getToken");
    return {
      username: token.username,
      role: token.role,
      kite: claimed === undefined ? undefined : { ...claimed, username: token.username },
      expiresAt: token.expiresAt,
      methods: token.methods,
      credential: { type: "token", jti: token.jti, kid: token.kid, issuedAt: token.issuedAt, revision: token.revision },
    };
  };
}

/**
 * A caller who showed no credential, with a name that no claim can change: only methods for `anyone` answer.
 *
 * @example
 * const withToken = tokenAuthenticator({ keys, issuer: "kontrol", audience: identity });
 * const authenticate: Authenticate = async (auth, claimed) => (auth?.type === "token" ? withToken(auth, claimed) : anonymous(claimed));
 */
export function anonymous(claimed: Identity | undefined): Caller {
  const kite = claimed === undefined ? undefined : { ...claimed, username: "anonymous" };
  return { username: "anonymous", role: undefined, kite, expiresAt: undefined, methods: undefined, credential: undefined };
}

const WHAT = "token";
// Clocks that are kept by NTP differ by milliseconds, one of a machine that has just woken by seconds. Small beside the ten minutes of a token.
const LEEWAY_MS = 30_000;
// One entry has about a kilobyte. A kite with more callers at a time verifies some of their tokens twice.
const MAX_REMEMBERED = 1_000;

/** Verifies a token once: a caller who opens ten sessions, or one who reconnects, costs one signature. */
function rememberingVerifier(expected: TokenExpectations): (token: string) => Promise<VerifiedToken> {
  const now = expected.now ?? Date.now;
  const known = new Map<string, Promise<VerifiedToken>>();
  return async (token) => {
    const remembered = known.get(token);
    const verifying = remembered ?? verifyToken(token, expected);
    // Last used, last forgotten: a Map keeps the order in which it was filled.
    known.delete(token);
    known.set(token, verifying);
    for (const oldest of known.keys()) if (known.size > MAX_REMEMBERED) known.delete(oldest);
    try {
      const verified = await verifying;
      if (remembered !== undefined) checkExpiry(verified, now());
      return verified;
    } catch (thrown) {
      if (known.get(token) === verifying) known.delete(token);
      throw thrown;
    }
  };
}

function readClaims({ claims, kid }: Signed): VerifiedToken {
  const role = ROLES.find((known) => known === claims["role"]);
  if (role === undefined) throw refused(`the role of the token is one of ${ROLES.join(", ")}, got ${quote(claims["role"])}`);
  return {
    username: stringClaim(claims, "sub", WHAT),
    role,
    methods: readMethods(claims["methods"]),
    jti: stringClaim(claims, "jti", WHAT),
    kid,
    issuedAt: timeClaim(claims, "iat", WHAT),
    expiresAt: timeClaim(claims, "exp", WHAT),
    revision: readRevision(claims["rev"]),
  };
}

/** One that cannot be understood must not be read as "knows of everything". */
function readRevision(rev: unknown): number | undefined {
  if (rev === undefined || (typeof rev === "number" && Number.isSafeInteger(rev))) return rev;
  throw refused("the revision of the token is not a whole number");
}

/** A restriction that cannot be understood must not be read as "no restriction". */
function readMethods(methods: unknown): readonly string[] | undefined {
  if (methods === undefined) return undefined;
  if (Array.isArray(methods) && methods.every((name): name is string => typeof name === "string")) return methods;
  throw refused("the methods of the token are not a list of names");
}

function checkIssuer({ claims }: Signed, issuer: string): void {
  const iss = stringClaim(claims, "iss", WHAT);
  if (iss !== issuer) throw refused(`the token is by ${quote(iss)}; this kite trusts ${quote(issuer)}`);
}

/** The whole path must be equal: a token for `/`, for a user or for an older instance of this kite is for somebody else. */
function checkAudience({ claims }: Signed, audience: Identity): void {
  const aud = stringClaim(claims, "aud", WHAT);
  const own = formatIdentity(audience);
  if (aud !== own) throw refused(`the token is for ${quote(aud)}; this kite is ${quote(own)}. Ask kontrol for a token for this kite`);
}

function checkTimes({ claims }: Signed, verified: VerifiedToken, now: () => number): void {
  const at = now();
  const validFrom = Math.max(timeClaim(claims, "nbf", WHAT), verified.issuedAt);
  if (validFrom > at + LEEWAY_MS) throw refused(`the token is valid in ${seconds(validFrom - at)}; is this machine's clock right?`);
  checkExpiry(verified, at);
}

function checkExpiry({ username, expiresAt }: VerifiedToken, at: number): void {
  if (at <= expiresAt + LEEWAY_MS) return;
  throw new KiteError("token_expired", `the token of ${username} expired ${seconds(at - expiresAt)} ago; renew it with kontrol's getToken`);
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1000)} s`;
}
