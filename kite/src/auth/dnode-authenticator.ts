import { decodeJwt } from "jose";
import { KiteError } from "../errors.ts";
import { IDENTITY_FIELDS, type Identity } from "../identity.ts";
import type { Caller } from "../method.ts";
import type { Authenticate } from "../session/acceptor.ts";
import type { Auth } from "../session/handshake.ts";
import type { KeySet } from "./key-set.ts";
import { verifyKiteKey } from "./kite-key.ts";
import type { Revocations } from "./revocations.ts";
import { quote, readHeader, refused, type Signed, verifySigned, verifyUnnamed, WRONG_KEY } from "./signed.ts";
import { anonymous } from "./token.ts";

export interface DnodeAuthenticatorOptions {
  readonly keys: KeySet;
  /** The name under which kontrol signs. */
  readonly issuer: string;
  /** The kite that is called. */
  readonly audience: Identity;
  /** The id (`jti`) of the kite.key that the called kite itself lives by. */
  readonly ownKey: string;
  readonly revocations?: Revocations | undefined;
  /** What decides about tokens that name a role, whatever dialect they came in. */
  readonly tokens: Authenticate;
  /** Milliseconds, as `Date.now`. */
  readonly now?: (() => number) | undefined;
}

/**
 * Accepts what kites of the original show: kontrol's tokens, those without a role included, and the kite.key that this kite
 * itself lives by. Errors have the original's texts, since its clients look for some of them.
 */
export function dnodeAuthenticator(options: DnodeAuthenticatorOptions): Authenticate {
  return inOriginalWords(async (auth, claimed) => {
    if (auth === undefined) return anonymous(claimed);
    if (auth.type === "token") return namesRole(auth.key) ? options.tokens(auth, claimed) : byToken(auth, claimed, options);
    if (auth.type === "kiteKey") return byKiteKey(auth, claimed, options);
    throw refused(`Unknown authentication type: ${auth.type.slice(0, MAX_TYPE)}`);
  });
}

/** Decides as `authenticate` does, and refuses as the original did: for a kite that has rules of its own, as kontrol has. */
export function inOriginalWords(authenticate: Authenticate): Authenticate {
  return async (auth, claimed, origin) => {
    try {
      return await authenticate(auth, claimed, origin);
    } catch (thrown) {
      throw auth === undefined ? thrown : reworded(thrown, auth);
    }
  };
}

const MAX_TYPE = 100;

/** What the claims say before they are verified decides only by which rules they are verified. */
function namesRole(token: string): boolean {
  try {
    return decodeJwt(token)["role"] !== undefined;
  } catch {
    return false;
  }
}

async function byToken({ key }: Auth, claimed: Identity | undefined, options: DnodeAuthenticatorOptions): Promise<Caller> {
  const { audience, revocations, now = Date.now } = options;
  const signed = await verifyEither(key, options.keys);
  const { claims } = signed;
  const expiresAt = checkTimes(claims, now());
  if (claims["iss"] !== options.issuer) throw refused(`issuer is not trusted: ${text(claims["iss"])}`);
  if (text(claims["aud"]) === "") throw refused("token has no audience");
  const username = text(claims["sub"]);
  if (username === "") throw refused("token has no username");
  checkAudience(text(claims["aud"]), audience);
  const [jti, issuedAt] = [text(claims["jti"]) || undefined, seconds(claims["iat"]) ?? 0];
  // Kontrols of ours say it in a token of any dialect; where none is said, none is known.
  const revision = typeof claims["rev"] === "number" ? claims["rev"] : undefined;
  const credential = { type: "token", jti, kid: signed.kid, issuedAt, revision };
  refuseRevoked(username, credential, revocations);
  return { ...caller(username, claimed, audience), expiresAt, credential };
}

/**
 * Only the kite.key that this kite lives by, too. Any other of its user's may have been revoked long ago, since it has no end
 * and revocations are not kept for ever, or be that of a machine where others work. When the own one is revoked, this kite is
 * out of the mesh with it.
 */
async function byKiteKey({ key }: Auth, claimed: Identity | undefined, options: DnodeAuthenticatorOptions): Promise<Caller> {
  const { keys, issuer, audience, ownKey, revocations } = options;
  const { username, id, issuedAt, kontrolKey, machine } = await verifyKiteKey(key, { keys, issuer });
  if (username !== audience.username) {
    throw refused(`a kite.key is accepted by its own user's kites; this one is ${quote(audience.username)}'s. Ask kontrol for a token`);
  }
  if (id !== ownKey) {
    throw refused("a kite accepts the kite.key that it lives by itself, and no other of its user's. Ask kontrol for a token");
  }
  const credential = { type: "kiteKey", jti: id, kid: kontrolKey.kid, issuedAt };
  refuseRevoked(username, credential, revocations);
  // Whoever works on the machine can read it, and is not its owner for that.
  return { ...caller(username, claimed, audience), ...(machine ? { role: "viewer" } : {}), credential };
}

