import { eitherSignal, sleep } from "../abortable.ts";
import { Backoff } from "../backoff.ts";
import type { KiteDescription } from "../contract/description.ts";
import { KiteError, type KiteErrorCode } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import type { CallOptions, Repetition } from "../method.ts";
import { DEFAULT_TIMEOUT_MS } from "../session/calls.ts";
import type { Connection } from "./connection.ts";
import { CIRCUIT_OPEN } from "./guard.ts";
import { RetryBudget } from "./retry-budget.ts";
import type { RetryOptions } from "./retry-options.ts";

export interface RetryingParts {
  /** Aborted when the kite that calls is closed. */
  readonly closing?: AbortSignal | undefined;
  /** Between 0 and 1, as `Math.random`. */
  readonly random?: (() => number) | undefined;
}

/**
 * A connection that makes failed calls again, within their deadline, a budget and what their methods allow. It closes what
 * it wraps.
 */
export class Retrying implements Connection {
  readonly inner: Connection;
  readonly #options: RetryOptions;
  readonly #parts: RetryingParts;
  readonly #budget: RetryBudget;
  readonly #declared = new Map<string, Repetition>();
  #told: Told | undefined;
  readonly #keyed: Set<string>;

  constructor(inner: Connection, options: RetryOptions = {}, parts: RetryingParts = {}, budget = new RetryBudget()) {
    this.inner = inner;
    this.#options = options;
    this.#parts = parts;
    this.#budget = budget;
    const { idempotent = [], keyed = [] } = options;
    this.#keyed = new Set(keyed);
    for (const method of idempotent) this.#declared.set(method, "idempotent");
    for (const method of keyed) this.#declared.set(method, "keyed");
  }

  get state(): string | undefined {
    return this.#parts.closing?.aborted ? "closed" : this.inner.state;
  }

  /** The same connection with other options; the budget is shared. */
  with(options: RetryOptions): Retrying {
    return new Retrying(this.inner, options, this.#parts, this.#budget);
  }

  call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    this.#budget.earn();
    const made = this.#keyed.has(method) ? withKey(options) : options;
    const dueAt = performance.now() + (made?.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    return this.inner
      .call(method, args, made)
      .then(undefined, (thrown: unknown) => this.#again(KiteError.from(thrown), { method, args, options: made ?? {}, dueAt }));
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.inner[Symbol.asyncDispose]();
  }

  async #again(first: KiteError, work: Work): Promise<unknown> {
    const { tries = TRIES, firstMs = FIRST_MS, maxMs = MAX_MS } = this.#options;
    const { random } = this.#parts;
    const backoff = new Backoff({ firstMs, maxMs, ...(random === undefined ? {} : { random }) });
    let error = first;
    let mayHaveRun = false;
    for (let made = 1; ; made++) {
      mayHaveRun ||= error.outcome !== "not_run";
      const waitMs = made < tries && (await this.#mayRepeat(error, work)) ? this.#waitMs(error, backoff) : undefined;
      if (waitMs === undefined || performance.now() + waitMs >= work.dueAt || !this.#allows(error)) throw concluded(error, mayHaveRun);
      if (waitMs > 0) await this.#wait(waitMs, work, concluded(error, mayHaveRun));
      const timeoutMs = Math.max(1, Math.floor(work.dueAt - performance.now()));
      try {
        return await this.inner.call(work.method, work.args, { ...work.options, timeoutMs });
      } catch (thrown) {
        error = KiteError.from(thrown);
      }
    }
  }

  async #mayRepeat(error: KiteError, work: Work): Promise<boolean> {
    if (!isTransient(error) || this.state === "closed" || work.options.signal?.aborted) return false;
    // A stream gives its items once, and the failed call has taken some.
    if (holdsStream(work.args, 0)) return false;
    if (error.outcome === "not_run") return true;
    const repetition = this.#declared.get(work.method) ?? (await this.#ask(work));
    return repetition === "idempotent" || (repetition === "keyed" && work.options.meta?.key !== undefined);
  }

  #waitMs(error: KiteError, backoff: Backoff): number | undefined {
    if (this.inner.hasAnother) return 0;
    if (error.reason === CIRCUIT_OPEN) return undefined;
    const jittered = backoff.next() ?? 0;
    const asked = error.details?.["retryAfterMs"];
    // Not before the time that the peer asked for, and not all at that time either.
    return typeof asked === "number" && asked > 0 ? asked + jittered : jittered;
  }

  /** A call that reached nobody is no load, so making it again costs nothing of the budget. */
  #allows({ code, outcome }: KiteError): boolean {
    return (outcome === "not_run" && code !== "overloaded") || this.#budget.take();
  }

