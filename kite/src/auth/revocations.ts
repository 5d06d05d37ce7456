import type { Revocation } from "../registry/registry.ts";

/** A credential, as far as a revocation can name it. */
export interface Revocable {
  readonly username: string;
  readonly jti: string | undefined;
  /** Milliseconds since the epoch, by kontrol's clock. */
  readonly issuedAt: number;
}

/**
 * What stopped being valid. Ending the sessions of a revoked token is not enough: until the token expires its holder could
 * open the next one. So a kite remembers revocations for longer than tokens live, and asks here before it believes one.
 */
export class Revocations {
  readonly #now: () => number;
  readonly #kiteId: string;
  #entries: { revocation: Revocation; at: number }[] = [];

  constructor(options: { kiteId: string; now?: () => number }) {
    this.#kiteId = options.kiteId;
    this.#now = options.now ?? Date.now;
  }

  add(revocation: Revocation): void {
    const now = this.#now();
    if (revocation.kite !== undefined && revocation.kite !== this.#kiteId) return;
    if (revocation.username === undefined && revocation.jti === undefined && revocation.kite === undefined) return;
    this.#entries = this.#entries.filter(({ at }) => now - at < REMEMBER_MS).slice(-MAX_REMEMBERED + 1);
    this.#entries.push({ revocation, at: revocation.at ?? now });
  }

  /** The revocation that ended this credential; undefined while it is valid. One that was issued later is a new one. */
  find({ username, jti, issuedAt }: Revocable): Revocation | undefined {
    return this.#entries.find(({ revocation, at }) => {
      if (revocation.jti !== undefined && revocation.jti !== jti) return false;
      return (revocation.username === undefined || revocation.username === username) && issuedAt <= at;
    })?.revocation;
  }
}

// Six times the life of a token.
const REMEMBER_MS = 60 * 60_000;
// A mesh that revokes this many within the hour has removed everybody; the oldest tokens have long expired.
const MAX_REMEMBERED = 10_000;
