/**
 * Entries that wait under ids which it gives out itself, each once and always higher ones. Not a `Map`: that builds its table anew
 * with every burst that comes and goes, and the old tables keep what they held alive until the next full garbage collection.
 */
export class IdTable<T extends { readonly id: number }> {
  /** An entry is at its id modulo the length, which is a power of two. At least half of the slots are free. */
  #slots: (T | undefined)[] = freeSlots(FEWEST_SLOTS);
  #lastId = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The id of the next entry. */
  nextId(): number {
    // The place of one that has waited for a whole round is passed over.
    do this.#lastId++;
    while (this.#slots[this.#slotOf(this.#lastId)] !== undefined);
    return this.#lastId;
  }

  /** Adds an entry under the last id that was given out. */
  add(entry: T): void {
    this.#slots[this.#slotOf(entry.id)] = entry;
    if (++this.#size * 2 > this.#slots.length) this.#resize(this.#slots.length * 2);
  }

  /** Takes an entry out; undefined if there is none, whatever the number. */
  take(id: number): T | undefined {
    const slot = this.#slotOf(id);
    const entry = this.#slots[slot];
    if (entry?.id !== id) return undefined;
    this.#slots[slot] = undefined;
    // One burst must not weigh on a session for the rest of its life.
    if (--this.#size === 0 && this.#slots.length > MOST_FREE_SLOTS) this.#resize(FEWEST_SLOTS);
    return entry;
  }

  /** All entries, the oldest first. */
  entries(): T[] {
    return this.#slots.filter((entry) => entry !== undefined).sort((a, b) => a.id - b.id);
  }

  #slotOf(id: number): number {
    return id & (this.#slots.length - 1);
  }

  #resize(length: number): void {
    const entries = this.entries();
    this.#slots = freeSlots(length);
    for (const entry of entries) this.#slots[this.#slotOf(entry.id)] = entry;
  }
}

function freeSlots(length: number): undefined[] {
  return Array.from({ length }, () => undefined);
}

// Most sessions have a call or two under way, if any.
const FEWEST_SLOTS = 16;
// Two KiB; 128 calls under way at once, again and again, find the table as they left it.
const MOST_FREE_SLOTS = 256;
