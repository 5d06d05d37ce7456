import { KiteError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import type { Call, Caller, CallMeta, CallOptions, CallSession } from "../method.ts";
import type { Arrivals } from "./arrivals.ts";
import { type Deadline, deadlines, type Expiring } from "./deadlines.ts";
import { IdTable } from "./id-table.ts";
import { sharedController } from "./shared-signal.ts";

// One minute: far above what any healthy method takes, and short enough for a person to see that something is wrong.
export const DEFAULT_TIMEOUT_MS = 60_000;

/** What carries a call that does not go with the frame of its tick: the frame that it was sent in, infinite before. */
export interface Departure {
  readonly frame: number;
}

/** Writes a call under its id; answers with what carries it, if that is not the next frame. */
export type SendCall = (id: number, remainingMs: number) => Departure | undefined;

/** Calls that this side made and that wait for their answer. */
export class OutgoingCalls {
  readonly #limits: Limits;
  readonly #cancel: (id: number, departure: Departure | undefined) => void;
  readonly #pending = new IdTable<PendingCall>();
  /** Made with the first call that has a signal. */
  #signals: SharedSignals | undefined;

  constructor(limits: Limits, cancel: (id: number, departure: Departure | undefined) => void) {
    this.#limits = limits;
    this.#cancel = cancel;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Opens a call: `send` writes it under the id it is given; the promise settles with the answer, exactly once. */
  open(name: string, options: CallOptions, frame: number, send: SendCall): Promise<unknown> {
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    if (signal?.aborted) return Promise.reject(cancelled(name, signal, "not_run"));
    if (this.#pending.size >= this.#limits.pendingCalls) {
      return Promise.reject(limitError("pendingCalls", this.#limits, `${name} would have been one more; wait for answers`));
    }
    return new Promise((resolve, reject) => {
      const call = new PendingCall({ id: this.#pending.nextId(), name, timeoutMs, frame, signal, resolve, reject, calls: this });
      // All before it is written: reading a value may make further calls, or end this one.
      this.#pending.add(call);
      call.deadline = deadlines.add(call, timeoutMs);
      if (signal !== undefined) {
        this.#signals ??= new SharedSignals();
        this.#signals.add(signal, call);
      }
      try {
        call.departure = send(call.id, timeoutMs);
      } catch (thrown) {
        this.#take(call.id);
        reject(thrown);
      }
    });
  }

  /** An answer came in; false for late and unknown ones, which are ignored, since the caller may have given up. */
  resolve(id: number, value: unknown): boolean {
    const call = this.#take(id);
    call?.resolve(value);
    return call !== undefined;
  }

  /** As {@link resolve}, for a failure. */
  reject(id: number, error: KiteError): void {
    this.#take(id)?.reject(error);
  }

  /** Gives up one call from this side, and tells the peer. */
  abandon(id: number, error: KiteError): void {
    const call = this.#take(id);
    if (call === undefined) return;
    this.#cancel(id, call.departure);
    call.reject(error);
  }

  /** Ends all calls at once; `wasSent` tells whether a call's frame can have reached the peer. */
  failAll(why: KiteError, wasSent: (frame: number) => boolean): void {
    for (const { id, name, frame, departure } of this.#pending.entries()) {
      this.reject(id, wasSent(departure?.frame ?? frame) ? lost(name, why) : notSent(name, why));
    }
  }

  #take(id: number): PendingCall | undefined {
    const call = this.#pending.take(id);
    if (call === undefined) return undefined;
    deadlines.remove(call.deadline);
    if (call.signal !== undefined) this.#signals?.remove(call.signal, call);
    return call;
  }
}

interface PendingCallParts {
  readonly id: number;
  readonly name: string;
  readonly timeoutMs: number;
  readonly frame: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: KiteError) => void;
  readonly calls: OutgoingCalls;
}

class PendingCall implements Expiring {
  readonly id: number;
  readonly name: string;
  readonly frame: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: KiteError) => void;
  readonly #timeoutMs: number;
  readonly #calls: OutgoingCalls;
  departure: Departure | undefined;
  deadline: Deadline | undefined;

  constructor({ id, name, timeoutMs, frame, signal, resolve, reject, calls }: PendingCallParts) {
    this.id = id;
    this.name = name;
    this.frame = frame;
    this.signal = signal;
    this.resolve = resolve;
    this.reject = reject;
    this.#timeoutMs = timeoutMs;
    this.#calls = calls;
  }

  expire(): void {
    const outcome = this.#outcome;
    const message = `${this.name} did not answer within ${this.#timeoutMs} ms; it ${outcome === "unknown" ? "may have run" : "did not run"}`;
    this.#calls.abandon(this.id, new KiteError("deadline_exceeded", message, { outcome }).passOn());
  }

  abort(signal: AbortSignal): void {
    this.#calls.abandon(this.id, cancelled(this.name, signal, this.#outcome));
  }

  /** A call that was given up before all of it was sent cannot have run. */
  get #outcome(): "not_run" | "unknown" {
    return this.departure?.frame === Number.POSITIVE_INFINITY ? "not_run" : "unknown";
  }
}

/** One listener for all calls that share a signal: Node takes eleven on one signal for a leak, and each costs more than a call. */
class SharedSignals {
  readonly #bySignal = new Map<AbortSignal, { calls: Set<PendingCall>; abort: () => void }>();

  add(signal: AbortSignal, call: PendingCall): void {
    let shared = this.#bySignal.get(signal);
    if (shared === undefined) {
      const calls = new Set<PendingCall>();
      const abort = () => {
        for (const each of [...calls]) each.abort(signal);
      };
      shared = { calls, abort };
      this.#bySignal.set(signal, shared);
      signal.addEventListener("abort", abort, { once: true });
    }
    shared.calls.add(call);
  }

  remove(signal: AbortSignal, call: PendingCall): void {
    const shared = this.#bySignal.get(signal);
    shared?.calls.delete(call);
    if (shared === undefined || shared.calls.size > 0) return;
    signal.removeEventListener("abort", shared.abort);
    this.#bySignal.delete(signal);
  }
}

/** As `reason` of the end of a session: its caller may not come back, and is told so in place of `disconnected`. */
export const ACCESS_LOST = "access_lost";

function lost(name: string, why: KiteError): KiteError {
  const code = why.reason === ACCESS_LOST ? why.code : "disconnected";
  return new KiteError(code, `${name}: ${why.message}; it may have run`, { outcome: "unknown", cause: why }).passOn();
}

/** Nothing is doubtful about a call that never left: its error is the reason itself. Passed on: a method that called may have run. */
function notSent(name: string, why: KiteError): KiteError {
  return new KiteError(why.code, `${name}: ${why.message}; it did not run`, { outcome: "not_run", cause: why }).passOn();
}

function cancelled(name: string, signal: AbortSignal, outcome: "not_run" | "unknown"): KiteError {
  return new KiteError("cancelled", `${name} was cancelled by its caller`, { outcome, cause: signal.reason }).passOn();
}

/** What answers calls: the value, a promise of it, or a throw. */
export type Serve = (call: IncomingCall) => unknown;

export interface IncomingCallParts {
  readonly method: string;
  readonly args: readonly unknown[];
  readonly session: CallSession;
  readonly caller: Caller;
  /** How long the caller waits, in milliseconds; undefined: it did not say. */
  readonly timeoutMs?: number | undefined;
  readonly meta?: CallMeta | undefined;
  readonly arrivals?: Arrivals | undefined;
}

const NO_META: CallMeta = {};

/** One call that the peer made. It is also what the method sees as its {@link Call}. */
export class IncomingCall implements Call, Expiring {
  readonly method: string;
  readonly args: readonly unknown[];
  readonly session: CallSession;
  readonly caller: Caller;
  readonly meta: CallMeta;
  /** What the arguments hold that must be let go if no method gets them. */
  readonly arrivals: Arrivals | undefined;
  readonly #dueAt: number;
  #deadline: Deadline | undefined;
  #controller: AbortController | undefined;
  #ended: KiteError | undefined;

  constructor({ method, args, session, caller, timeoutMs, meta = NO_META, arrivals }: IncomingCallParts) {
    this.method = method;
    this.args = args;
    this.session = session;
    this.caller = caller;
    this.meta = meta;
    this.arrivals = arrivals;
    this.#dueAt = timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  }

  get remainingMs(): number {
    return Math.max(0, this.#dueAt - performance.now());
  }

  // Made when first asked for: most methods never look at it, and it would cost more than the rest of the call.
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = sharedController();
      if (this.#ended !== undefined) this.#controller.abort(this.#ended);
    }
    return this.#controller.signal;
  }

  /** Starts the deadline; not done for calls that were answered at once. */
  arm(): void {
    this.#deadline = deadlines.add(this, this.remainingMs);
  }

  disarm(): void {
    deadlines.remove(this.#deadline);
  }

  expire(): void {
    this.end(new KiteError("deadline_exceeded", `${this.method} ran out of its caller's time`));
  }

  /** Tells the method that nobody waits any more. */
  end(why: KiteError): void {
    this.#ended ??= why;
    this.#controller?.abort(why);
  }
}
