import type { FoundKite } from "../registry/registry.ts";

/**
 * Which of several kites that match answers a call. `one`: always the same, as long as it can be reached. `round-robin`: in
 * turn. `least-pending`: the one that owes the fewest answers. `nearest`: the one with the shortest round trip.
 * `stickyBy`: calls with the same key go to the same kite, whoever makes them; few keys move when a kite comes or goes.
 */
export type Balance = "one" | PooledBalance;

/** Those that keep sessions to several kites. */
export type PooledBalance =
  | "round-robin"
  | "least-pending"
  | "nearest"
  | { readonly stickyBy: (method: string, args: readonly unknown[]) => string };

/**
 * Which of several kites that match is dialled. It stays with one while that one can be reached, since its session can
 * only be resumed there, and goes on to the others when it cannot.
 */
export class Chooser {
  readonly #random: () => number;
  readonly #failed = new Set<string>();
  #chosen: string | undefined;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Undefined when there is none. When all have failed, all are tried again. */
  choose<K extends Pick<FoundKite, "kite">>(kites: readonly K[]): K | undefined {
    const reachable = kites.filter(({ kite }) => !this.#failed.has(kite.id));
    if (reachable.length === 0) {
      this.#failed.clear();
      this.#chosen = undefined;
    }
    const candidates = reachable.length === 0 ? kites : reachable;
    const found = candidates.find(({ kite }) => kite.id === this.#chosen) ?? candidates[Math.floor(this.#random() * candidates.length)];
    this.#chosen = found?.kite.id;
    return found;
  }

  /** The last choice could not be reached. */
  failed(): void {
    if (this.#chosen !== undefined) this.#failed.add(this.#chosen);
  }

  /** The last choice was reached; what failed before may be back by the time it is needed. */
  succeeded(): void {
    this.#failed.clear();
  }
}
