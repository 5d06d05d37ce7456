import { runInCall } from "../calling/context.ts";
import { KiteError } from "../errors.ts";
import { type Deadline, deadlines, type Expiring } from "../session/deadlines.ts";
import { isThenable } from "../thenable.ts";
import { fingerprint, isLive } from "./fingerprint.ts";
import { type KeptAnswer, KeptAnswers } from "./kept-answers.ts";
import { type Answer, callerKey, OwnCall, type ServedCall } from "./served-call.ts";
import { weightOf } from "./weight.ts";

// Longer than any reconnect with its retries takes, and a thousand calls a minute for as long.
const KEEP_MS = 10 * 60_000;
const MAX_RUNS = 10_000;
// 6 KiB for each of so many runs; answers that say what was done are smaller.
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/**
 * The calls of `keyed` methods that a kite has run or runs: a repeat under the same key joins the one that runs, or gets the
 * answer that was kept. It forgets after ten minutes, and when there are 10,000 the oldest of whoever makes one more. Answers
 * of more than 64 MiB together are let go before that, but not that they were given: what has run does not run again.
 * It is one process's: what several kites share, or what must outlive this one, keeps the key where it keeps the effect.
 */
export class RepeatWindow {
  readonly #runs = new Map<string, Run>();
  /** By caller, the oldest first. */
  readonly #kept = new Map<string, Set<string>>();
  readonly #answers = new KeptAnswers(MAX_ANSWER_BYTES);

  /** What still runs is told to stop when `closed` is aborted: nobody can come back any more. */
  constructor(closed?: AbortSignal) {
    closed?.addEventListener("abort", () => {
      for (const run of [...this.#runs.values()]) run.stop(KiteError.from(closed.reason, "disconnected"));
    });
  }

  get size(): number {
    return this.#runs.size;
  }

  /** About how many bytes the answers hold that are kept. */
  get answerBytes(): number {
    return this.#answers.weight;
  }

  /**
   * Runs the call, unless it is a repeat.
   *
   * @throws {KiteError} `conflict` when the key came with other arguments before, `overloaded` when too many run,
   * `failed_precondition` when the answer was one that cannot be kept, or was let go; and whatever the first run threw.
   */
  run(call: ServedCall, key: string, next: Answer): unknown {
    const caller = callerKey(call);
    const id = JSON.stringify([caller, call.method, key]);
    const args = fingerprint(call.args);
    const known = this.#runs.get(id);
    if (known !== undefined) return known.repeat(call, args);
    if (this.#runs.size >= MAX_RUNS) this.#makeRoom(caller, call.method);
    const run: Run = new Run(call, args, {
      kept: () => this.#keep(caller, id, run),
      forgotten: () => this.#forget(caller, id, run),
    });
    this.#runs.set(id, run);
    return run.start(call, next);
  }

  /** A caller with many keys loses its own answers, since nobody may make another's call run twice. */
  #makeRoom(caller: string, method: string): void {
    const [first] = this.#kept.values();
    const [oldest] = this.#kept.get(caller) ?? first ?? [];
    if (oldest === undefined) {
      const message = `${method} did not run: ${MAX_RUNS} calls with a key run here, which is all that can be told apart; try again later`;
      throw new KiteError("overloaded", message, { outcome: "not_run" });
    }
    this.#runs.get(oldest)?.forget();
  }

  #keep(caller: string, id: string, run: Run): void {
    const kept = this.#kept.get(caller);
    if (kept === undefined) this.#kept.set(caller, new Set([id]));
    else kept.add(id);
    this.#answers.add(caller, run);
  }

  #forget(caller: string, id: string, run: Run): void {
    this.#runs.delete(id);
    this.#answers.remove(caller, run);
    const kept = this.#kept.get(caller);
    kept?.delete(id);
    if (kept?.size === 0) this.#kept.delete(caller);
  }
}

interface RunEvents {
  kept(): void;
  forgotten(): void;
}

type State =
  | { readonly is: "running" }
  | { readonly is: "answered"; readonly value: unknown }
  | { readonly is: "failed"; readonly thrown: unknown }
  | { readonly is: "unkeepable"; readonly because: string };

/**
 * One run of a method, with everybody who waits for it. It goes on when their sessions are lost, which is when they will ask
 * again; it is told to stop when all have cancelled or run out of time.
 */
