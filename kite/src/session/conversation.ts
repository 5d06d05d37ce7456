import { KiteError } from "../errors.ts";
import type { Limits } from "../limits.ts";
import type { Caller, CallMeta, CallOptions, CallSession } from "../method.ts";
import { isThenable } from "../thenable.ts";
import { type Frame, isCount, MESSAGE } from "../wire/v1.ts";
import { carriedError, checkValue, reviveValue, stringifyValue, type ValueSink, type ValueSource } from "../wire/values.ts";
import { ExportedFunctions, ImportedFunctions } from "./callbacks.ts";
import { IncomingCall, OutgoingCalls, type Serve } from "./calls.ts";
import type { Outbox } from "./outbox.ts";
import { IncomingStreams, OutgoingStreams } from "./streams.ts";

export interface ConversationOptions {
  readonly limits: Limits;
  readonly outbox: Outbox;
  readonly session: CallSession;
  /** Answers the peer's calls. */
  readonly serve: Serve;
  readonly caller: Caller;
  /** Checks a new credential that the peer shows; left out where the peer needs none. */
  readonly authenticate?: ((auth: unknown) => Promise<Caller>) | undefined;
}

/**
 * What two kites say to each other, whatever carries it: turns calls, functions and streams into messages and back. Its
 * session owns it and tells it when all is over.
 */
export class Conversation {
  readonly #options: ConversationOptions;
  readonly #outbox: Outbox;
  readonly #calls: OutgoingCalls;
  readonly #serving = new Map<number, IncomingCall>();
  readonly #exported: ExportedFunctions;
  readonly #imported: ImportedFunctions;
  readonly #sending: OutgoingStreams;
  readonly #receiving: IncomingStreams;
  readonly #sink: ValueSink;
  #caller: Caller;
  #over: KiteError | undefined;
  /** Notifications at work. They have no id, but they count and they are told to stop. */
  readonly #noticed = new Set<IncomingCall>();
  /** Functions and streams in the message that is being written, to be taken back if it cannot be. */
  #functions: number[] = [];
  #streams: number[] = [];

  constructor(options: ConversationOptions) {
    const { limits, outbox } = options;
    this.#options = options;
    this.#outbox = outbox;
    this.#caller = options.caller;
    this.#calls = new OutgoingCalls(limits, (id) => this.#push(`[${MESSAGE.cancel},${id}]`));
    this.#exported = new ExportedFunctions(limits);
    this.#imported = new ImportedFunctions(
      limits,
      (id, args) => this.#invoke(id, args),
      (id, count) => this.#push(`[${MESSAGE.release},${id},${count}]`),
    );
    const wires = {
      chunk: (id: number, chunk: unknown) => this.#carry(`[${MESSAGE.chunk},${id},`, chunk, "]"),
      end: (id: number, error?: KiteError) => this.#push(`[${MESSAGE.end},${id}${error === undefined ? "" : `,${errorText(error)}`}]`),
      credit: (id: number, weight: number) => this.#push(`[${MESSAGE.credit},${id},${weight}]`),
      stop: (id: number) => this.#push(`[${MESSAGE.stop},${id}]`),
      congested: () => outbox.congestion !== undefined,
    };
    this.#sending = new OutgoingStreams(limits, wires);
    this.#receiving = new IncomingStreams(limits, wires);
    this.#sink = {
      maxDepth: limits.depth,
      addBytes: (bytes) => outbox.addSegment(bytes),
      exportStream: (source) => last(this.#streams, this.#sending.add(source)),
      exportFunction: (fn) => last(this.#functions, this.#exported.add(fn)),
    };
  }

  /** Who the peer is, as last verified. */
  get caller(): Caller {
    return this.#caller;
  }

  /** How much is open; for metrics and leak checks. */
  get counts(): SessionCounts {
    return {
      calls: this.#calls.size,
      serving: this.#serving.size,
      exported: this.#exported.size,
      imported: this.#imported.size,
      sending: this.#sending.size,
      receiving: this.#receiving.size,
    };
  }

  /** The peer has shown a new credential of the same user. */
  set caller(caller: Caller) {
    this.#caller = caller;
  }

