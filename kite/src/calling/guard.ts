import type { CallOptions } from "../method.ts";
import type { Connection } from "./connection.ts";

/**
 * Stands between a caller and its peers: may let a call through, refuse it, or make it wait. `breaker()` of
 * `@kite-mesh/kite/breaker` is one; kite itself knows only this.
 */
export interface Guard {
  /** Makes the call with `work`, or rejects in its place. */
  run<T>(about: GuardedCall, work: () => Promise<T>): Promise<T>;
}

/** Which call a guard is asked about. */
export interface GuardedCall {
  /** The kite that is called: its path if it is known, else its address or the query that finds it. */
  readonly peer: string;
  readonly method: string;
}

/** The `reason` of an `unavailable` that a guard made: waiting a moment does not help, another peer does. */
export const CIRCUIT_OPEN = "circuit_open";

/** A connection whose calls a guard watches. */
export class Guarded implements Connection {
  readonly inner: Connection;
  readonly #guard: Guard;
  readonly #peer: () => string;

  constructor(inner: Connection, guard: Guard, peer: () => string) {
    this.inner = inner;
    this.#guard = guard;
    this.#peer = peer;
  }

  get state(): string | undefined {
    return this.inner.state;
  }

  get session(): unknown {
    return this.inner.session;
  }

  call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    return this.#guard.run({ peer: this.#peer(), method }, () => this.inner.call(method, args, options));
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.inner[Symbol.asyncDispose]();
  }
}
