import { KiteError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import type { CallSession, SessionState } from "../method.ts";

type AnyFunction = (...args: never[]) => unknown;

/**
 * A function of the peer's. Calling it returns a promise of its result. It is let go by `using`, by `release()`, or when it
 * is no longer reachable here; calls of it that wait for their answer keep it. Passed back to the kite that it came from, it
 * arrives as the function that was sent.
 *
 * @example const greet = method({ input: callback<(line: string) => void>() }, async (onLine) => { using print = onLine; await print("one line"); });
 */
export interface RemoteFunction extends Disposable {
  (...args: unknown[]): Promise<unknown>;
  /**
   * Lets the function go: the other side may forget it. What was called before is still answered; doing it twice is allowed. One that
   * came more often, with two calls at work for example, is one function here, and is let go as often: each lets go of its own.
   */
  release(): void;
  /** `suspended` while the connection is lost and may come back; `closed` once all of it was released or its session has ended. */
  readonly state: SessionState;
  /** Calls `listener` when the session's state changes, until the returned function is called. */
  onState(listener: (state: SessionState) => void): () => void;
}

/** Functions that were sent to the peer, by the id that they got. The same function keeps its id while the peer holds it. */
export class ExportedFunctions {
  readonly #limits: Limits;
  /** Both made with the first function: most sessions carry none. */
  #byId: Map<number, { fn: AnyFunction; sent: number }> | undefined;
  #ids: Map<AnyFunction, number> | undefined;
  #next = 1;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#byId?.size ?? 0;
  }

  add(fn: AnyFunction): number {
    const known = this.#ids?.get(fn);
    const entry = known === undefined ? undefined : this.#byId?.get(known);
    if (known !== undefined && entry !== undefined) {
      entry.sent++;
      return known;
    }
    if (this.size >= this.#limits.callbacks) throw limitError("callbacks", this.#limits, "the peer holds as many functions already");
    const id = this.#next++;
    this.#byId ??= new Map();
    this.#byId.set(id, { fn, sent: 1 });
    this.#ids ??= new Map();
    this.#ids.set(fn, id);
    return id;
  }

  /**
   * @throws {KiteError} `not_found` when the peer has let it go.
   */
  get(id: number): AnyFunction {
    const entry = this.#byId?.get(id);
    if (entry === undefined) throw new KiteError("not_found", `function ${id} is not there any more; it was released`);
    return entry.fn;
  }

  /** The peer has let go of `count` of the times that it received the function. */
  release(id: number, count: number): void {
    const entry = this.#byId?.get(id);
    if (entry === undefined) return;
    entry.sent -= count;
    if (entry.sent > 0) return;
    this.#byId?.delete(id);
    this.#ids?.delete(entry.fn);
  }

  clear(): void {
    this.#byId = undefined;
    this.#ids = undefined;
  }
}

export interface ImportOptions {
  readonly limits: Limits;
  readonly session: CallSession;
  /** Writes an invocation, now or later; the promise is of its answer. */
  readonly invoke: (fn: ImportedFunction, args: readonly unknown[]) => Promise<unknown>;
  readonly release: (id: number, count: number) => void;
}

/** Functions that came from the peer. It is told when one is no longer held here. */
export class ImportedFunctions {
  readonly #options: ImportOptions;
  /** Made with the first function. */
  #held: Map<number, ImportedFunction> | undefined;
  #collected: FinalizationRegistry<ImportedFunction> | undefined;
  readonly #letGo = (fn: ImportedFunction) => {
    // A newer stub for the same id may have taken its place.
    if (this.#held?.get(fn.id) !== fn) return;
    this.#held.delete(fn.id);
    fn.gone();
  };

  constructor(options: ImportOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#held?.size ?? 0;
  }

  get(id: number): RemoteFunction {
    const held = this.#held?.get(id);
    const known = held?.ref?.deref();
    if (held !== undefined && known !== undefined) {
      held.received++;
      return known;
    }
    const { limits } = this.#options;
    if (held === undefined && this.size >= limits.callbacks) {
      throw limitError("callbacks", limits, "the peer sent one function more");
    }
    // It was collected, and nobody was told yet. It lets go of its own copies when what needs them has left.
    held?.gone();
    const fn = new ImportedFunction(id, this.#options, this.#letGo);
    const stub = remoteFunction(fn);
    fn.ref = new WeakRef(stub);
    this.#held ??= new Map();
    this.#held.set(id, fn);
    this.#collected ??= new FinalizationRegistry(this.#letGo);
    this.#collected.register(stub, fn);
    return stub;
  }

  /** The function of this peer's that is behind `fn`, if it is held here. */
  find(fn: object): ImportedFunction | undefined {
    const imported = (fn as Partial<Stub>)[IMPORTED];
    return imported !== undefined && this.#held?.get(imported.id) === imported ? imported : undefined;
  }

  clear(): void {
    this.#held = undefined;
  }
}

/** One function of the peer's, as it is held here: its copies, and the invocations that wait. */
export class ImportedFunction {
  readonly id: number;
  /** How often it came and was not let go. */
  received = 1;
  ref: WeakRef<RemoteFunction> | undefined;
  readonly #options: ImportOptions;
  readonly #letGo: (fn: ImportedFunction) => void;
  #released = false;
  #gone = false;
  /** What must reach the peer before the release does. */
  #pins = 0;
  /** While an invocation travels in pieces, later ones must not overtake it. */
  #blocked = false;
  /** Invocations without an answer, those that wait for their turn included. */
  #open = 0;
  #waiting: (() => void)[] = [];
  /** Keeps the stub while an answer is awaited. */
  kept: RemoteFunction | undefined;
  readonly #settled = () => {
    if (--this.#open === 0) this.kept = undefined;
    if (this.#waiting.length > 0) this.#drain();
  };

  constructor(id: number, options: ImportOptions, letGo: (fn: ImportedFunction) => void) {
    this.id = id;
    this.#options = options;
    this.#letGo = letGo;
  }

  get state(): SessionState {
    return this.#released ? "closed" : this.#options.session.state;
  }

  onState(listener: (state: SessionState) => void): () => void {
    return this.#options.session.onState(listener);
  }

  invoke(stub: RemoteFunction, args: readonly unknown[]): Promise<unknown> {
    if (this.#released) return Promise.reject(new KiteError("failed_precondition", "this function was released here"));
    const { limits, invoke } = this.#options;
    // Half of the calls that may be open: a flood through one function must leave room for all others.
    if (this.#open >= limits.callbackCredit && this.#open >= limits.pendingCalls / 2) {
      return Promise.reject(
        limitError("callbackCredit", limits, `${this.#open} calls of one function wait for their answers or their turn`),
      );
    }
    this.#open++;
    this.kept = stub;
    const answer = invoke(this, args);
    // Whoever calls a function without awaiting it does not want to hear of its failure; awaiting still throws.
    answer.then(this.#settled, this.#settled);
    return answer;
  }

  /** Whether an invocation may be sent at once, not behind others. */
  get free(): boolean {
    return this.#waiting.length === 0 && this.#open <= this.#options.limits.callbackCredit && !this.#blocked;
  }

  /** Sends an invocation when its turn has come. */
  later(send: () => void): void {
    this.#waiting.push(send);
  }

  /** Holds back later invocations until the returned function is called. */
  block(): () => void {
    this.#blocked = true;
    const unpin = this.pin();
    return () => {
      this.#blocked = false;
      this.#drain();
      unpin();
    };
  }

  /** Holds back the release until the returned function is called: something that needs the function is on its way. */
  pin(): () => void {
    this.#pins++;
    return () => {
      this.#pins--;
      this.#tellRelease();
    };
  }

  /** Lets go of one of the times that it came: with the last, of the function. */
  release(): void {
    if (this.#released) return;
    if (this.received > 1) {
      this.received--;
      return this.#options.release(this.id, 1);
    }
    this.#released = true;
    this.#letGo(this);
  }

  /** Nothing here holds it any more: the peer is told as soon as nothing is on its way that needs it. */
  gone(): void {
    this.#gone = true;
    this.#tellRelease();
  }

  #drain(): void {
    const { callbackCredit } = this.#options.limits;
    while (this.#waiting.length > 0 && this.#open - this.#waiting.length < callbackCredit && !this.#blocked) this.#waiting.shift()?.();
    this.#tellRelease();
  }

  #tellRelease(): void {
    if (!this.#gone || this.#pins > 0 || this.#waiting.length > 0) return;
    this.#gone = false;
    this.#options.release(this.id, this.received);
  }
}

const IMPORTED = Symbol("kite.imported");

type Stub = RemoteFunction & { readonly [IMPORTED]: ImportedFunction };

/** What all functions of peers share: own properties on each would cost more than the rest of it. */
const shared = {
  release(this: Stub): void {
    this[IMPORTED].release();
  },
  [Symbol.dispose](this: Stub): void {
    this[IMPORTED].release();
  },
  get state(): SessionState {
    return (this as unknown as Stub)[IMPORTED].state;
  },
  onState(this: Stub, listener: (state: SessionState) => void): () => void {
    return this[IMPORTED].onState(listener);
  },
};
Object.setPrototypeOf(shared, Function.prototype);

function remoteFunction(fn: ImportedFunction): RemoteFunction {
  const call = (...args: unknown[]): Promise<unknown> => fn.invoke(stub, args);
  const stub: Stub = Object.setPrototypeOf(Object.assign(call, { [IMPORTED]: fn }), shared);
  return stub;
}
