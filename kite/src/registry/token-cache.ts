import type { Identity } from "../identity.ts";
import type { IssuedToken } from "./registry.ts";

/** A token that was issued, and whether it is time for the next one. */
export interface KeptToken extends IssuedToken {
  /** False from about two thirds of its life on: still good, but due. */
  readonly fresh: boolean;
}

/** The newest token for each kite that this one calls. Tokens are due at slightly different times, so that they are not all renewed at once. */
export class TokenCache {
  readonly #now: () => number;
  readonly #random: () => number;
  /** By the kite's id; the path would take longer to put together than all else that is done here. */
  readonly #tokens = new Map<string, IssuedToken & { kite: Identity; dueAt: number }>();

  constructor(options: { now: () => number; random: () => number }) {
    this.#now = options.now;
    this.#random = options.random;
  }

  /** Undefined when there is none, or it has expired. */
  get(kite: Identity): KeptToken | undefined {
    const kept = this.#find(kite);
    const now = this.#now();
    if (kept === undefined || kept.expiresAt <= now) return undefined;
    return { token: kept.token, expiresAt: kept.expiresAt, fresh: now < kept.dueAt };
  }

  keep(kite: Identity, { token, expiresAt }: IssuedToken): void {
    if ((this.#find(kite)?.expiresAt ?? 0) >= expiresAt) return;
    const now = this.#now();
    const share = DUE_AFTER - SPREAD * this.#random();
    this.#tokens.delete(kite.id);
    this.#tokens.set(kite.id, { kite, token, expiresAt, dueAt: now + (expiresAt - now) * share });
    for (const [oldest] of this.#tokens) {
      if (this.#tokens.size <= MAX_TOKENS) return;
      this.#tokens.delete(oldest);
    }
  }

  /** For a token that its kite did not accept. */
  forget(kite: Identity): void {
    this.#tokens.delete(kite.id);
  }

  /** A token is for the whole path: a kite that came back as another version has the id, and accepts no token from before. */
  #find(kite: Identity): (IssuedToken & { dueAt: number }) | undefined {
    const kept = this.#tokens.get(kite.id);
    return kept !== undefined && isSame(kept.kite, kite) ? kept : undefined;
  }
}

function isSame(one: Identity, other: Identity): boolean {
  return (
    one.name === other.name &&
    one.username === other.username &&
    one.environment === other.environment &&
    one.version === other.version &&
    one.region === other.region &&
    one.hostname === other.hostname
  );
}

// Leaves a third of its life for tries while kontrol is away: more than three of ten minutes.
const DUE_AFTER = 2 / 3;
const SPREAD = 0.1;
// About five megabytes; a kite that calls more others than this asks for some tokens twice.
const MAX_TOKENS = 10_000;
