import { KiteError } from "../errors.ts";
import type { ThrottleOptions } from "../method.ts";
import { callerKey, type ServedCall } from "./served-call.ts";

// Each takes some 100 bytes; a kite with more callers at once forgets the one that was quiet for longest, who starts anew.
const MAX_CALLERS = 10_000;

/**
 * A token bucket for each caller. Kept is only the time at which a caller's bucket would be full again, since what is in
 * it follows from that: a time that has passed is a full bucket, and need not be kept.
 */
export class Throttle {
  readonly #options: ThrottleOptions;
  readonly #now: () => number;
  readonly #intervalMs: number;
  readonly #windowMs: number;
  readonly #fullAt = new Map<string, number>();

  constructor(options: ThrottleOptions, now: () => number = () => performance.now()) {
    const { calls, perMs, burst = calls } = options;
    if (!(calls > 0 && perMs > 0 && burst >= 1)) {
      throw new KiteError(
        "invalid_argument",
        `a throttle has calls and perMs above 0 and a burst of 1 or more, got ${JSON.stringify(options)}`,
      );
    }
    this.#options = options;
    this.#now = now;
    this.#intervalMs = perMs / calls;
    this.#windowMs = this.#intervalMs * burst;
  }

  /** How many callers have a bucket that is not full, or was not when it was last looked at. */
  get size(): number {
    return this.#fullAt.size;
  }

  /**
   * Takes one call out of its caller's bucket.
   *
   * @throws {KiteError} `overloaded` with `details.retryAfterMs` when it is empty; nothing is taken then.
   */
  take(call: ServedCall): void {
    const key = callerKey(call);
    const now = this.#now();
    const fullAt = Math.max(this.#fullAt.get(key) ?? now, now) + this.#intervalMs;
    // Adding up intervals is not exact; a millionth of one must not cost a call.
    const retryAfterMs = fullAt - now - this.#windowMs;
    if (retryAfterMs > this.#intervalMs * 1e-6) throw this.#exceeded(call.method, Math.ceil(retryAfterMs));
    // Taken out first, so that the map's order is the order of use.
    this.#fullAt.delete(key);
    if (this.#fullAt.size >= MAX_CALLERS) this.#makeRoom(now);
    this.#fullAt.set(key, fullAt);
  }

  #makeRoom(now: number): void {
    for (const [key, fullAt] of this.#fullAt) {
      if (fullAt <= now || this.#fullAt.size >= MAX_CALLERS) this.#fullAt.delete(key);
      else return;
    }
  }

  #exceeded(method: string, retryAfterMs: number): KiteError {
    const { calls, perMs } = this.#options;
    // The first sentence is the original kite's, word for word: programs of that time look for it.
    const message = `The maximum request rate is exceeded. ${method} takes ${calls} calls in ${perMs} ms from each caller; wait ${retryAfterMs} ms`;
    return new KiteError("overloaded", message, { outcome: "not_run", details: { retryAfterMs } });
  }
}
