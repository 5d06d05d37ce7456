/** How long to wait between tries, and when to stop trying. */
export interface BackoffOptions {
  /** The most that the first wait may take. Default 500 ms. */
  firstMs?: number;
  /** The most that any wait may take. Default 15 s. */
  maxMs?: number;
  /** All waits and tries together, counted from the first wait. Default: no end, for connections that must come back. */
  budgetMs?: number;
  /** How many waits may be asked for. Default: no end. */
  tries?: number;
  /** Between 0 and 1, as `Math.random`. */
  random?: () => number;
  /** Milliseconds, as `Date.now`. */
  now?: () => number;
}

/**
 * The waits between tries: each is a random part of a limit that doubles ("full jitter"), so that a thousand clients of
 * one restarted server come back spread over time instead of in waves.
 *
 * @example
 * const backoff = new Backoff({ budgetMs: 30_000 });
 * for (let wait: number | undefined = 0; wait !== undefined; wait = backoff.next()) { await sleep(wait, { signal }); if (await attempt()) return; }
 */
export class Backoff {
  readonly #options: Required<BackoffOptions>;
  #tries = 0;
  #startedAt: number | undefined;

  constructor(options: BackoffOptions = {}) {
    this.#options = { ...DEFAULTS, ...options };
  }

  /** How many waits were asked for since the last `reset`. */
  get tries(): number {
    return this.#tries;
  }

  /** Milliseconds to wait before the next try, or undefined when the budget is spent. The last wait ends with the budget. */
  next(): number | undefined {
    const { firstMs, maxMs, budgetMs, tries, random, now } = this.#options;
    this.#startedAt ??= now();
    const leftMs = budgetMs - (now() - this.#startedAt);
    if (this.#tries >= tries || leftMs <= 0) return undefined;
    const limitMs = Math.min(maxMs, firstMs * 2 ** Math.min(this.#tries, MAX_DOUBLINGS));
    this.#tries += 1;
    return Math.min(Math.floor(random() * limitMs), leftMs);
  }

  /** Starts from the shortest wait and a full budget again. Call it when something worked for a while, not merely once. */
  reset(): void {
    this.#tries = 0;
    this.#startedAt = undefined;
  }
}

const DEFAULTS: Required<BackoffOptions> = {
  // Short enough that a restarted server is found again before anybody looks, even by the first try.
  firstMs: 500,
  // A server that was away for an hour is asked four times a minute by each client, and found within that time.
  maxMs: 15_000,
  budgetMs: Number.POSITIVE_INFINITY,
  tries: Number.POSITIVE_INFINITY,
  random: Math.random,
  now: Date.now,
};

// 2^30 times any first wait is beyond every maximum; more would only lose precision.
const MAX_DOUBLINGS = 30;
