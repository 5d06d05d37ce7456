import { type Limits, limitError } from "../limits.ts";

type AnyFunction = (...args: never[]) => unknown;

/**
 * Functions that were sent to a peer that speaks dnode, by the id that they got, from 0. The same function keeps its id, as in
 * kite.js. The dialect has no word for letting one go: all but response callbacks, which are used once, stay until the peer
 * says `cull` or the session ends.
 */
export class DnodeFunctions {
  readonly #limits: Limits;
  readonly #byId = new Map<number, AnyFunction>();
  readonly #ids = new Map<AnyFunction, number>();
  readonly #once = new Map<number, AnyFunction>();
  #next = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#byId.size;
  }

  /** Gives a function its id; one that has an id gets another where that is `taken`, since an id has one place in a message. */
  add(fn: AnyFunction, taken: ReadonlySet<number>): number {
    const known = this.#ids.get(fn);
    if (known !== undefined && !taken.has(known)) return known;
    if (this.#byId.size >= this.#limits.callbacks) {
      throw limitError(
        "callbacks",
        this.#limits,
        "the peer holds as many functions already, and dnode cannot take them back; pass the same ones again, or dial anew",
      );
    }
    const id = this.#next++;
    this.#byId.set(id, fn);
    if (known === undefined) this.#ids.set(fn, id);
    return id;
  }

  /** As {@link add}, for a function that is called at most once. */
  addOnce(fn: AnyFunction): number {
    const id = this.#next++;
    this.#once.set(id, fn);
    return id;
  }

  /** The function that the peer calls; undefined when it is not there any more. One that is used once is gone after this. */
  take(id: number): AnyFunction | undefined {
    const once = this.#once.get(id);
    this.#once.delete(id);
    return once ?? this.#byId.get(id);
  }

  remove(id: number): void {
    this.#once.delete(id);
    const fn = this.#byId.get(id);
    this.#byId.delete(id);
    if (fn !== undefined && this.#ids.get(fn) === id) this.#ids.delete(fn);
  }

  clear(): void {
    this.#byId.clear();
    this.#ids.clear();
    this.#once.clear();
  }
}
