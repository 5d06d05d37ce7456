import { setTimeout as delay } from "node:timers/promises";
import { KiteError, type Logger } from "@kite-mesh/kite";
import { type Postgres, type PostgresOptions, startPostgres } from "./postgres.ts";

export interface KeptPostgresOptions extends PostgresOptions {
  readonly log: Logger;
  /** Told once, when it does not stay up: a sentence for the person. */
  readonly onGivenUp: (sentence: string) => void;
  /** Default {@link KEEPING}. */
  readonly keeping?: typeof KEEPING;
}

// A second after it ended it is started again; one that has a lasting reason to end is left alone after a minute or two.
const KEEPING = { lookEveryMs: 500, waitFirstMs: 250, waitMostMs: 15_000, tries: 8, goodAfterMs: 60_000 };

/**
 * Starts PostgreSQL as `startPostgres` does, and starts it again whenever it ends by itself: killed, crashed, or out of
 * memory. The url stays the same, so whoever uses it connects again. Whoever opened it closes it; one that somebody else
 * runs, given by url, is left alone.
 */
export async function keepPostgres(options: KeptPostgresOptions): Promise<Postgres> {
  const postgres = await startPostgres(options);
  if (options.url !== undefined) return postgres;
  const keeper = new Keeper(postgres, options);
  return { ...postgres, createDatabase: (name) => keeper.current.createDatabase(name), close: () => keeper.close() };
}

class Keeper {
  current: Postgres;
  readonly #options: KeptPostgresOptions;
  readonly #keeping: typeof KEEPING;
  readonly #closing = new AbortController();
  readonly #kept: Promise<void>;

  constructor(first: Postgres, options: KeptPostgresOptions) {
    this.current = first;
    this.#options = options;
    this.#keeping = options.keeping ?? KEEPING;
    this.#kept = this.#keep();
  }

  async close(): Promise<void> {
    this.#closing.abort(new KiteError("cancelled", "the mesh is stopping"));
    await this.#kept;
    await this.current.close();
  }

  /** Until it is closed, or given up. */
  async #keep(): Promise<void> {
    const { log } = this.#options;
    const { goodAfterMs } = this.#keeping;
    let tries = 0;
    let startedMs = performance.now();
    while (await this.#ended()) {
      if (performance.now() - startedMs > goodAfterMs) tries = 0;
      log.warn({}, "PostgreSQL has ended and was not asked to; starting it again");
      const started = await this.#startAgain(tries);
      if (started === undefined) return;
      tries = started;
      startedMs = performance.now();
    }
  }

  /** True when it has ended by itself, false when it is to be closed. */
  async #ended(): Promise<boolean> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      if (!this.current.isRunning()) return true;
      // Unref'd: what this looks after must not hold the process.
      await delay(this.#keeping.lookEveryMs, undefined, { signal, ref: false }).catch(() => {}); // ends the loop by its condition
    }
    return false;
  }

  /** Answers with how many tries there have been, those before included; undefined when there will be no more. */
  async #startAgain(before: number): Promise<number | undefined> {
    const { log, onGivenUp } = this.#options;
    const { tries, waitFirstMs, waitMostMs } = this.#keeping;
    const { signal } = this.#closing;
    let last: Error = new Error("it ended again and again, soon after it was started");
    for (let tried = before; tried < tries; tried++) {
      const waitMs = Math.min(waitFirstMs * 2 ** tried, waitMostMs);
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => {}); // ends the loop by the next line
      if (signal.aborted) return undefined;
      try {
        this.current = await startPostgres({ ...this.#options, signal });
        log.info({ tries: tried + 1 }, "PostgreSQL is back");
        return tried + 1;
      } catch (cause) {
        if (signal.aborted) return undefined;
        last = KiteError.from(cause);
        log.warn({ err: last, tries: tried + 1 }, "PostgreSQL could not be started again");
      }
    }
    const sentence =
      `PostgreSQL has ended and does not stay up after ${tries} tries: ${last.message}. What is in memory goes on, and nothing is ` +
      `kept; see ${this.#options.dataDir}/server.log, mend it, and start the mesh again`;
    log.error({ err: last }, sentence);
    onGivenUp(sentence);
    return undefined;
  }
}
