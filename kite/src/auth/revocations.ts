import type { Revocation } from "../registry/registry.ts";

/** A credential, as far as a revocation can name it. */
export interface Revocable {
  readonly username: string;
  readonly jti: string | undefined;
  /** The key that signed it, and what it is: a kite.key outlives the other keys of its kontrol, a token is asked for anew. */
  readonly kid?: string | undefined;
  readonly type?: string | undefined;
  /** Milliseconds since the epoch, by kontrol's clock. */
  readonly issuedAt: number;
  /** What the kontrol that signed it knew of the mesh; see {@link isIssuedBefore}. */
  readonly revision?: number | undefined;
}

/**
 * Whether a credential was issued by a kontrol that had not heard of a revocation yet. The revision decides where there is
 * one: of several kontrols one may be cut off from the others, and their clocks differ. Times decide for credentials
 * without one, and for one that is much older than the revocation all the same: revisions start again when a database is restored.
 * Times are milliseconds since the epoch.
 *
 * @example
 * const verified = await verifyToken(token, { keys, issuer: "kontrol", audience: kite.identity });
 * if (isIssuedBefore(verified, { revision: 71, at: 1_700_000_000_000 })) throw new KiteError("unauthenticated", "the token was revoked");
 */
export function isIssuedBefore(
  { issuedAt, revision }: Pick<Revocable, "issuedAt" | "revision">,
  revoked: { readonly revision: number; readonly at: number },
): boolean {
  if (revision === undefined) return issuedAt <= revoked.at;
  return revision < revoked.revision || issuedAt < revoked.at - CLOCKS_MS;
}

// Twice what kites forgive a clock: of two kontrols that differ by more, one signs nothing that is accepted.
const CLOCKS_MS = 60_000;

/**
 * What stopped being valid. Ending the sessions of a revoked token is not enough: until the token expires its holder could
 * open the next one. So a kite remembers revocations for longer than tokens live, and asks here before it believes one.
 */
export class Revocations {
  readonly #now: () => number;
  readonly #kiteId: string;
  #entries: Entry[] = [];
  /** Those of signing keys: whoever has one dates what he signs as he likes, so they are not forgotten. */
  readonly #keys = new Map<string, Revocation>();
  /** The last that made room for others before its time. */
  #madeRoom: { revision: number; at: number } | undefined;

  constructor(options: { kiteId: string; now?: () => number }) {
    this.#kiteId = options.kiteId;
    this.#now = options.now ?? Date.now;
  }

  /** Answers which credentials this one ends: of all that are open here the others have been asked about before. */
  add(revocation: Revocation): (credential: Revocable) => boolean {
    const now = this.#now();
    if (revocation.kite !== undefined && revocation.kite !== this.#kiteId) return () => false;
    const { username, jti, kite, kid } = revocation;
    if (username === undefined && jti === undefined && kite === undefined && kid === undefined) return () => false;
    if (kid !== undefined) this.#keys.set(kid, revocation);
    for (const oldest of this.#keys.keys()) if (this.#keys.size > MAX_KEYS) this.#keys.delete(oldest);
    this.#entries = this.#entries.filter(({ at }) => now - at < REVOCATIONS_KEPT_MS);
    const entry = { revocation, at: revocation.at ?? now };
    this.#entries.push(entry);
    const [oldest] = this.#entries.splice(0, Math.max(0, this.#entries.length - MAX_REMEMBERED));
    if (oldest !== undefined) this.#madeRoom = { revision: Number(oldest.revocation.revision), at: oldest.at };
    return (credential) => ends(entry, credential);
  }

  /** Whether what ended this credential may have made room for others: who can have something revoked could otherwise have more forgotten. */
  mayHaveForgotten(issued: Pick<Revocable, "issuedAt" | "revision">): boolean {
    return this.#madeRoom !== undefined && isIssuedBefore(issued, this.#madeRoom);
  }

  /** The revocation that ended this credential; undefined while it is valid. One that was issued later is a new one. */
  find(credential: Revocable): Revocation | undefined {
    return this.#keys.get(credential.kid ?? "") ?? this.#entries.find((entry) => ends(entry, credential))?.revocation;
  }

  /** Whether a signing key was taken back: what it signs is nobody's word. */
  isKeyRevoked(kid: string): boolean {
    return this.#keys.has(kid);
  }
}

interface Entry {
  readonly revocation: Revocation;
  readonly at: number;
}

function ends({ revocation, at }: Entry, { username, jti, kid, type, ...issued }: Revocable): boolean {
  // Who has the key dates what he signs as he likes, and may have got tokens by another key for a kite.key that he made.
  if (revocation.kid !== undefined && kid === revocation.kid) return true;
  if (revocation.kid !== undefined && type === "kiteKey") return false;
  if (revocation.jti !== undefined && revocation.jti !== jti) return false;
  if (revocation.username !== undefined && revocation.username !== username) return false;
  return isIssuedBefore(issued, { revision: Number(revocation.revision), at });
}

/** For how long kites remember what was revoked: six times the life of a token, so that kontrol may be cut off for a while. */
export const REVOCATIONS_KEPT_MS = 60 * 60_000;
// A mesh that revokes this many within the hour has removed everybody. Tokens from before the oldest of them are not accepted any more.
const MAX_REMEMBERED = 10_000;
// A kontrol has a handful of keys in its life.
const MAX_KEYS = 100;
