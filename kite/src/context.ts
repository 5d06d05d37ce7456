import { eitherSignal } from "./abortable.ts";
import { metaWithin } from "./call-meta.ts";
import { KiteError } from "./errors.ts";
import type { Call, CallOptions } from "./method.ts";
import { DEFAULT_TIMEOUT_MS } from "./session/calls.ts";
import { isThenable } from "./thenable.ts";

/** What follows a method through everything that it awaits; Node's `AsyncLocalStorage` is one. A browser serves nothing and has none. */
export interface CallStorage {
  run<T>(scope: CallScope, work: () => T): T;
  enterWith(scope: CallScope): void;
  getStore(): CallScope | undefined;
}

/** The call that is being answered. Empty once it was: what a method leaves running has no caller who waits for it. */
export interface CallScope {
  call: Call | undefined;
}

// One for the process: a kite that calls need not be the one that serves.
let makeStorage: (() => CallStorage) | undefined;
let storage: CallStorage | undefined;
let entered: Call | undefined;

/** Says how calls can be followed here. Nothing is followed yet. */
export function offerCallStorage(make: () => CallStorage): void {
  makeStorage ??= make;
}

/**
 * From now on, calls that a method makes are part of the call that it answers. Begun by the first remote kite, and not
 * before: following costs a call of Node 20 a third of its time, and a service that calls nobody must not pay it.
 */
export function followCalls(): void {
  if (storage !== undefined || makeStorage === undefined) return;
  storage = makeStorage();
  // The method that opens the first remote kite calls through it as well.
  if (entered !== undefined) storage.enterWith({ call: entered });
}

/** The call that is being answered by whoever asks, if calls are followed. */
export function currentCall(): Call | undefined {
  return storage?.getStore()?.call;
}

/** Runs what answers a call, so that the calls that it makes are made for this one. */
export function runInCall<T>(call: Call, work: () => T): T {
  if (storage !== undefined) return runFollowed(storage, call, work);
  const before = entered;
  entered = call;
  try {
    return work();
  } finally {
    entered = before;
  }
}

/**
 * Makes a call as part of another one: it ends with it, and has at most what is left of its time.
 *
 * @throws {KiteError} `deadline_exceeded` that did not run when nothing is left; otherwise what `make` throws.
 */
export async function callWithin(
  outer: Call,
  method: string,
  options: CallOptions,
  make: (options: CallOptions) => Promise<unknown>,
): Promise<unknown> {
  // Whole milliseconds, downwards: the time shrinks with every hop, whatever the rounding.
  const leftMs = Math.floor(outer.remainingMs);
  if (leftMs <= 0) throw usedUp(outer, method);
  const timeoutMs = Math.min(options.timeoutMs ?? DEFAULT_TIMEOUT_MS, leftMs);
  const { signal, release } = eitherSignal(options.signal, outer.signal);
  try {
    return await make({ ...options, timeoutMs, signal, meta: metaWithin(options.meta, outer.meta) });
  } catch (thrown) {
    throw ofAnotherCall(explained(KiteError.from(thrown), outer, method, options));
  } finally {
    release();
  }
}

/**
 * Marks an error as the failure of a call that was made, not of the one that is being answered: a method that throws it on
 * has run itself, so its caller is told no outcome.
 */
export function ofAnotherCall<E>(error: E): E {
  if (error instanceof KiteError) error.passOn();
  return error;
}

function runFollowed<T>(follow: CallStorage, call: Call, work: () => T): T {
  const scope: CallScope = { call };
  let result: T | undefined;
  try {
    result = follow.run(scope, work);
    return result;
  } finally {
    const leave = (): void => {
      scope.call = undefined;
    };
    if (isThenable(result)) result.then(leave, leave);
    else leave();
  }
}

/** The outer call's end reaches this one as a cancellation; when it was its deadline, that is what its caller is told. */
function explained(error: KiteError, outer: Call, method: string, { signal }: CallOptions): KiteError {
  const why: unknown = outer.signal.reason;
  const byDeadline = outer.signal.aborted && why instanceof KiteError && why.code === "deadline_exceeded";
  if (error.code !== "cancelled" || signal?.aborted || !byDeadline) return error;
  const message = `${method} did not answer in what was left of the time of ${outer.method}, which called it`;
  return new KiteError("deadline_exceeded", message, { ...(error.outcome === undefined ? {} : { outcome: error.outcome }), cause: error });
}

function usedUp(outer: Call, method: string): KiteError {
  const message = `${method} was not called: ${outer.method}, which calls it, has used up the time of its own caller`;
  return ofAnotherCall(new KiteError("deadline_exceeded", message, { outcome: "not_run" }));
}
