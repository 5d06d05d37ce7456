import { KiteError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import { silent } from "../log.ts";
import type { Caller, CallSession } from "../method.ts";
import type { Authenticate } from "../session/acceptor.ts";
import { IncomingCall } from "../session/calls.ts";
import { hideErrors, reasonOf } from "../session/failure.ts";
import { isThenable } from "../thenable.ts";
import { CLOSE } from "../transport/transport.ts";
import type { CallEnvelope } from "../wire/dnode-envelope.ts";
import { disconnectError, dnodeError } from "../wire/dnode-error.ts";
import { beyondStranger, DIALLED, DnodeCredentials, refusal, type Shown } from "./credentials.ts";
import type { DnodeSessionOptions } from "./session-options.ts";

interface ServingParts {
  readonly session: CallSession;
  /** The session has ended, and nobody is left to be answered. */
  readonly isOver: () => boolean;
  /** Calls the function that takes an answer. */
  readonly answer: (response: number, envelope: object) => void;
  readonly end: (why: KiteError, code: number) => void;
}

/** The peer's calls of a dnode session while they are at work here: finds out who makes each, and answers it once. */
export class DnodeServing {
  readonly #options: DnodeSessionOptions;
  readonly #parts: ServingParts;
  readonly #limits: Limits;
  readonly #credentials: DnodeCredentials | undefined;
  readonly #atWork = new Set<IncomingCall>();
  /** Where answers go that have not been given yet. */
  readonly #unanswered = new Set<number>();
  /** Calls whose credential is being verified, and callbacks of the peer's that have not finished. */
  #busy = 0;
  /** Functions of the peer's in calls that are at work; whoever keeps one for longer does so as with any other argument. */
  #lent = 0;
  #who: "silent" | "stranger" | "known" = "silent";

  constructor(options: DnodeSessionOptions, parts: ServingParts) {
    const { limits, authenticate, log, transport } = options;
    this.#options = options;
    this.#parts = parts;
    this.#limits = limits;
    // Calls are read as they come, so the address is there when the credential is.
    const from: Authenticate | undefined =
      authenticate && ((auth, claimed) => authenticate(auth, claimed, { remoteAddress: transport.remoteAddress }));
    this.#credentials = from === undefined ? undefined : new DnodeCredentials(from, log);
  }

  /** Everybody who called with a credential that was verified. */
  get callers(): readonly Caller[] {
    return this.#credentials?.callers ?? [];
  }

  get size(): number {
    return this.#atWork.size + this.#busy;
  }

  /**
   * @throws {KiteError} `limit_exceeded` when calls that are at work would hold more functions than they may with `lent` more.
   */
  checkLent(lent: number): void {
    if (this.#lent + lent <= this.#limits.callbacks) return;
    throw limitError("callbacks", this.#limits, `the peer sent ${lent} functions more with calls that are at work`);
  }

  /**
   * The peer calls a function that it was sent.
   *
   * @throws {KiteError} `limit_exceeded` when as many calls are at work; there is no answer that could say so.
   */
  invoke(fn: (...args: never[]) => unknown, args: readonly unknown[], lent: number): void {
    if (this.size >= this.#limits.pendingCalls) throw limitError("pendingCalls", this.#limits, "the peer called one function more");
    try {
      const result = fn(...(args as never[]));
      if (isThenable(result)) this.#track(Promise.resolve(result), lent);
    } catch (thrown) {
      this.#callbackFailed(thrown);
    }
  }

  call(method: string, envelope: CallEnvelope, { lent, size }: { lent: number; size: number }): void {
    const { kite, authentication, args, response } = envelope;
    const { pendingCalls } = this.#limits;
    if (this.size >= pendingCalls) {
      const message = `the limit pendingCalls is ${pendingCalls}; ${method.slice(0, MAX_NAME)} would have been one more`;
      return this.#replyError(response, new KiteError("overloaded", message, { outcome: "not_run" }));
    }
    if (response !== undefined) this.#unanswered.add(response);
    const shown = this.#credentials?.who(authentication, kite) ?? DIALLED;
    const serve = (verified: Shown): void => {
      const refused = this.#meet(verified.caller, size);
      if (refused !== undefined) return this.#replyError(response, refused);
      const call = new IncomingCall({ method, args, session: this.#parts.session, caller: verified.caller });
      const fail = (thrown: unknown): void => this.#replyError(response, refusal(this.#explain(thrown, call), verified, authentication));
      this.#serve(call, lent, fail, (result) => this.#reply(response, call, result));
    };
    if ("caller" in shown) return serve(shown);
    this.#busy++;
    this.#lent += lent;
    void shown.then((verified) => {
      this.#busy--;
      this.#lent -= lent;
      if (!this.#parts.isOver()) serve(verified);
    });
  }

  /**
   * The session is about to end: every caller is told so. A client in Go that is not answered keeps the lock under which it waits,
   * does not see that its connection has closed, and never dials again.
   */
  sayGoodbye(why: KiteError): void {
    const waiting = [...this.#unanswered];
    this.#unanswered.clear();
    try {
      for (const response of waiting) {
        if (this.#parts.isOver()) return;
        this.#parts.answer(response, { error: disconnectError(why, requestId()), result: null });
      }
    } catch {
      // It does not read; nobody can tell it anything.
    }
  }

  /** The session has ended: methods are told to stop. */
  close(why: KiteError): void {
    for (const call of this.#atWork) call.end(why);
    this.#atWork.clear();
    this.#unanswered.clear();
  }

  #track(work: Promise<unknown>, lent: number): void {
    this.#busy++;
    this.#lent += lent;
    void work
      .catch((thrown: unknown) => this.#callbackFailed(thrown))
      .then(() => {
        this.#busy--;
        this.#lent -= lent;
      });
  }

  /** Callbacks have no answer, so their failure is told to whoever reads the log. */
  #callbackFailed(thrown: unknown): void {
    (this.#options.log ?? silent).warn({ session: this.#parts.session.id, err: thrown }, "a function that was called back failed");
  }

  /** Takes note of who calls. What a stranger may not ask is answered with an error; where there is no room for one, the session ends. */
  #meet({ role }: Caller, size: number): KiteError | undefined {
    const who = role === undefined ? "stranger" : "known";
    try {
      if (this.#who !== "known" && this.#who !== who) {
        this.#who = who;
        if (who === "known") this.#options.transport.admit?.();
        this.#options.onCaller?.(who);
      }
      return who === "known" ? undefined : beyondStranger(this.#limits, size, this.#atWork.size);
    } catch (thrown) {
      const why = KiteError.from(thrown);
      this.#parts.end(why, CLOSE.unauthenticated);
      return why;
    }
  }

  #serve(call: IncomingCall, lent: number, fail: (thrown: unknown) => void, reply: (result: unknown) => void): void {
    let result: unknown;
    try {
      result = this.#options.serve(call);
    } catch (thrown) {
      return fail(thrown);
    }
    if (!isThenable(result)) return reply(result);
    this.#atWork.add(call);
    this.#lent += lent;
    // Not there any more: the session has ended meanwhile, and nobody is left to be answered.
    const finish = (): boolean => {
      this.#lent -= lent;
      return this.#atWork.delete(call);
    };
    Promise.resolve(result).then(
      (value) => finish() && reply(value),
      (thrown) => finish() && fail(thrown),
    );
  }

  #reply(response: number | undefined, call: IncomingCall, result: unknown): void {
    if (response === undefined || this.#parts.isOver()) return;
    this.#unanswered.delete(response);
    try {
      this.#parts.answer(response, { error: null, result: result ?? null });
    } catch (thrown) {
      const { code, message } = this.#explain(reasonOf(thrown), call);
      // What cannot be carried is not read by anybody either.
      call.end(new KiteError("cancelled", message));
      const kept = code === "limit_exceeded" || code === "failed_precondition";
      this.#replyError(response, new KiteError(kept ? code : "invalid_result", message, { cause: thrown }));
    }
  }

  #explain(thrown: unknown, call: IncomingCall): KiteError {
    return (this.#options.explain ?? hideErrors)(thrown, call);
  }

  #replyError(response: number | undefined, error: KiteError): void {
    if (response === undefined || this.#parts.isOver()) return;
    this.#unanswered.delete(response);
    try {
      this.#parts.answer(response, { error: dnodeError(error, requestId()), result: null });
    } catch (thrown) {
      // Not even that it failed can be told; the caller must not wait for it.
      this.#parts.end(KiteError.from(thrown), CLOSE.protocolError);
    }
  }
}

// Long enough to recognise a method by; a peer may send a name of any length, and gets it back.
const MAX_NAME = 100;

function requestId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