  call(method: string, args: readonly unknown[], options: CallOptions): Promise<unknown> {
    return this.#open(method, options, (id, timeoutMs) => {
      this.#carry(`[${MESSAGE.call},${id},${JSON.stringify(method)},`, args, callTail(timeoutMs, options.meta));
    });
  }

  notify(method: string, args: readonly unknown[]): void {
    const { congestion } = this.#outbox;
    if (congestion !== undefined) throw congestion;
    this.#carry(`[${MESSAGE.notify},${JSON.stringify(method)},`, args, "]");
  }

  async authenticate(auth: unknown): Promise<void> {
    await this.#open("authenticate", {}, (id) => this.#carry(`[${MESSAGE.authenticate},${id},`, auth, "]"));
  }

  /** Streams go on after the peer has acknowledged enough. */
  resume(): void {
    this.#sending.resume();
  }

  /**
   * Acts on the messages of a frame, in their order.
   *
   * @throws {KiteError} `protocol_error` or `limit_exceeded` when the peer broke the rules; the session must end.
   */
  read(frame: Frame): void {
    for (const message of frame.messages) {
      if (this.#over !== undefined) return;
      this.#handle(message, frame);
    }
  }

  /** Ends everything that is open: calls fail, functions and streams are let go, methods are told to stop. */
  close(why: KiteError): void {
    this.#over = why;
    this.#calls.failAll(why, (frame) => this.#outbox.wasSent(frame));
    for (const call of [...this.#serving.values(), ...this.#noticed]) call.end(why);
    this.#serving.clear();
    this.#noticed.clear();
    this.#sending.clear();
    this.#receiving.clear(new KiteError("disconnected", why.message, { cause: why }));
    this.#exported.clear();
    this.#imported.clear();
  }

  #invoke(id: number, args: readonly unknown[]): Promise<unknown> {
    const answer = this.#open(`function ${id}`, FOREVER, (callId) => this.#carry(`[${MESSAGE.invoke},${callId},${id},`, args, "]"));
    // Whoever calls a function without awaiting it does not want to hear of its failure; awaiting still throws.
    answer.catch(() => {});
    return answer;
  }

  #open(name: string, options: CallOptions, send: (id: number, timeoutMs: number) => void): Promise<unknown> {
    // Also for functions that outlive their session: nobody would ever answer.
    if (this.#over !== undefined) return Promise.reject(gone(name, this.#over));
    const { congestion, nextFrame } = this.#outbox;
    return congestion === undefined ? this.#calls.open(name, options, nextFrame, send) : Promise.reject(congestion);
  }

  #push(message: string): void {
    if (this.#over === undefined) this.#outbox.push(message);
  }

  /** Writes one message around a value, or leaves nothing of it behind. Answers with the streams that the value holds. */
  #carry(head: string, value: unknown, tail: string): readonly number[] {
    if (this.#over !== undefined) return NONE;
    try {
      const message = head + stringifyValue(value, this.#sink) + tail;
      this.#outbox.checkSize(message);
      this.#outbox.push(message);
    } catch (thrown) {
      this.#outbox.discard();
      for (const id of this.#functions.splice(0)) this.#exported.release(id, 1);
      for (const id of this.#streams.splice(0)) this.#sending.stop(id);
      throw KiteError.from(thrown, "invalid_argument");
    }
    if (this.#functions.length > 0) this.#functions = [];
    return this.#streams.length > 0 ? this.#streams.splice(0) : NONE;
  }

  #handle(message: readonly unknown[], frame: Frame): void {
    const [type, id] = message;
    if (type === MESSAGE.notify) return this.#onNotify(message, frame);
    if (!isCount(id)) throw new KiteError("protocol_error", `a message of type ${String(type)} has a number as its second element`);
    switch (type) {
      case MESSAGE.call:
        return this.#onCall(id, message, frame);
      case MESSAGE.result:
        return this.#calls.resolve(id, this.#revive(message[2], frame));
      case MESSAGE.error:
        return this.#calls.reject(id, KiteError.fromWire(message[2]));
      case MESSAGE.cancel:
        return this.#serving.get(id)?.end(new KiteError("cancelled", "the caller has cancelled"));
      case MESSAGE.invoke:
        return this.#onInvoke(id, message, frame);
      case MESSAGE.release:
        return this.#onRelease(id, message[2]);
      case MESSAGE.chunk:
        return this.#receiving.chunk(id, this.#revive(message[2], frame));
      case MESSAGE.credit:
        return this.#sending.credit(id, message[2]);
      case MESSAGE.end:
        return this.#receiving.end(id, message[2] === undefined ? undefined : KiteError.fromWire(message[2]));
      case MESSAGE.stop:
        return this.#sending.stop(id);
      case MESSAGE.authenticate:
        return this.#onAuthenticate(id, message, frame);
      default:
        throw new KiteError("protocol_error", `a message type of kite.v1 was expected, got ${String(type).slice(0, 40)}`);
    }
  }

  #onCall(id: number, message: readonly unknown[], frame: Frame): void {
    const [, , method, rawArgs, timeoutMs, rawMeta] = message;
    if (typeof method !== "string" || !Array.isArray(rawArgs)) {
      throw new KiteError("protocol_error", "a call has an id, a method's name and an array of arguments");
    }
    const { session, serve } = this.#options;
    const args = this.#revive(rawArgs, frame) as unknown[];
    const call = new IncomingCall({
      method,
      args,
      session,
      caller: this.#caller,
      timeoutMs: typeof timeoutMs === "number" ? timeoutMs : undefined,
      meta: rawMeta === undefined ? undefined : readMeta(rawMeta),
    });
    this.#answer(id, call, () => serve(call));
  }

  #onInvoke(id: number, message: readonly unknown[], frame: Frame): void {
    const [, , fn, rawArgs] = message;
    if (!isCount(fn) || !Array.isArray(rawArgs)) throw new KiteError("protocol_error", "an invocation has an id, a function and an array");
    const args = this.#revive(rawArgs, frame) as never[];
    const call = new IncomingCall({ method: `function ${fn}`, args, session: this.#options.session, caller: this.#caller });
    this.#answer(id, call, () => this.#exported.get(fn)(...args));
  }

  #onRelease(id: number, count: unknown): void {
    if (!isCount(count) || count === 0) throw new KiteError("protocol_error", "a release says how many copies of a function are let go");
    this.#exported.release(id, count);
  }

  #onNotify(message: readonly unknown[], frame: Frame): void {
    const [, method, rawArgs] = message;
    if (typeof method !== "string" || !Array.isArray(rawArgs)) {
      throw new KiteError("protocol_error", "a notification has a method's name and an array");
    }
    const args = this.#revive(rawArgs, frame) as unknown[];
    // Nobody asked to hear what became of it, so one too many is dropped.
    if (this.#atWork >= this.#options.limits.pendingCalls) return;
    const call = new IncomingCall({ method, args, session: this.#options.session, caller: this.#caller });
    try {
      const result = this.#options.serve(call);
      if (!isThenable(result)) return;
      this.#noticed.add(call);
      const over = () => void this.#noticed.delete(call);
      Promise.resolve(result).then(over, over);
    } catch {
      // The method's own log has it.
    }
  }

  #onAuthenticate(id: number, message: readonly unknown[], frame: Frame): void {
    const { authenticate, session } = this.#options;
    const auth = this.#revive(message[2], frame);
    const call = new IncomingCall({ method: "authenticate", args: [], session, caller: this.#caller });
    this.#answer(id, call, async () => {
      if (authenticate === undefined) throw new KiteError("failed_precondition", "this side asks for no credential");
      const caller = await authenticate(auth);
      // A session never changes hands: what was opened for one person must not go on as another's.
      if (caller.username !== this.#caller.username) {
        throw new KiteError("permission_denied", `this session belongs to ${this.#caller.username}; open another one`);
      }
      this.#caller = caller;
    });
  }

  /** Runs `work` and answers call `id` with what comes of it. What is finished at once is never kept. */
  #answer(id: number, call: IncomingCall, work: () => unknown): void {
    if (this.#serving.has(id)) throw new KiteError("protocol_error", `call ${id} is being served already`);
    const { pendingCalls } = this.#options.limits;
    if (this.#atWork >= pendingCalls) {
      const message = `the limit pendingCalls is ${pendingCalls}; ${call.method.slice(0, MAX_NAME)} would have been one more`;
      return this.#replyError(id, new KiteError("overloaded", message, { outcome: "not_run" }));
    }
    let result: unknown;
    try {
      result = work();
    } catch (thrown) {
      return this.#replyError(id, KiteError.from(thrown));
    }
    if (!isThenable(result)) return this.#reply(id, call, result);
    this.#serving.set(id, call);
    call.arm();
    Promise.resolve(result).then(
      (value) => this.#finish(id, call) && this.#reply(id, call, value),
      (thrown) => this.#finish(id, call) && this.#replyError(id, KiteError.from(thrown)),
    );
  }

  get #atWork(): number {
    return this.#serving.size + this.#noticed.size;
  }

  /** False when the session has ended meanwhile, and nobody is left to be answered. */
  #finish(id: number, call: IncomingCall): boolean {
    call.disarm();
    return this.#serving.delete(id);
  }

  #reply(id: number, call: IncomingCall, value: unknown): void {
    try {
      const streams = this.#carry(`[${MESSAGE.result},${id},`, value, "]");
      if (streams.length > 0) this.#sending.whenLeft(streams, () => call.end(new KiteError("cancelled", "the caller reads no further")));
    } catch (thrown) {
      const { code, message } = KiteError.from(thrown);
      this.#replyError(id, new KiteError(code === "limit_exceeded" ? code : "invalid_result", message, { cause: thrown }));
    }
  }

  #replyError(id: number, error: KiteError): void {
    this.#push(`[${MESSAGE.error},${id},${errorText(error)}]`);
  }

  #revive(value: unknown, frame: Frame): unknown {
    if (frame.marked) return reviveValue(value, this.#source(frame));
    checkValue(value, this.#options.limits.depth);
    return value;
  }

  #source(frame: Frame): ValueSource {
    return {
      maxDepth: this.#options.limits.depth,
      importFunction: (id) => this.#imported.get(id),
      importStream: (id) => this.#receiving.add(id),
      bytes: (segment) => {
        const bytes = frame.segments[segment];
        if (bytes === undefined) throw new KiteError("protocol_error", `segment ${segment} is not in the frame`);
        return bytes;
      },
    };
  }
}