/** A credential that names no role makes its kite's own user the owner, and everybody else a viewer, the least there is. */
function caller(username: string, claimed: Identity | undefined, audience: Identity): Caller {
  return {
    username,
    role: username === audience.username ? "owner" : "viewer",
    kite: claimed === undefined ? undefined : { ...claimed, username },
    expiresAt: undefined,
    methods: undefined,
    credential: undefined,
  };
}

function refuseRevoked(
  username: string,
  credential: { type: string; jti: string | undefined; kid: string; issuedAt: number; revision?: number | undefined },
  revocations?: Revocations,
): void {
  const revoked = revocations?.find({ username, ...credential });
  if (revoked !== undefined) throw refused(`the ${credential.type} of ${username} was revoked: ${revoked.reason}`);
}

async function verifyEither(token: string, keys: KeySet): Promise<Signed> {
  const { kid, alg } = readHeader(token, "token", "");
  if (alg !== "RS256") throw refused(`invalid signing method: a token that names no role is signed with RS256, got ${alg}`);
  return kid === "" ? verifyUnnamed(token, await keys.unnamed(), "token") : verifySigned(token, keys, "token");
}

/** Without leeway, as in the original, whose kontrol dates tokens five minutes back. Answers with the end. */
function checkTimes(claims: Signed["claims"], now: number): number {
  const expiresAt = seconds(claims["exp"]);
  if (expiresAt === undefined) throw refused("token has no end");
  if (now > expiresAt) {
    throw new KiteError("token_expired", `token is expired by ${Math.ceil((now - expiresAt) / 1000)}s`);
  }
  if ((seconds(claims["nbf"]) ?? 0) > now) throw refused("token is not valid yet");
  if ((seconds(claims["iat"]) ?? 0) > now) throw refused("Token used before issued");
  return expiresAt;
}

/**
 * `/user`, `/user/environment`, `/user/environment/name` and so on, each part as this kite has it. `/` was good for every kite
 * of a mesh; whoever still has such a token must ask for a new one.
 */
function checkAudience(aud: string, own: Identity): void {
  const [head, ...parts] = aud.split("/");
  if (head !== "" || parts.length > IDENTITY_FIELDS.length)
    throw refused(`invalid audience: invalid kite string (${aud.slice(0, MAX_SHOWN)})`);
  if (!parts[0]) throw refused(`audience: it names no user, and would be good for every kite (${aud})`);
  for (const [index, field] of IDENTITY_FIELDS.entries()) {
    const part = parts[index] ?? "";
    const word = field === "name" ? "kite" : field;
    if (part !== "" && part !== own[field]) throw refused(`audience: ${word} ${quote(part)} not allowed (${aud.slice(0, MAX_SHOWN)})`);
  }
}

const MAX_SHOWN = 200;

/**
 * Each text begins with the type of the credential. A signature by a key that is not known is told as an expiry: after kontrol
 * has changed its keys, that is what makes a client ask for a new token.
 */
function reworded(thrown: unknown, { type, key }: Auth): unknown {
  if (!(thrown instanceof KiteError) || (type !== "token" && type !== "kiteKey")) return thrown;
  const { code, reason, message } = thrown;
  if (code !== "unauthenticated" && code !== "token_expired") return thrown;
  if (key.split(".").length !== 3) return refused(`${type}: token contains an invalid number of segments`, thrown);
  if (type === "kiteKey") return refused(`kiteKey: ${reason === WRONG_KEY ? `kontrol key is not trusted: ${message}` : message}`, thrown);
  if (code === "unauthenticated" && reason !== WRONG_KEY) return refused(`token: ${message}`, thrown);
  const words = message.startsWith("token is expired") ? message : `token is expired: ${message}`;
  return new KiteError("token_expired", `token: ${words}`, { cause: thrown });
}

function text(claim: unknown): string {
  return typeof claim === "string" ? claim : "";
}

/** JWTs count seconds, everything here counts milliseconds. */
function seconds(claim: unknown): number | undefined {
  return typeof claim === "number" && Number.isFinite(claim) ? claim * 1000 : undefined;
}
