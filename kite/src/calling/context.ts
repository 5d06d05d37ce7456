import type { Call, CallOptions } from "../method.ts";
import { isThenable } from "../thenable.ts";

/** What follows a method through everything that it awaits, so that its calls are made for the call that it answers. */
export interface CallFollower {
  /** The call that is being answered by whoever asks. */
  current(): Call | undefined;
  /** Runs what answers a call. */
  run<T>(call: Call, work: () => T): T;
  /** The method that is at work already answers this call, until the returned function is called. */
  enter(call: Call): () => void;
  /** Makes a call as part of another one. */
  callWithin(outer: Call, method: string, options: CallOptions, make: (options: CallOptions) => Promise<unknown>): Promise<unknown>;
}

// One for the process: a kite that calls need not be the one that serves. A browser serves nothing and offers none.
let offered: (() => CallFollower) | undefined;
let follower: CallFollower | undefined;
let entered: { readonly call: Call; leave: (() => void) | undefined } | undefined;

/** Says how calls can be followed here. Nothing is followed yet. */
export function offerCallFollower(make: () => CallFollower): void {
  offered ??= make;
}

/**
 * From now on, calls that a method makes are part of the call that it answers. Begun by the first remote kite, and not
 * before: on Node 20 following adds half again to what serving a call costs, and a service that calls nobody must not pay it.
 */
export function followCalls(): void {
  if (follower !== undefined || offered === undefined) return;
  follower = offered();
  // The method that opens the first remote kite calls through it as well.
  if (entered !== undefined) entered.leave = follower.enter(entered.call);
}

/** What follows calls, if any does. */
export function callFollower(): CallFollower | undefined {
  return follower;
}

/**
 * The call that is being answered by whoever asks, if calls are followed: they are as soon as the process has a remote kite.
 *
 * @example log.info({ caller: currentCall()?.caller.username }, "stored");
 */
export function currentCall(): Call | undefined {
  return follower?.current();
}

/** Runs what answers a call, so that the calls that it makes are made for this one. */
export function runInCall<T>(call: Call, work: () => T): T {
  if (follower !== undefined) return follower.run(call, work);
  const before = entered;
  const own: NonNullable<typeof entered> = { call, leave: undefined };
  entered = own;
  let result: T;
  try {
    result = work();
  } catch (thrown) {
    own.leave?.();
    throw thrown;
  } finally {
    entered = before;
  }
  return own.leave === undefined ? result : leaveAfter(result, own.leave);
}

/** What a method leaves running has no caller who waits for it: its calls are its own again. */
export function leaveAfter<T>(result: T, leave: () => void): T {
  if (!isThenable(result)) {
    leave();
    return result;
  }
  // Once: a query builder runs its query each time that `then` is called.
  const answer = Promise.resolve(result);
  answer.then(leave, leave);
  // Whoever awaits it sees no difference.
  return answer as T;
}