export interface SessionCounts {
  calls: number;
  serving: number;
  exported: number;
  imported: number;
  sending: number;
  receiving: number;
}

const NONE: readonly number[] = [];

function callTail(timeoutMs: number, meta: CallMeta | undefined): string {
  const deadline = Number.isFinite(timeoutMs) ? `,${Math.ceil(timeoutMs)}` : "";
  return meta === undefined ? `${deadline}]` : `${deadline || ",null"},${JSON.stringify(meta)}]`;
}

/** What is not as it should be is left out: a call is not refused for what only describes it. */
function readMeta(sent: unknown): CallMeta {
  if (typeof sent !== "object" || sent === null) return {};
  const { key, traceparent, tracestate } = sent as Partial<Record<keyof CallMeta, unknown>>;
  return { key: short(key, MAX_KEY), traceparent: short(traceparent, MAX_TRACE), tracestate: short(tracestate, MAX_TRACE) };
}

const MAX_KEY = 128;
// What the W3C's recommendation asks every participant to be able to carry.
const MAX_TRACE = 512;

function short(value: unknown, limit: number): string | undefined {
  return typeof value === "string" && value.length <= limit ? value : undefined;
}

// Long enough to recognise a method by; a peer may send a name of any length, and gets it back.
const MAX_NAME = 100;

function errorText(error: KiteError): string {
  return JSON.stringify(carriedError(error));
}

/** Appends to a list; answers with what was appended. */
function last(ids: number[], id: number): number {
  ids.push(id);
  return id;
}

/** What a call fails with after its session has ended. */
export function gone(name: string, why: KiteError): KiteError {
  return new KiteError("disconnected", `${name}: the session has ended: ${why.message}; it did not run`, {
    outcome: "not_run",
    cause: why,
  });
}

// A function's answer may be "when I have taken this in": a slow reader is no failure. The session's end ends the wait.
const FOREVER: CallOptions = { timeoutMs: Number.POSITIVE_INFINITY };
