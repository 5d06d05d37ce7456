import { KiteError } from "@kite-mesh/kite";

export interface SlotsOptions {
  /** Milliseconds, by a clock that never jumps, as `performance.now`. */
  readonly nowMs: () => number;
  /** How many registrations may be under way at once. Default 1,000. */
  readonly room?: number | undefined;
  /** How many of those that were sent away come back in a second. Default 2,000. */
  readonly perSecond?: number | undefined;
}

// Two batches of the log: one is written while the other gathers, and nobody waits for longer than that.
const ROOM = 1_000;
// Two thirds of what one PostgreSQL on two cores takes, so that all else goes on beside.
const PER_SECOND = 2_000;
// The first to be sent away comes back when a batch has been written.
const FIRST_MS = 250;
// Who comes this much early is not sent away once more.
const EARLY_MS = 100;
// A slot is good for this long: whoever has it may have lost the way to us meanwhile.
const KEPT_MS = 60_000;
// 100,000 kites come back in 50 s; more at once are told a time, which is not kept for them.
const MOST = 100_000;

/**
 * Takes so many registrations at once, and tells everybody else when to come: each another time, so that the kites of a
 * kontrol that was restarted come back in a line and not as a herd. Who comes at that time is taken.
 */
export class Slots {
  readonly #options: SlotsOptions;
  readonly #room: number;
  readonly #everyMs: number;
  /** By the kite's id, in the order of their times. */
  readonly #kept = new Map<string, number>();
  #running = 0;
  #nextMs = 0;

  constructor(options: SlotsOptions) {
    this.#options = options;
    this.#room = options.room ?? ROOM;
    this.#everyMs = 1_000 / (options.perSecond ?? PER_SECOND);
  }

  /**
   * Does the work of a registration, if it is its turn.
   *
   * @throws {KiteError} `overloaded` with `details.retryAfterMs`, the time to come back.
   */
  async take<T>(id: string, work: () => Promise<T>): Promise<T> {
    this.#admit(id);
    this.#running += 1;
    try {
      return await work();
    } finally {
      this.#running -= 1;
    }
  }

  /** Whether a kite was told to come back, and may still do so. */
  isExpected(id: string): boolean {
    const atMs = this.#kept.get(id);
    return atMs !== undefined && this.#options.nowMs() < atMs + KEPT_MS;
  }

  /** When each of so many kites comes back that lose their registrations together; the last one after this time at most. */
  *spread(count: number, withinMs: number): Generator<number, void, undefined> {
    const everyMs = Math.min(this.#everyMs, withinMs / count);
    for (let place = 0; place < count; place++) yield Math.round(place * everyMs);
  }

  #admit(id: string): void {
    const nowMs = this.#options.nowMs();
    this.#forget(nowMs);
    const keptMs = this.#kept.get(id);
    if (keptMs !== undefined && keptMs - nowMs > EARLY_MS) throw comeAgain(keptMs - nowMs);
    if (keptMs !== undefined) {
      this.#kept.delete(id);
      return;
    }
    if (this.#running < this.#room) return;
    // The end of the line is not moved by those who find no place in it, so it is never far away.
    if (this.#kept.size >= MOST) throw comeAgain(this.#nextMs - nowMs);
    this.#nextMs = Math.max(this.#nextMs + this.#everyMs, nowMs + FIRST_MS);
    this.#kept.set(id, this.#nextMs);
    throw comeAgain(this.#nextMs - nowMs);
  }

  #forget(nowMs: number): void {
    for (const [id, atMs] of this.#kept) {
      if (atMs + KEPT_MS > nowMs) return;
      this.#kept.delete(id);
    }
  }
}

function comeAgain(ms: number): KiteError {
  const retryAfterMs = Math.ceil(ms);
  return new KiteError("overloaded", `many kites register at once; this one's turn is in ${retryAfterMs} ms`, {
    details: { retryAfterMs },
  });
}
