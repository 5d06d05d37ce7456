import { formatIdentity, type Identity, type IssuedToken, type Role } from "@kite-mesh/kite";
import { SignJWT } from "jose";
import { type Algorithm, type SigningKey, type SigningKeys, signedAt } from "./signing-keys.ts";

export interface TokenOptions {
  readonly keys: SigningKeys;
  /** The name under which kontrol signs. */
  readonly issuer: string;
  readonly ttlMs: number;
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

// About 15 MB when full. A mesh with more pairs of caller and callee than this signs some tokens twice.
const MAX_KEPT = 20_000;

/**
 * Signs tokens. The same request gets the same token during the first half of its life: signing takes 70 µs, and
 * a caller who looks up a hundred kites every second must not cost kontrol a processor.
 */
export class Tokens {
  readonly #options: TokenOptions;
  #forgottenAtMs = Number.NEGATIVE_INFINITY;
  readonly #issued = new Map<Algorithm, number>();
  readonly #kept = new Map<string, { username: string; freshUntil: number; token: Promise<IssuedToken> }>();

  constructor(options: TokenOptions) {
    this.#options = options;
  }

  /** How many were signed since the start, by algorithm. */
  get issued(): ReadonlyMap<Algorithm, number> {
    return this.#issued;
  }

  issue(request: TokenRequest): Promise<IssuedToken> {
    const { username, role, audience, jti, until, methods, signingKey, renew = false } = request;
    const key = [jti, username, role, until ?? "", formatIdentity(audience), signingKey?.kid ?? "", JSON.stringify(methods ?? null)].join(
      " ",
    );
    const now = this.#options.now();
    const kept = this.#kept.get(key);
    if (kept !== undefined && now < kept.freshUntil && !renew) return kept.token;
    const expiresAt = Math.min(now + this.#options.ttlMs, until ?? Number.POSITIVE_INFINITY);
    const token = this.#sign(request, now, expiresAt);
    // In whole seconds it may seem to be from before a revocation that it came after. The next one, a second later, does not.
    if (signingKey?.alg === "RS256" && now - this.#forgottenAtMs < 1_000) return token;
    this.#kept.delete(key);
    this.#kept.set(key, { username, freshUntil: now + (expiresAt - now) / 2, token });
    for (const oldest of this.#kept.keys()) if (this.#kept.size > MAX_KEPT) this.#kept.delete(oldest);
    token.catch(() => this.#kept.delete(key));
    return token;
  }

  /** What was signed for somebody is not given out again: kites take tokens from before a revocation for revoked. */
  forget(matches: (username: string) => boolean): void {
    this.#forgottenAtMs = this.#options.now();
    for (const [key, { username }] of this.#kept) if (matches(username)) this.#kept.delete(key);
  }

  async #sign(request: TokenRequest, now: number, expiresAt: number): Promise<IssuedToken> {
    const { keys, issuer } = this.#options;
    const { username, role, audience, jti, methods, signingKey = keys.current, reader = "ours" } = request;
    const { kid, alg, private: key } = signingKey;
    this.#issued.set(alg, (this.#issued.get(alg) ?? 0) + 1);
    const iat = signedAt(alg, now, reader);
    const exp = alg === "EdDSA" ? expiresAt / 1000 : Math.floor(expiresAt / 1000);
    const claims = {
      iss: issuer,
      sub: username,
      aud: formatIdentity(audience),
      iat,
      nbf: iat,
      exp,
      jti,
      role,
      ...(methods === undefined ? {} : { methods }),
    };
    const token = await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(key);
    return { token, expiresAt };
  }
}
