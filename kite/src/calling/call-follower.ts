import { AsyncLocalStorage } from "node:async_hooks";
import { eitherSignal } from "../abortable.ts";
import { KiteError } from "../errors.ts";
import type { Call, CallOptions } from "../method.ts";
import { DEFAULT_TIMEOUT_MS } from "../session/calls.ts";
import { metaWithin } from "./call-meta.ts";
import { type CallFollower, leaveAfter } from "./context.ts";

/** The call that is being answered. Empty once it was: what a method leaves running has no caller who waits for it. */
interface CallScope {
  call: Call | undefined;
}

/** Follows calls by Node's `AsyncLocalStorage`. */
export function asyncCallFollower(): CallFollower {
  const storage = new AsyncLocalStorage<CallScope>();
  return {
    current: () => storage.getStore()?.call,
    run: (call, work) => runFollowed(storage, call, work),
    enter: (call) => {
      const scope: CallScope = { call };
      storage.enterWith(scope);
      return () => {
        scope.call = undefined;
      };
    },
    callWithin,
  };
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
    throw explained(KiteError.from(thrown), outer, method, options).passOn();
  } finally {
    release();
  }
}

function runFollowed<T>(storage: AsyncLocalStorage<CallScope>, call: Call, work: () => T): T {
  const scope: CallScope = { call };
  const leave = (): void => {
    scope.call = undefined;
  };
  let result: T;
  try {
    result = storage.run(scope, work);
  } catch (thrown) {
    leave();
    throw thrown;
  }
  return leaveAfter(result, leave);
}

/** The outer call's end reaches this one as a cancellation; when its time was over, that is what whoever made it is told. */
function explained(error: KiteError, outer: Call, method: string, { signal }: CallOptions): KiteError {
  if (error.code !== "cancelled" || signal?.aborted || !outer.signal.aborted) return error;
  const why: unknown = outer.signal.reason;
  // A caller whose time is over cancels as well, and that may be heard first.
  if (outer.remainingMs > 0 && !(why instanceof KiteError && why.code === "deadline_exceeded")) return error;
  const message = `${method} did not answer in what was left of the time of ${outer.method}, which called it`;
  return new KiteError("deadline_exceeded", message, { ...(error.outcome === undefined ? {} : { outcome: error.outcome }), cause: error });
}

function usedUp(outer: Call, method: string): KiteError {
  const message = `${method} was not called: ${outer.method}, which calls it, has used up the time of its own caller`;
  return new KiteError("deadline_exceeded", message, { outcome: "not_run" }).passOn();
}
