/** Something that ends by itself unless it is taken out in time. */
export interface Expiring {
  expire(): void;
}

/**
 * Many deadlines on few timers: entries that end at about the same time share one. A timer for each call would cost more
 * than the rest of the call. A deadline fires up to 1/64 late, never early.
 */
class Deadlines {
  readonly #buckets = new Map<number, Set<Expiring>>();

  /** Adds an entry and answers with the key that {@link remove} needs. Infinite times are not kept. */
  add(entry: Expiring, inMs: number): number {
    if (!Number.isFinite(inMs)) return NEVER;
    const grain = grainOf(inMs);
    const due = Math.ceil((performance.now() + Math.max(inMs, 0)) / grain) * grain;
    let bucket = this.#buckets.get(due);
    if (bucket === undefined) {
      bucket = new Set();
      this.#buckets.set(due, bucket);
      this.#arm(due);
    }
    bucket.add(entry);
    return due;
  }

  remove(entry: Expiring, key: number): void {
    this.#buckets.get(key)?.delete(entry);
  }

  #arm(due: number): void {
    const timer: unknown = setTimeout(() => this.#fire(due), Math.min(Math.max(due - performance.now(), 0), MAX_TIMEOUT_MS));
    // A deadline alone must not keep a finished program alive. Browsers have numbers here, and no unref.
    (timer as { unref?: () => void }).unref?.();
  }

  #fire(due: number): void {
    // Timers may fire a little early, and waits longer than setTimeout can hold are armed in steps.
    if (performance.now() < due - 1) return this.#arm(due);
    const bucket = this.#buckets.get(due);
    this.#buckets.delete(due);
    for (const entry of bucket ?? []) entry.expire();
  }
}

const NEVER = -1;
// setTimeout holds a signed 32-bit number of milliseconds; more would fire at once.
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
const FINEST_MS = 8;
const LATENESS = 64;

/** A power of two, so that buckets of different grains coincide. */
function grainOf(ms: number): number {
  const wanted = ms / LATENESS;
  let grain = FINEST_MS;
  while (grain < wanted) grain *= 2;
  return grain;
}

/** The process's own; all sessions share it. */
export const deadlines = new Deadlines();
