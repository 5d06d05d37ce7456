import { deferred } from "./deferred.ts";
import { EXIT, Failure } from "./failure.ts";

/**
 * The time that something has as a whole; without an end for infinity. Whoever made it disposes of it, since its timer keeps
 * the process.
 */
export class TimeLimit implements Disposable {
  readonly #ms: number;
  readonly #dueAt: number;
  readonly #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #ending = new AbortController();

  constructor(ms: number) {
    this.#ms = ms;
    this.#dueAt = performance.now() + ms;
    if (Number.isFinite(ms)) this.#timer = setTimeout(() => this.#ending.abort(), ms);
  }

  /** Aborted when the time is up. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  get passed(): boolean {
    return this.#dueAt - performance.now() < EARLY_MS;
  }

  /** What is left of it, a millisecond at least. */
  get leftMs(): number {
    return Math.max(1, this.#dueAt - performance.now());
  }

  /**
   * Waits no longer than the time that is left.
   *
   * @throws {Failure} that says `what` did not happen in time, such as "math was not reached".
   */
  async within<T>(work: Promise<T>, what: string): Promise<T> {
    const late = deferred<never>();
    const abort = () => late.reject(this.failure(what));
    if (this.signal.aborted) abort();
    this.signal.addEventListener("abort", abort, { once: true });
    try {
      return await Promise.race([work, late.promise]);
    } finally {
      this.signal.removeEventListener("abort", abort);
    }
  }

  /** What the command fails with when `what` did not happen in time. */
  failure(what: string, hint = "--timeout gives it more", options: ErrorOptions = {}): Failure {
    return new Failure(`${what} within ${this.#ms / 1_000} s; ${hint}`, EXIT.timeout, options);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

// Timers count whole milliseconds: one may be early by a part of one, beside the other clock.
const EARLY_MS = 2;

/**
 * Seconds, as a person gives them, in milliseconds.
 *
 * @throws {Failure} naming the flag, for what is no number of them, nothing, or more than can be waited for.
 */
export function readSeconds(flag: string, text: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0;
  if (seconds > 0 && seconds <= MOST_SECONDS) return seconds * 1_000;
  throw new Failure(`${flag} is a number of seconds above 0, at most ${MOST_SECONDS}, got "${text}"`, EXIT.usage);
}

// Twenty days; a timer holds 24, and would end at once for more.
const MOST_SECONDS = 20 * 86_400;
