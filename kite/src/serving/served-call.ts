import { KiteError } from "../errors.ts";
import type { Call, Caller, CallMeta, CallSession } from "../method.ts";
import type { Arrivals } from "../session/arrivals.ts";
import { sharedController } from "../session/shared-signal.ts";

/** A call with its arguments, as they came. */
export interface ServedCall extends Call {
  readonly args: readonly unknown[];
  /** As {@link IncomingCall.arrivals}. */
  readonly arrivals?: Arrivals | undefined;
}

/** Answers a call: the value, a promise of it, or a throw. */
export type Answer = (call: ServedCall) => unknown;

/**
 * The call, for the method that is begun with it: what it brought is the method's now.
 *
 * @throws {KiteError} `cancelled` when that was let go, since nobody waits for the call any more.
 */
export function begun(call: ServedCall): ServedCall {
  if (call.arrivals === undefined || call.arrivals.take()) return call;
  // Without them it would take in a stream without its chunks, and think that this is all of it.
  throw new KiteError("cancelled", `${call.method} was given up before it began; it did not run`, { outcome: "not_run" });
}

/** Stands before a method and lets a call through, later or not at all. */
export type Guard = (call: ServedCall, next: Answer) => unknown;

/** The call that a guard hands on when the method's end is not its caller's: sooner, or only when nobody waits any more. */
export class OwnCall implements ServedCall {
  readonly method: string;
  readonly args: readonly unknown[];
  readonly caller: Caller;
  readonly session: CallSession;
  readonly meta: CallMeta;
  readonly arrivals: Arrivals | undefined;
  #dueAt: number;
  #controller: AbortController | undefined;
  #ended: KiteError | undefined;

  constructor({ method, args, caller, session, meta, arrivals }: ServedCall, remainingMs: number) {
    this.method = method;
    this.args = args;
    this.caller = caller;
    this.session = session;
    this.meta = meta;
    this.arrivals = arrivals;
    this.#dueAt = performance.now() + remainingMs;
  }

  get remainingMs(): number {
    return Math.max(0, this.#dueAt - performance.now());
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = sharedController();
      if (this.#ended !== undefined) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  /** Somebody waits longer than those before. */
  extend(remainingMs: number): void {
    this.#dueAt = Math.max(this.#dueAt, performance.now() + remainingMs);
  }

  /** Tells the method to stop. */
  end(why: KiteError): void {
    this.#ended ??= why;
    this.#controller?.abort(why);
  }
}

/** Whose call it is, for what is counted or kept per caller. Strangers share a name but nothing else: each session is its own. */
export function callerKey({ caller, session }: Call): string {
  return caller.role === undefined ? `session ${session.id}` : `user ${caller.username}`;
}
