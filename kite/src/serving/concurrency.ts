import { runInCall } from "../calling/context.ts";
import { KiteError } from "../errors.ts";
import type { ConcurrencyOptions } from "../method.ts";
import { type Deadline, deadlines, type Expiring } from "../session/deadlines.ts";
import { isThenable } from "../thenable.ts";
import { type Answer, OwnCall, type ServedCall } from "./served-call.ts";

export interface GateOptions {
  readonly concurrency?: ConcurrencyOptions | undefined;
  readonly timeoutMs?: number | undefined;
}

// A burst fits. A line that is longer than its callers' patience only makes all of them fail late.
const DEFAULT_WAITING = 100;

/** How many calls of a method run at once, how many wait for their turn, and how long one may take, its wait included. */
export class Gate {
  readonly #running: number;
  readonly #waiting: number;
  readonly #timeoutMs: number | undefined;
  readonly #line = new Set<Turn>();
  #atWork = 0;
  #beginning = false;

  constructor({ concurrency, timeoutMs }: GateOptions) {
    const { running = Number.POSITIVE_INFINITY, waiting = DEFAULT_WAITING } = concurrency ?? {};
    if (!(running >= 1 && waiting >= 0)) {
      throw new KiteError("invalid_argument", `concurrency is 1 or more running and 0 or more waiting, got ${running} and ${waiting}`);
    }
    if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new KiteError("invalid_argument", `timeoutMs is above 0, got ${timeoutMs}`);
    this.#running = running;
    this.#waiting = waiting;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Runs the call now, or when its turn comes.
   *
   * @throws {KiteError} `overloaded` when as many wait as may.
   */
  run(call: ServedCall, next: Answer): unknown {
    const free = this.#atWork < this.#running;
    if (free && this.#timeoutMs === undefined) return this.begin(call, next);
    // It may have gone before it came here: middleware takes its time, and a signal tells only once.
    if (call.signal.aborted) throw gone(call, KiteError.from(call.signal.reason, "cancelled"));
    if (free) return this.#withinTime(call, next);
    if (this.#line.size >= this.#waiting) throw this.#overloaded(call.method);
    const turn = new Turn(this, call, next, this.#timeoutMs);
    this.#line.add(turn);
    return turn.answer;
  }

  /** Takes a place, which is free again when the method is really done, not merely out of time: the bound is on work, not on waits. */
  begin(call: ServedCall, next: Answer): unknown {
    this.#atWork++;
    let result: unknown;
    try {
      result = next(call);
    } catch (thrown) {
      this.#leave();
      throw thrown;
    }
    if (!isThenable(result)) {
      this.#leave();
      return result;
    }
    // Once: a query builder runs its query each time that `then` is called.
    const answer = Promise.resolve(result);
    const leave = () => this.#leave();
    answer.then(leave, leave);
    return answer;
  }

  /** Takes a call out of the line; false when its turn has come already. */
  giveUp(turn: Turn): boolean {
    return this.#line.delete(turn);
  }

  #withinTime(call: ServedCall, next: Answer): unknown {
    const turn = new Turn(this, call, next, this.#timeoutMs);
    turn.begin();
    return turn.answer;
  }

  #leave(): void {
    this.#atWork--;
    // A call that is answered at once leaves while it begins; the loop that began it goes on to the next.
    if (this.#beginning) return;
    this.#beginning = true;
    for (const turn of this.#line) {
      if (this.#atWork >= this.#running) break;
      this.#line.delete(turn);
      turn.begin();
    }
    this.#beginning = false;
  }

  #overloaded(method: string): KiteError {
    const message = `${method} is busy: ${this.#running} calls run and ${this.#waiting} wait, which is all it takes; try again later`;
    return new KiteError("overloaded", message, { outcome: "not_run", details: { running: this.#running, waiting: this.#waiting } });
  }
}

/** One call that waits for its place, or that has a time of its own. */
class Turn implements Expiring {
  readonly answer: Promise<unknown>;
  readonly #gate: Gate;
  readonly #call: ServedCall;
  readonly #next: Answer;
  readonly #timeoutMs: number | undefined;
  readonly #own: OwnCall | undefined;
  readonly #deadline: Deadline | undefined;
  readonly #onAbort: () => void;
  #resolve: (value: unknown) => void = () => {};
  #reject: (thrown: unknown) => void = () => {};

  constructor(gate: Gate, call: ServedCall, next: Answer, timeoutMs: number | undefined) {
    this.#gate = gate;
    this.#call = call;
    this.#next = next;
    this.#timeoutMs = timeoutMs;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (timeoutMs !== undefined) {
      this.#own = new OwnCall(call, Math.min(timeoutMs, call.remainingMs));
      this.#deadline = deadlines.add(this, timeoutMs);
    }
    this.#onAbort = () => this.#abort(KiteError.from(call.signal.reason, "cancelled"));
    call.signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  begin(): void {
    if (this.#own === undefined) this.#call.signal.removeEventListener("abort", this.#onAbort);
    const call = this.#own ?? this.#call;
    try {
      // What the method calls has the method's time, and not that of the call whose end made room for this one.
      const result = runInCall(call, () => this.#gate.begin(call, this.#next));
      if (isThenable(result)) {
        result.then(
          (value) => this.#settle(() => this.#resolve(value)),
          (thrown) => this.#settle(() => this.#reject(thrown)),
        );
      } else this.#settle(() => this.#resolve(result));
    } catch (thrown) {
      this.#settle(() => this.#reject(thrown));
    }
  }

  expire(): void {
    const waited = this.#gate.giveUp(this);
    const message = `${this.#call.method} has ${this.#timeoutMs} ms for a call, which were over ${waited ? "before its turn came" : "before it was done"}`;
    const why = new KiteError("deadline_exceeded", message, { outcome: waited ? "not_run" : "unknown" });
    this.#settle(() => this.#reject(why));
    this.#own?.end(why);
  }

  /** The caller has left: a call in the line goes with it, one that runs is told. */
  #abort(why: KiteError): void {
    if (!this.#gate.giveUp(this)) return this.#own?.end(why);
    this.#settle(() => this.#reject(gone(this.#call, why)));
  }

  #settle(settle: () => void): void {
    deadlines.remove(this.#deadline);
    this.#call.signal.removeEventListener("abort", this.#onAbort);
    settle();
  }
}

function gone({ method }: ServedCall, why: KiteError): KiteError {
  const message = `${method}: ${why.message} while the call waited for its turn; it did not run`;
  return new KiteError(why.code, message, { outcome: "not_run", cause: why });
}