class Run implements Expiring, KeptAnswer {
  readonly #method: string;
  readonly #args: string;
  readonly #events: RunEvents;
  readonly #waiting = new Set<ServedCall>();
  /** While it runs; what is kept after it must not keep the arguments and the session, too. */
  #call: OwnCall | undefined;
  #state: State = { is: "running" };
  #answer: Promise<unknown> | undefined;
  #deadline: Deadline | undefined;
  weight = 0;

  constructor(call: ServedCall, args: string, events: RunEvents) {
    this.#method = call.method;
    this.#args = args;
    this.#events = events;
  }

  start(call: ServedCall, next: Answer): unknown {
    const own = new OwnCall(call, call.remainingMs);
    this.#call = own;
    let result: unknown;
    try {
      // What the method calls goes on for as long as the run, which may be longer than its first caller's session.
      result = runInCall(own, () => next(own));
    } catch (thrown) {
      this.#failed(thrown);
      throw thrown;
    }
    if (!isThenable(result)) {
      this.#answered(result);
      return result;
    }
    const answer = Promise.resolve(result);
    answer.then(
      (value) => this.#answered(value),
      (thrown) => this.#failed(thrown),
    );
    this.#answer = answer;
    this.#wait(call);
    return answer;
  }

  repeat(call: ServedCall, args: string): unknown {
    // The method has, or had, those of the first call.
    call.arrivals?.letGo();
    if (args !== this.#args) {
      const message = `${call.method} was called with this key before, and with other arguments; a key names one effect: use a new one`;
      throw new KiteError("conflict", message, { outcome: "not_run" });
    }
    const state = this.#state;
    switch (state.is) {
      case "running":
        this.#wait(call);
        return this.#join();
      case "answered":
        return state.value;
      case "failed":
        throw state.thrown;
      case "unkeepable":
        throw unkeepable(call.method, state.because);
    }
  }

  /** A deadline has passed: what was kept is old, or nobody came back to what runs. */
  expire(): void {
    if (this.#state.is !== "running") return this.forget();
    this.stop(new KiteError("disconnected", `nobody came back for the answer of ${this.#method}`, { outcome: "unknown" }));
  }

  stop(why: KiteError): void {
    this.#call?.end(why);
  }

  forget(): void {
    this.#disarm();
    this.#events.forgotten();
  }

  letGo(): void {
    this.#state = { is: "unkeepable", because: TOO_LARGE };
  }

  async #join(): Promise<unknown> {
    const value = await this.#answer;
    // Whoever waited while it ran gets what is too large to be kept for later.
    if (this.#state.is === "unkeepable" && this.#state.because === LIVE) throw unkeepable(this.#method, LIVE);
    return value;
  }

  /** Counts a caller in, for as long as it wants the answer. */
  #wait(call: ServedCall): void {
    this.#disarm();
    this.#call?.extend(call.remainingMs);
    this.#waiting.add(call);
    // It may have gone before it came here: middleware takes its time.
    if (call.signal.aborted) return this.#leave(call);
    call.signal.addEventListener("abort", () => this.#leave(call), { once: true });
  }

  #leave(call: ServedCall): void {
    this.#waiting.delete(call);
    if (this.#waiting.size > 0 || this.#state.is !== "running") return;
    const why = KiteError.from(call.signal.reason, "cancelled");
    if (why.code !== "disconnected") this.#call?.end(why);
    else this.#deadline = deadlines.add(this, Math.min(call.remainingMs, KEEP_MS));
  }

  #answered(value: unknown): void {
    if (isLive(value)) return this.#keep({ is: "unkeepable", because: LIVE }, 0);
    this.#keep({ is: "answered", value }, weightOf(value));
  }

  #failed(thrown: unknown): void {
    // What another call says of itself says nothing of this one, which made it.
    if (thrown instanceof KiteError && thrown.ownOutcome === "not_run") this.forget();
    else this.#keep({ is: "failed", thrown }, weightOf(thrown));
  }

  #keep(state: State, weight: number): void {
    this.#disarm();
    this.#state = state;
    this.weight = weight;
    this.#answer = undefined;
    this.#call = undefined;
    this.#waiting.clear();
    this.#deadline = deadlines.add(this, KEEP_MS);
    this.#events.kept();
  }

  #disarm(): void {
    deadlines.remove(this.#deadline);
    this.#deadline = undefined;
  }
}

const LIVE = "held functions or streams, which are given out once";
const TOO_LARGE = `was let go: those of keyed methods are kept up to ${MAX_ANSWER_BYTES / 1024 / 1024} MiB together`;

function unkeepable(method: string, because: string): KiteError {
  const message = `${method} has run under this key, but its answer ${because}; ask for its effect another way`;
  return new KiteError("failed_precondition", message);
}
