/** So many tries at once, and as many again over that time. */
export interface Rate {
  readonly tries: number;
  readonly perMs: number;
}

// Each takes some 100 bytes. Whoever tries from more addresses than this makes room for himself with the oldest ones: an
// attacker of that size is bounded by the account that he tries, not by where he is.
const MAX_KEPT = 10_000;

/**
 * Counts tries by a name, such as a source or an account: a bucket for each, which fills again by itself. Kept is only when
 * a bucket will be full, and of no more than ten thousand names. It holds nothing that would have to be closed.
 */
export class Attempts {
  readonly #intervalMs: number;
  readonly #windowMs: number;
  readonly #now: () => number;
  readonly #fullAt = new Map<string, number>();

  constructor({ tries, perMs }: Rate, now: () => number = () => performance.now()) {
    this.#intervalMs = perMs / tries;
    this.#windowMs = perMs;
    this.#now = now;
  }

  get size(): number {
    return this.#fullAt.size;
  }

  /** How long until the next try, in milliseconds; 0 when there is one now. */
  waitMs(name: string): number {
    const now = this.#now();
    const after = Math.max(this.#fullAt.get(name) ?? now, now) + this.#intervalMs;
    // Adding up intervals is not exact; a millionth of one must not cost a try.
    return after - now - this.#windowMs > this.#intervalMs * 1e-6 ? Math.ceil(after - now - this.#windowMs) : 0;
  }

  /** Counts a try, also where none is left: whoever goes on trying waits no longer for that. */
  take(name: string): void {
    const now = this.#now();
    const fullAt = Math.min(Math.max(this.#fullAt.get(name) ?? now, now) + this.#intervalMs, now + this.#windowMs);
    // Taken out first, so that the map's order is the order of use.
    this.#fullAt.delete(name);
    for (const oldest of this.#fullAt.keys()) {
      if (this.#fullAt.size < MAX_KEPT) break;
      this.#fullAt.delete(oldest);
    }
    this.#fullAt.set(name, fullAt);
  }

  /** The try was a good one, and does not count. */
  giveBack(name: string): void {
    const fullAt = this.#fullAt.get(name);
    if (fullAt === undefined) return;
    if (fullAt - this.#intervalMs > this.#now()) this.#fullAt.set(name, fullAt - this.#intervalMs);
    else this.#fullAt.delete(name);
  }
}
