/** Something that ends by itself unless it is taken out in time. */
export interface Expiring {
  expire(): void;
}

/** Where an entry waits for its end; {@link Deadlines.remove} takes it out. */
export interface Deadline {
  readonly entry: Expiring;
  readonly bucket: Deadline[];
  /** In the bucket; -1 when it is no longer there. */
  index: number;
}

/**
 * Many deadlines on few timers: entries that end at about the same time share one. A timer for each call would cost more
 * than the rest of the call. A deadline fires up to 1/64 late, never early.
 */
class Deadlines {
  /** Lists, and not sets, which are built anew with every burst of calls that comes and goes. */
  readonly #buckets = new Map<number, Deadline[]>();

  /** Adds an entry; undefined for times that nobody waits for, which are not kept. */
  add(entry: Expiring, inMs: number): Deadline | undefined {
    if (!(inMs <= LONGEST_MS)) return undefined;
    const grain = grainOf(inMs);
    const due = Math.ceil((performance.now() + Math.max(inMs, 0)) / grain) * grain;
    let bucket = this.#buckets.get(due);
    if (bucket === undefined) {
      bucket = [];
      this.#buckets.set(due, bucket);
      this.#arm(due);
    }
    const deadline = { entry, bucket, index: bucket.length };
    bucket.push(deadline);
    return deadline;
  }

  /** Takes an entry out, if it still waits. */
  remove(deadline: Deadline | undefined): void {
    if (deadline === undefined || deadline.index < 0) return;
    const { bucket, index } = deadline;
    deadline.index = -1;
    // The last one takes its place.
    const last = bucket.pop();
    if (last === undefined || last === deadline) return;
    bucket[index] = last;
    last.index = index;
  }

  #arm(due: number): void {
    const timer: unknown = setTimeout(() => this.#fire(due), Math.min(Math.max(due - performance.now(), 0), MAX_TIMEOUT_MS));
    // A deadline alone must not keep a finished program alive. Browsers have numbers here, and no unref.
    (timer as { unref?: () => void }).unref?.();
  }

  #fire(due: number): void {
    const bucket = this.#buckets.get(due) ?? [];
    // Timers may fire a little early, and waits longer than setTimeout can hold are armed in steps.
    if (bucket.length > 0 && performance.now() < due - 1) return this.#arm(due);
    this.#buckets.delete(due);
    for (let deadline = bucket[0]; deadline !== undefined; deadline = bucket[0]) {
      this.remove(deadline);
      deadline.entry.expire();
    }
  }
}

// 35 years. Times that a peer thinks up would have timers of their own, as many as there are powers of two.
const LONGEST_MS = 2 ** 40;
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
