/**
 * Everything that can go wrong between two kites. The set is closed: a `switch` over it is exhaustive. What each means, and what to
 * do about it, is in the guide's section on errors.
 */
export type KiteErrorCode =
  | "invalid_argument"
  | "invalid_result"
  | "method_not_found"
  | "unauthenticated"
  | "token_expired"
  | "permission_denied"
  | "not_found"
  | "already_exists"
  | "failed_precondition"
  | "conflict"
  | "cancelled"
  | "deadline_exceeded"
  | "disconnected"
  | "overloaded"
  | "limit_exceeded"
  | "protocol_error"
  | "unavailable"
  | "internal";

const CODES: ReadonlySet<string> = new Set<KiteErrorCode>([
  "invalid_argument",
  "invalid_result",
  "method_not_found",
  "unauthenticated",
  "token_expired",
  "permission_denied",
  "not_found",
  "already_exists",
  "failed_precondition",
  "conflict",
  "cancelled",
  "deadline_exceeded",
  "disconnected",
  "overloaded",
  "limit_exceeded",
  "protocol_error",
  "unavailable",
  "internal",
]);

/** Whether the remote method may have had its effect: `not_run` is a promise that it did not. */
export type Outcome = "not_run" | "unknown";

/** What an error says besides its code and its sentence; every field may be left out. */
export interface KiteErrorOptions {
  /** The error that led to this one. It stays in this process; it is never sent to a peer. */
  cause?: unknown;
  /** For `disconnected`, `deadline_exceeded` and `cancelled`: may the call have run? */
  outcome?: Outcome;
  /** A finer word of the service's own, such as klient's `SubNotFound`. */
  reason?: string;
  /** Facts for programs: plain JSON, no credentials. */
  details?: Record<string, unknown>;
}

/** What crosses the wire of a {@link KiteError}. */
export interface WireError {
  code: KiteErrorCode;
  message: string;
  outcome?: Outcome;
  reason?: string;
  details?: Record<string, unknown>;
}

/**
 * The one error that kite throws and that crosses the wire.
 *
 * @example
 * try {
 *   await math.square(12);
 * } catch (cause) {
 *   const error = KiteError.from(cause);
 *   if (error.outcome !== "not_run") throw error;
 *   await math.square(12); // it had no effect, whatever kept it from running
 * }
 */
export class KiteError extends Error {
  override readonly name = "KiteError";
  /** For programs: one of a closed set, which a `switch` can be sure of. */
  readonly code: KiteErrorCode;
  /** Whether the call may have run; undefined for errors that the method itself threw. */
  readonly outcome: Outcome | undefined;
  /** A finer word of the service's own, such as klient's `SubNotFound`. */
  readonly reason: string | undefined;
  /** Facts for programs, such as `retryAfterMs`. */
  readonly details: Record<string, unknown> | undefined;
  #passedOn = false;

  constructor(code: KiteErrorCode, message: string, options: KiteErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.outcome = options.outcome;
    this.reason = options.reason;
    this.details = options.details;
  }

  /** Turns whatever was thrown into a {@link KiteError}; an error that already is one is returned as it is. */
  static from(thrown: unknown, fallback: KiteErrorCode = "internal"): KiteError {
    return errorOf(thrown, fallback);
  }

  /**
   * Reads an error that a peer sent. A code this version does not know becomes `internal`, and keeps its message. Its `stack` is
   * one line: it is made where frames are read, which says neither who threw it nor who called.
   */
  static fromWire(sent: unknown): KiteError {
    return withoutFrames(() => read(sent));
  }

  /**
   * From now on the error is that of a further call. Whether that one ran says nothing about a method that throws it on,
   * so {@link toWire} leaves the outcome out: a caller who believed `not_run` would run the method twice.
   */
  passOn(): this {
    this.#passedOn = true;
    return this;
  }

  /** The outcome of the call that fails with this; undefined for one that was passed on, whose outcome is that of another call. */
  get ownOutcome(): Outcome | undefined {
    return this.#passedOn ? undefined : this.outcome;
  }

  /** What the peer may see: code, sentence and facts; neither stack nor cause. */
  toWire(): WireError {
    const wire: WireError = { code: this.code, message: this.message };
    if (this.ownOutcome !== undefined) wire.outcome = this.ownOutcome;
    if (this.reason !== undefined) wire.reason = this.reason;
    if (this.details !== undefined) wire.details = this.details;
    return wire;
  }
}

// Outside of the class: one that names itself inside is called _KiteError by whoever bundles it, and so on every screen.
function errorOf(thrown: unknown, fallback: KiteErrorCode): KiteError {
  if (thrown instanceof KiteError) return thrown;
  if (thrown instanceof Error) {
    const code = thrown.name === "AbortError" ? "cancelled" : fallback;
    return new KiteError(code, thrown.message || thrown.name, { cause: thrown });
  }
  return new KiteError(fallback, typeof thrown === "string" ? thrown : "something that is not an error was thrown", { cause: thrown });
}

function read(sent: unknown): KiteError {
  if (typeof sent !== "object" || sent === null) return new KiteError("internal", "the peer sent an error without a message");
  const { code, message, outcome, reason, details } = sent as Partial<Record<keyof WireError, unknown>>;
  const known = typeof code === "string" && CODES.has(code) ? (code as KiteErrorCode) : "internal";
  const options: KiteErrorOptions = {};
  if (outcome === "not_run" || outcome === "unknown") options.outcome = outcome;
  if (typeof reason === "string") options.reason = reason;
  if (typeof details === "object" && details !== null) options.details = details as Record<string, unknown>;
  const error = new KiteError(known, typeof message === "string" ? message : "the peer gave no message", options);
  return error.passOn();
}

/** Makes an error without looking through the stack, which costs several times what the rest of an error from a peer does. */
function withoutFrames(make: () => KiteError): KiteError {
  const { stackTraceLimit } = Error;
  // Where a program has frozen it the error has its frames: this answers false, and an assignment would throw.
  Reflect.set(Error, "stackTraceLimit", 0);
  try {
    return make();
  } finally {
    Reflect.set(Error, "stackTraceLimit", stackTraceLimit);
  }
}

/** The peer broke the rules; `expected` says what they are, or what came in place of it. */
export function protocolError(expected: string, cause?: unknown): KiteError {
  return new KiteError("protocol_error", expected, { cause });
}
