import { KiteError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";

type AnyFunction = (...args: never[]) => unknown;

/**
 * A function of the peer's. Calling it returns a promise of its result. It is let go by `using`, by its dispose method, or
 * when it is no longer reachable here.
 */
export type RemoteFunction = ((...args: unknown[]) => Promise<unknown>) & Disposable;

/** Functions that were sent to the peer, by the id that they got. The same function keeps its id while the peer holds it. */
export class ExportedFunctions {
  readonly #limits: Limits;
  readonly #byId = new Map<number, { fn: AnyFunction; sent: number }>();
  readonly #ids = new Map<AnyFunction, number>();
  #next = 1;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#byId.size;
  }

  add(fn: AnyFunction): number {
    const known = this.#ids.get(fn);
    const entry = known === undefined ? undefined : this.#byId.get(known);
    if (known !== undefined && entry !== undefined) {
      entry.sent++;
      return known;
    }
    if (this.#byId.size >= this.#limits.callbacks) throw limitError("callbacks", this.#limits, "the peer holds as many functions already");
    const id = this.#next++;
    this.#byId.set(id, { fn, sent: 1 });
    this.#ids.set(fn, id);
    return id;
  }

  /**
   * @throws {KiteError} `not_found` when the peer has released it.
   */
  get(id: number): AnyFunction {
    const entry = this.#byId.get(id);
    if (entry === undefined) throw new KiteError("not_found", `function ${id} is not there any more; it was released`);
    return entry.fn;
  }

  /** The peer has let go of `count` of the times that it received the function. */
  release(id: number, count: number): void {
    const entry = this.#byId.get(id);
    if (entry === undefined) return;
    entry.sent -= count;
    if (entry.sent > 0) return;
    this.#byId.delete(id);
    this.#ids.delete(entry.fn);
  }

  clear(): void {
    this.#byId.clear();
    this.#ids.clear();
  }
}

/** Functions that came from the peer. It is told when one is no longer held here. */
export class ImportedFunctions {
  readonly #limits: Limits;
  readonly #invoke: (id: number, args: readonly unknown[]) => Promise<unknown>;
  readonly #release: (id: number, count: number) => void;
  readonly #held = new Map<number, { ref: WeakRef<RemoteFunction>; received: number }>();
  readonly #collected = new FinalizationRegistry<{ id: number; ref: WeakRef<RemoteFunction> }>(({ id, ref }) => {
    // A newer stub for the same id may have taken the place of the collected one.
    if (this.#held.get(id)?.ref === ref) this.#letGo(id);
  });

  constructor(
    limits: Limits,
    invoke: (id: number, args: readonly unknown[]) => Promise<unknown>,
    release: (id: number, count: number) => void,
  ) {
    this.#limits = limits;
    this.#invoke = invoke;
    this.#release = release;
  }

  get size(): number {
    return this.#held.size;
  }

  get(id: number): RemoteFunction {
    const held = this.#held.get(id);
    const known = held?.ref.deref();
    if (held !== undefined && known !== undefined) {
      held.received++;
      return known;
    }
    if (held === undefined && this.#held.size >= this.#limits.callbacks) {
      throw limitError("callbacks", this.#limits, "the peer sent one function more");
    }
    const stub = this.#stub(id);
    const ref = new WeakRef(stub);
    this.#held.set(id, { ref, received: (held?.received ?? 0) + 1 });
    this.#collected.register(stub, { id, ref });
    return stub;
  }

  clear(): void {
    this.#held.clear();
  }

  #stub(id: number): RemoteFunction {
    let released = false;
    const call = (...args: unknown[]): Promise<unknown> =>
      released ? Promise.reject(new KiteError("failed_precondition", "this function was released here")) : this.#invoke(id, args);
    const release = () => {
      if (released) return;
      released = true;
      this.#letGo(id);
    };
    return Object.assign(call, { [Symbol.dispose]: release });
  }

  #letGo(id: number): void {
    const held = this.#held.get(id);
    if (held === undefined) return;
    this.#held.delete(id);
    this.#release(id, held.received);
  }
}
