import { formatIdentity, type Identity, type IssuedToken, KiteError, REVOCATIONS_KEPT_MS, type Role } from "@kite-mesh/kite";
import { SignJWT } from "jose";
import { type Algorithm, type SigningKey, type SigningKeys, signedAt } from "./signing-keys.ts";

export interface TokenOptions {
  readonly keys: SigningKeys;
  /** The name under which kontrol signs. */
  readonly issuer: string;
  readonly ttlMs: number;
  /** What is known here of the mesh, and so what a token that is signed now is right about. */
  readonly directory: { readonly revision: number };
  /** For how long there may have been changes that are not known here, in milliseconds. */
  readonly follower: { readonly behindMs: number };
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

export interface TokenRequest {
  readonly username: string;
  readonly role: Role;
  /** The one kite that the token is for. */
  readonly audience: Identity;
  /** The credential that asks. Its tokens carry its id, so that revoking it ends them all. */
  readonly jti: string;
  /** The token ends here at the latest, in milliseconds since the epoch. */
  readonly until?: number | undefined;
  /** Signs in place of the current key, when whoever reads the token cannot verify that. */
  readonly signingKey?: SigningKey | undefined;
  /** The kite that it is for: an older one reads whole seconds, and forgives no clock. */
  readonly reader?: "older" | "ours";
  /** The only methods that it opens. */
  readonly methods?: readonly string[] | undefined;
  /** Signs a new one, whatever is kept. */
  readonly renew?: boolean;
}

interface Kept {
  readonly username: string;
  readonly freshUntil: number;
  /** A promise while it is being signed, so that those who ask meanwhile wait for the same one. */
  token: IssuedToken | Promise<IssuedToken>;
}

// About 15 MB when full. A mesh with more pairs of caller and callee than this signs some tokens twice.
const MAX_KEPT = 20_000;

// Kites accept a token for half a minute after its end, clocks differ, and a revocation is written up to ten seconds after its time.
const CAUTION_MS = 2 * 60_000;

// Kites in Go renew a token when it has thirty seconds left, and at once and again when they get the one that they have; what they
// read is up to a second earlier, and clocks differ.
const OLDER_RENEW_MS = 35_000;

/**
 * Signs tokens. The same request gets the same token during the first half of its life: signing takes 70 µs, and
 * a caller who looks up a hundred kites every second must not cost kontrol a processor.
 */
export class Tokens {
  readonly #options: TokenOptions;
  #forgottenAtMs = Number.NEGATIVE_INFINITY;
  readonly #issued = new Map<Algorithm, number>();
  readonly #kept = new Map<string, Kept>();
  /** The end of a team's grant forgets hundreds of people at once, and must not look at what is kept for everybody else. */
  readonly #keysOf = new Map<string, Set<string>>();

  constructor(options: TokenOptions) {
    this.#options = options;
  }

  /** How many were signed since the start, by algorithm. */
  get issued(): ReadonlyMap<Algorithm, number> {
    return this.#issued;
  }

  /** One that is kept is answered at once: who finds ten kites would otherwise wait for ten promises. */
  issue(request: TokenRequest): IssuedToken | Promise<IssuedToken> {
    const { username, role, audience, jti, until, methods, signingKey, renew = false } = request;
    const narrowed = methods === undefined ? "" : JSON.stringify(methods);
    const key = `${jti} ${username} ${role} ${until ?? ""} ${pathOf(audience)} ${signingKey?.kid ?? ""} ${narrowed}`;
    const now = this.#options.now();
    const kept = this.#kept.get(key);
    if (kept !== undefined && now < kept.freshUntil && !renew) return kept.token;
    const expiresAt = Math.min(now + Math.min(this.#options.ttlMs, this.#trustedForMs()), until ?? Number.POSITIVE_INFINITY);
    // Read now, with the rights that the caller of this has just looked up.
    const token = this.#sign(request, { now, expiresAt, revision: this.#options.directory.revision });
    // In whole seconds it may seem to be from before a revocation that it came after. The next one, a second later, does not.
    if (signingKey?.alg === "RS256" && now - this.#forgottenAtMs < 1_000) return token;
    this.#keep(key, { username, freshUntil: now + freshFor(expiresAt - now, signingKey), token });
    return token;
  }

  /**
   * What was signed for somebody, or for anybody, is not given out again: kites take tokens from before a revocation for
   * revoked.
   */
  forget(username: string | undefined): void {
    this.#forgottenAtMs = this.#options.now();
    const keys = username === undefined ? this.#kept.keys() : (this.#keysOf.get(username) ?? []);
    for (const key of [...keys]) this.#drop(key);
  }

  /**
   * How long a token may live that is signed now. What was revoked since this process last knew everything does refuse it, by
   * its revision, but only for as long as that is remembered.
   */
  #trustedForMs(): number {
    const leftMs = REVOCATIONS_KEPT_MS - CAUTION_MS - this.#options.follower.behindMs;
    if (leftMs > 0) return leftMs;
    throw new KiteError(
      "unavailable",
      "this kontrol has heard nothing from its database for an hour, so it signs no tokens; ask another one, or wait until it is back",
      { outcome: "not_run" },
    );
  }

  #keep(key: string, kept: Kept): void {
    this.#drop(key);
    this.#kept.set(key, kept);
    const keys = this.#keysOf.get(kept.username);
    if (keys === undefined) this.#keysOf.set(kept.username, new Set([key]));
    else keys.add(key);
    Promise.resolve(kept.token).then(
      (signed) => {
        kept.token = signed;
      },
      () => this.#drop(key),
    );
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MAX_KEPT) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const username = this.#kept.get(key)?.username ?? "";
    this.#kept.delete(key);
    const keys = this.#keysOf.get(username);
    keys?.delete(key);
    if (keys?.size === 0) this.#keysOf.delete(username);
  }

  async #sign(
    request: TokenRequest,
    { now, expiresAt, revision }: { now: number; expiresAt: number; revision: number },
  ): Promise<IssuedToken> {
    const { keys, issuer } = this.#options;
    const { username, role, audience, jti, methods, signingKey = keys.current, reader = "ours" } = request;
    const { kid, alg, private: key } = signingKey;
    this.#issued.set(alg, (this.#issued.get(alg) ?? 0) + 1);
    const iat = signedAt(alg, now, reader);
    const exp = alg === "EdDSA" ? expiresAt / 1000 : Math.floor(expiresAt / 1000);
    const claims = {
      iss: issuer,
      sub: username,
      aud: pathOf(audience),
      iat,
      nbf: iat,
      exp,
      jti,
      role,
      rev: revision,
      ...(methods === undefined ? {} : { methods }),
    };
    const token = await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(key);
    return { token, expiresAt };
  }
}

/** For how long a token is given out again. One that lives too briefly for kites in Go is renewed by them without pause, whatever is kept. */
function freshFor(lifeMs: number, signingKey: SigningKey | undefined): number {
  const older = signingKey?.alg === "RS256" && lifeMs > OLDER_RENEW_MS;
  return older ? Math.min(lifeMs / 2, lifeMs - OLDER_RENEW_MS) : lifeMs / 2;
}

// Directory records keep their identities, and are asked about again and again.
const paths = new WeakMap<Identity, string>();

function pathOf(identity: Identity): string {
  const known = paths.get(identity);
  if (known !== undefined) return known;
  const path = formatIdentity(identity);
  paths.set(identity, path);
  return path;
}
