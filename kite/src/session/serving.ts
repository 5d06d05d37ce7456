import { KiteError, protocolError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import type { Caller, CallSession } from "../method.ts";
import { isThenable } from "../thenable.ts";
import type { Through } from "../through.ts";
import * as MESSAGE from "../wire/message.ts";
import { IncomingCall, type IncomingCallParts, type Serve } from "./calls.ts";
import { type Explain, type FailedWork, hideErrors, reasonOf } from "./failure.ts";
import type { OutgoingParcels, Parcel } from "./parcels.ts";
import type { OutgoingStreams } from "./streams.ts";
import type { MessageWriter } from "./writer.ts";

export interface ServingOptions {
  readonly limits: Limits;
  readonly session: CallSession;
  /** Answers the peer's calls. */
  readonly serve: Serve;
  readonly caller: Caller;
  /** Checks a new credential that the peer shows, and that it is still the same user; left out where the peer needs none. */
  readonly authenticate?: ((auth: unknown) => Promise<Caller>) | undefined;
  /** What the peer is told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  /** What calls of functions go through. */
  readonly through?: Pick<Through, "invoking" | "invoked"> | undefined;
}

/** A call as it came. */
type CallParts = Omit<IncomingCallParts, "session" | "caller">;

interface ServingParts {
  readonly writer: MessageWriter;
  readonly parcels: OutgoingParcels;
  readonly sending: OutgoingStreams;
  readonly replyError: (id: number, error: KiteError) => void;
}

/** The peer's calls while they are at work here: answers each once, and tells it when nobody waits any more. */
export class Serving {
  readonly #options: ServingOptions;
  readonly #parts: ServingParts;
  readonly #atWork = new Map<number, IncomingCall>();
  /** Notifications at work. They have no id, but they count and they are told to stop. */
  #noticed: Set<IncomingCall> | undefined;
  /** Results that travel in pieces, by their call. */
  #results: Map<number, Parcel> | undefined;
  /** Who the peer is, as last verified. */
  caller: Caller;

  constructor(options: ServingOptions, parts: ServingParts) {
    this.#options = options;
    this.#parts = parts;
    this.caller = options.caller;
  }

  get size(): number {
    return this.#atWork.size;
  }

  call(id: number, parts: CallParts): void {
    const call = this.#incoming(parts);
    this.#answer(id, call, () => this.#options.serve(call));
  }

  invoke(id: number, parts: CallParts, find: () => (...args: never[]) => unknown): void {
    const { args, arrivals } = parts;
    const call = this.#incoming(parts);
    this.#answer(id, call, () => {
      const { invoked } = this.#options.through ?? {};
      const fn = find();
      arrivals?.take();
      return invoked === undefined ? fn(...(args as never[])) : invoked(call, fn.name, () => fn(...(args as never[])));
    });
  }

  notify(parts: CallParts): void {
    // Nobody asked to hear what became of it, so one too many is dropped.
    if (this.#load >= this.#options.limits.pendingCalls) return parts.arrivals?.letGo();
    const call = this.#incoming(parts);
    try {
      const result = this.#options.serve(call);
      if (!isThenable(result)) return;
      this.#noticed ??= new Set();
      const noticed = this.#noticed.add(call);
      Promise.resolve(result)
        .catch(() => call.arrivals?.letGo())
        .finally(() => noticed.delete(call));
    } catch {
      // The method's own log has it.
      call.arrivals?.letGo();
    }
  }

  authenticate(id: number, auth: unknown): void {
    this.#answer(id, this.#incoming({ method: "authenticate", args: [] }), async () => {
      const { authenticate } = this.#options;
      if (authenticate === undefined) throw new KiteError("failed_precondition", "this side asks for no credential");
      this.caller = await authenticate(auth);
    });
  }

  /** The caller no longer waits: neither for the work, nor for the rest of a large result. */
  cancel(id: number): void {
    this.#atWork.get(id)?.end(new KiteError("cancelled", "the caller has cancelled"));
    const result = this.#results?.get(id);
    if (result !== undefined) this.#parts.parcels.drop(result);
  }

  /** What the peer is told of whatever this side's code threw. */
  explain(thrown: unknown, work: FailedWork): KiteError {
    return (this.#options.explain ?? hideErrors)(thrown, work);
  }

  /** The session has ended: methods are told to stop. */
  close(why: KiteError): void {
    for (const call of [...this.#atWork.values(), ...(this.#noticed ?? [])]) call.end(why);
    this.#atWork.clear();
    this.#noticed?.clear();
    this.#results?.clear();
  }

  #incoming({ method, args, timeoutMs, meta, arrivals }: CallParts): IncomingCall {
    return new IncomingCall({ method, args, session: this.#options.session, caller: this.caller, timeoutMs, meta, arrivals });
  }

  /** Runs `work` and answers call `id` with what comes of it. What is finished at once is never kept. */
  #answer(id: number, call: IncomingCall, work: () => unknown): void {
    if (this.#atWork.has(id)) throw protocolError(`call ${id} is being served already`);
    const { pendingCalls } = this.#options.limits;
    if (this.#load >= pendingCalls) {
      const message = `the limit pendingCalls is ${pendingCalls}; ${call.method.slice(0, MAX_NAME)} would have been one more`;
      return this.#fail(id, call, new KiteError("overloaded", message, { outcome: "not_run" }));
    }
    let result: unknown;
    try {
      result = work();
    } catch (thrown) {
      return this.#fail(id, call, this.explain(thrown, call));
    }
    if (!isThenable(result)) return this.#reply(id, call, result);
    this.#atWork.set(id, call);
    call.arm();
    Promise.resolve(result).then(
      (value) => this.#finish(id, call) && this.#reply(id, call, value),
      (thrown) => this.#finish(id, call) && this.#fail(id, call, this.explain(thrown, call)),
    );
  }

  /** What the call brought is let go, unless a method has it: that may have kept it, and fails all the same. */
  #fail(id: number, { arrivals }: IncomingCall, error: KiteError): void {
    arrivals?.letGo();
    this.#parts.replyError(id, error);
  }

  get #load(): number {
    return this.#noticed === undefined ? this.#atWork.size : this.#atWork.size + this.#noticed.size;
  }

  /** False when the session has ended meanwhile, and nobody is left to be answered. */
  #finish(id: number, call: IncomingCall): boolean {
    call.disarm();
    return this.#atWork.delete(id);
  }

  #reply(id: number, call: IncomingCall, value: unknown): void {
    try {
      const written = this.#parts.writer.write([MESSAGE.result, id, value]);
      if (written === undefined) return;
      const { streams, parcel } = written;
      if (parcel !== undefined && !parcel.over) this.#follow(id, call, parcel);
      if (streams.length === 0) return;
      this.#parts.sending.whenLeft(streams, call, () => call.end(new KiteError("cancelled", "the caller reads no further")));
    } catch (thrown) {
      const { code, message } = this.explain(reasonOf(thrown), call);
      this.#parts.replyError(id, new KiteError(code === "limit_exceeded" ? code : "invalid_result", message, { cause: thrown }));
    }
  }

  #follow(id: number, call: IncomingCall, parcel: Parcel): void {
    this.#results ??= new Map();
    const results = this.#results.set(id, parcel);
    const over = () => void results.delete(id);
    const failed = (error: KiteError) => {
      over();
      this.#parts.replyError(id, new KiteError("invalid_result", this.explain(reasonOf(error), call).message, { cause: error }));
    };
    parcel.follow({ sent: over, failed, dropped: over });
  }
}

// Long enough to recognise a method by; a peer may send a name of any length, and gets it back.
const MAX_NAME = 100;
