import { KiteError, type Logger } from "@kite-mesh/kite";

// The first line says what is wrong; the others that it still is.
const FIRST_MS = 10_000;
const LONGEST_MS = 10 * 60_000;

/**
 * Says in the log that something fails which is tried again and again: at once, then at growing distance, each time in one line,
 * and once when it works again. It holds nothing that would have to be closed.
 */
export class Outage {
  readonly #logger: Logger;
  readonly #nowMs: () => number;
  #since: number | undefined;
  #saidAt = 0;
  #pauseMs = FIRST_MS;

  constructor(logger: Logger, nowMs: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#nowMs = nowMs;
  }

  failed(cause: unknown, sentence: string, details: Record<string, unknown> = {}): void {
    const now = this.#nowMs();
    if (this.#since === undefined) {
      this.#since = now;
      this.#pauseMs = FIRST_MS;
    } else if (now - this.#saidAt < this.#pauseMs) return;
    else this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_MS);
    this.#saidAt = now;
    this.#logger.warn({ ...details, error: KiteError.from(cause).message, forMs: Math.round(now - this.#since) }, sentence);
  }

  /** Says nothing when nothing had failed. */
  over(sentence: string): void {
    if (this.#since === undefined) return;
    this.#logger.info({ afterMs: Math.round(this.#nowMs() - this.#since) }, sentence);
    this.#since = undefined;
  }
}