  async #wait(ms: number, { options, method }: Work, error: KiteError): Promise<void> {
    const { closing } = this.#parts;
    const joined = closing === undefined ? undefined : eitherSignal(options.signal, closing);
    try {
      await sleep(ms, { signal: joined?.signal ?? options.signal });
    } catch (cause) {
      if (!options.signal?.aborted) throw error;
      const outcome = error.outcome ?? "unknown";
      const message = `${method} was cancelled by its caller while it waited to be tried again`;
      throw new KiteError("cancelled", message, { outcome, cause }).passOn();
    } finally {
      joined?.release();
    }
  }

  /** What the kite itself says of the method: asked when it matters, once for each session. One that does not say gets no second call. */
  async #ask({ method, dueAt }: Work): Promise<Repetition> {
    const { session } = this.inner;
    const now = performance.now();
    const before = this.#told;
    const holds = before !== undefined && before.session === session && (session !== undefined || now - before.at < TOLD_MS);
    const told = holds ? before : { session, at: now, answer: this.#describe(Math.min(DESCRIBE_MS, dueAt - now)) };
    this.#told = told;
    const answer = await told.answer;
    // Not kept: the next call may have more time to ask, or the kite be back.
    if (answer === undefined && this.#told === told) this.#told = undefined;
    return answer?.get(method) ?? "once";
  }

  /** Undefined when the kite did not answer; one that says nothing of its methods, or not to this caller, has. */
  async #describe(timeoutMs: number): Promise<ReadonlyMap<string, Repetition> | undefined> {
    if (timeoutMs < 1) return undefined;
    const told = new Map<string, Repetition>();
    try {
      const { methods } = (await this.inner.call("kite.describe", [], { timeoutMs: Math.floor(timeoutMs) })) as KiteDescription;
      for (const { name, repetition } of methods) told.set(name, repetition);
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (isTransient(error) || error.code === "deadline_exceeded") return undefined;
    }
    for (const [name, repetition] of told) if (repetition === "keyed" && !this.#declared.has(name)) this.#keyed.add(name);
    return told;
  }
}

/** One call, as often as it is made. */
interface Work {
  readonly method: string;
  readonly args: readonly unknown[];
  readonly options: CallOptions;
  /** By `performance.now()`: no try goes beyond it. */
  readonly dueAt: number;
}

interface Told {
  readonly session: unknown;
  readonly at: number;
  readonly answer: Promise<ReadonlyMap<string, Repetition> | undefined>;
}

const TRANSIENT: ReadonlySet<KiteErrorCode> = new Set<KiteErrorCode>(["unavailable", "disconnected", "overloaded"]);

/** A session that ended because of what was sent, or of who sent it, would end so again. */
function isTransient({ code, cause }: KiteError): boolean {
  return TRANSIENT.has(code) && (!(cause instanceof KiteError) || TRANSIENT.has(cause.code));
}

// What three tries do not cure is not cured by a fourth within the time that a caller waits.
const TRIES = 3;
// A restarting process is back in some hundred milliseconds; two waits of this order reach beyond the moment of its loss.
const FIRST_MS = 50;
const MAX_MS = 2_000;
// It is answered from memory; who needs longer is busy enough without a second call.
const DESCRIBE_MS = 5_000;
// Among several kites any may answer, and newer versions may join: what one said is not kept for long.
const TOLD_MS = 60_000;

function withKey(options: CallOptions = {}): CallOptions {
  return options.meta?.key === undefined ? { ...options, meta: { ...options.meta, key: crypto.randomUUID() } } : options;
}

/** The last failure speaks for itself only: when an earlier try may have run, so may the call. */
function concluded(error: KiteError, mayHaveRun: boolean): KiteError {
  const { code, message, outcome, reason, details } = error;
  if (!mayHaveRun || outcome !== "not_run") return error.passOn();
  const optional = { ...(reason === undefined ? {} : { reason }), ...(details === undefined ? {} : { details }) };
  const sentence = `${message.replace(/; it did not run$/, "")}; an earlier try may have run`;
  return new KiteError(code, sentence, { ...optional, outcome: "unknown", cause: error }).passOn();
}

function holdsStream(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value) || depth > LIMITS.depth) return false;
  return Symbol.asyncIterator in value || Object.values(value).some((inner) => holdsStream(inner, depth + 1));
}
