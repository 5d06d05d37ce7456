import { KiteError, protocolError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import { silent } from "../log.ts";
import type { Caller, CallSession, SessionState } from "../method.ts";
import { ImportedFunctions } from "../session/callbacks.ts";
import { OutgoingCalls } from "../session/calls.ts";
import { gone } from "../session/conversation.ts";
import type { SessionCounts } from "../session/counts.ts";
import type { Auth } from "../session/handshake.ts";
import { sharedController } from "../session/shared-signal.ts";
import { GO_AWAY } from "../transport/sockjs.ts";
import { CLOSE } from "../transport/transport.ts";
import { readDnode, writeDnode } from "../wire/dnode.ts";
import { readAnswer, readCall } from "../wire/dnode-envelope.ts";
import type { RawFrame } from "../wire/v1.ts";
import { STRANGER } from "./credentials.ts";
import { DnodeFunctions } from "./functions.ts";
import { DnodeServing } from "./serving.ts";
import type { DnodeCallOptions, DnodeSessionOptions } from "./session-options.ts";

/**
 * One conversation in the dnode dialect, over one transport: when that closes, everything ends. Whoever made it closes it
 * with `end`.
 */
export class DnodeSession implements CallSession {
  readonly id = crypto.randomUUID();
  readonly #options: DnodeSessionOptions;
  readonly #limits: Limits;
  readonly #functions: DnodeFunctions;
  readonly #imported: ImportedFunctions;
  readonly #calls: OutgoingCalls;
  /** The function that takes the answer of a call, by the call's id. */
  readonly #awaited = new Map<number, number>();
  readonly #serving: DnodeServing;
  #spoken = false;
  #closed: AbortController | undefined;
  #ended: KiteError | undefined;

  constructor(options: DnodeSessionOptions) {
    const { limits } = options;
    this.#options = options;
    this.#limits = limits;
    this.#functions = new DnodeFunctions(limits);
    this.#imported = new ImportedFunctions({
      // The dialect has no word for letting go either: how many are still held, only the garbage collector knows, and late.
      limits: { ...limits, callbacks: Number.POSITIVE_INFINITY },
      session: this,
      invoke: ({ id }, args) => this.#invoke(id, args),
      release: () => {},
    });
    this.#calls = new OutgoingCalls(limits, (id) => this.#forget(id));
    this.#serving = new DnodeServing(options, {
      session: this,
      isOver: () => this.#ended !== undefined,
      answer: (response, envelope) => void this.#write(response, [envelope]),
      end: (why, code) => this.end(why, code),
    });
  }

  /** Begins to listen. */
  start(): void {
    this.#options.transport.start({
      frame: (raw) => this.#receive(raw),
      closed: ({ code, reason }) =>
        this.#finish(new KiteError("disconnected", `the connection was lost (${code}${reason === "" ? "" : `: ${reason}`})`)),
    });
  }

  /** Everybody who called here with a credential that was verified; usually one. */
  get callers(): readonly Caller[] {
    return this.#serving.callers;
  }

  /** Who called first, or a stranger. */
  get caller(): Caller {
    return this.callers[0] ?? STRANGER;
  }

  /** How much is open; for metrics and leak checks. */
  get counts(): SessionCounts {
    return {
      calls: this.#calls.size,
      serving: this.#serving.size,
      exported: this.#functions.size,
      imported: this.#imported.size,
      sending: 0,
      receiving: 0,
      parcels: 0,
    };
  }

  /** The dialect cannot resume: a session is open until it has ended. */
  get state(): SessionState {
    return this.#ended === undefined ? "open" : "closed";
  }

  get remoteAddress(): string | undefined {
    return this.#options.transport.remoteAddress;
  }

  onState(listener: (state: SessionState) => void): () => void {
    const heard = () => listener("closed");
    this.closed.addEventListener("abort", heard, { once: true });
    return () => this.closed.removeEventListener("abort", heard);
  }

  get closed(): AbortSignal {
    if (this.#closed === undefined) {
      this.#closed = sharedController();
      if (this.#ended !== undefined) this.#closed.abort(this.#ended);
    }
    return this.#closed.signal;
  }

  /**
   * Calls a method of the peer. The dialect has no word for cancelling: a call that is given up goes on over there.
   *
   * @throws {KiteError} what the method threw, or `deadline_exceeded`, `cancelled`, `disconnected`, `limit_exceeded`.
   */
  call(method: string, args: readonly unknown[], options: DnodeCallOptions = {}): Promise<unknown> {
    const { through } = this.#options;
    if (through === undefined) return this.send(method, args, options);
    return through(method, options, (seen) => this.send(method, args, { ...seen, auth: options.auth }));
  }

  /** As {@link call}, for whoever has told the observers of it already. */
  send(method: string, args: readonly unknown[], options: DnodeCallOptions): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(gone(method, this.#ended));
    return this.#calls.open(method, options, 0, (id) => {
      const respond = (...sent: unknown[]) => this.#settle(id, sent);
      this.#awaited.set(id, this.#write(method, [this.#envelope(args, options.auth, respond)], respond));
      return undefined;
    });
  }

  /**
   * Calls a method without waiting for an answer, or learning whether there was one.
   *
   * @throws {KiteError} `disconnected` when the session has ended.
   */
  notify(method: string, args: readonly unknown[]): void {
    if (this.#ended !== undefined) throw gone(method, this.#ended);
    // With a callback all the same: a kite.js takes a call without one for something else. Not kept: a
    // peer that never answers would have this side keep one for every notification, and answers to none are passed over.
    const respond = () => {};
    this.#functions.remove(this.#write(method, [this.#envelope(args, undefined, respond)], respond));
  }

  /**
   * Ends the session: calls that wait fail with `disconnected`, on both sides, methods are told to stop, the transport is
   * closed.
   */
  end(why: KiteError, code: number = GO_AWAY.code): void {
    if (this.#ended === undefined) this.#serving.sayGoodbye(why);
    this.#finish(why, code);
  }

  #finish(why: KiteError, code: number = GO_AWAY.code): void {
    if (this.#ended !== undefined) return;
    this.#ended = why;
    this.#options.transport.close(code, code === GO_AWAY.code ? GO_AWAY.reason : why.message);
    this.#calls.failAll(why, () => true);
    this.#serving.close(why);
    this.#awaited.clear();
    this.#functions.clear();
    this.#imported.clear();
    this.#closed?.abort(why);
    this.#options.onClosed?.(why);
  }

  /** Whatever is wrong with a frame ends this session, and nothing else. */
  #receive(raw: RawFrame): void {
    if (this.#ended !== undefined) return;
    try {
      this.#read(raw);
    } catch (thrown) {
      const error = KiteError.from(thrown, "protocol_error");
      (this.#options.log ?? silent).debug({ session: this.id, error: error.message }, "a peer broke the rules of the dnode dialect");
      this.end(error, CLOSE.protocolError);
    }
  }

  #read(raw: RawFrame): void {
    if (typeof raw !== "string") throw protocolError("the dnode dialect is text; bytes were sent");
    if (raw.length > this.#limits.frameBytes)
      throw limitError("frameBytes", this.#limits, `a message of ${raw.length} characters was sent`);
    let lent = 0;
    const importFunction = (id: number): unknown => {
      lent++;
      return this.#imported.get(id);
    };
    const { method, args } = readDnode(raw, { importFunction, limits: this.#limits });
    this.#serving.checkLent(lent);
    if (typeof method === "number") {
      const fn = this.#functions.take(method);
      // Those that are not there any more are passed over, since there is nobody to tell.
      if (fn !== undefined) this.#serving.invoke(fn, args, lent);
    } else if (method === "cull" && args.every((id) => typeof id === "number")) {
      for (const id of args) this.#functions.remove(id as number);
    } else this.#serving.call(method, readCall(args), { lent, size: raw.length });
    if (this.#spoken) return;
    this.#spoken = true;
    this.#options.onSpoken?.();
  }

  #settle(id: number, sent: readonly unknown[]): void {
    this.#awaited.delete(id);
    const answer = readAnswer(sent);
    if ("error" in answer) this.#calls.reject(id, answer.error);
    else this.#calls.resolve(id, answer.result);
  }

  /** Nobody waits for the answer of a call any more. */
  #forget(id: number): void {
    const callback = this.#awaited.get(id);
    this.#awaited.delete(id);
    if (callback !== undefined) this.#functions.remove(callback);
  }

  /** A function of the peer's is called: there is no answer to wait for, only that it was sent. */
  #invoke(id: number, args: readonly unknown[]): Promise<void> {
    const sent = new Promise<void>((resolve) => {
      if (this.#ended !== undefined) throw gone(`function ${id}`, this.#ended);
      this.#write(id, args);
      resolve();
    });
    // Whoever calls a function without awaiting it does not want to hear of its failure; awaiting still throws.
    sent.catch(() => {});
    return sent;
  }

  // As Go writes it, the answer's function before the arguments: it has the lower id.
  #envelope(args: readonly unknown[], auth: Auth | undefined, responseCallback: (...args: never[]) => unknown): object {
    const authentication = auth === undefined ? null : { type: auth.type, key: auth.key };
    return { kite: this.#options.identity ?? {}, authentication, responseCallback, withArgs: args };
  }

  /** Writes one message, or leaves nothing of it behind. Answers with the id of `respond`, if that is in it. */
  #write(method: string | number, args: readonly unknown[], respond?: (...args: never[]) => unknown): number {
    const made: number[] = [];
    let responseId = -1;
    try {
      const text = writeDnode(
        method,
        args,
        (fn, taken) => {
          if (fn === respond) responseId = this.#functions.addOnce(fn);
          const before = this.#functions.size;
          const id = fn === respond ? responseId : this.#functions.add(fn, taken);
          if (fn === respond || this.#functions.size > before) made.push(id);
          return id;
        },
        this.#limits.depth,
      );
      this.#send(text);
    } catch (thrown) {
      for (const id of made) this.#functions.remove(id);
      throw KiteError.from(thrown, "invalid_argument");
    }
    return responseId;
  }

  #send(text: string): void {
    const { transport } = this.#options;
    const { frameBytes, unackedBytes } = this.#limits;
    if (text.length > frameBytes) throw limitError("frameBytes", this.#limits, `the message has ${text.length} characters`);
    transport.send(text);
    if (transport.bufferedBytes <= unackedBytes) return;
    // A peer that asks and does not read would fill the memory of this side.
    const unread = limitError("unackedBytes", this.#limits, "the peer does not read what is sent to it");
    this.end(unread);
    throw unread;
  }
}
