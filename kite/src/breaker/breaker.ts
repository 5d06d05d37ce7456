import { CircuitState, ConsecutiveBreaker, circuitBreaker, handleWhen } from "cockatiel";
import { CIRCUIT_OPEN, type Guard, type GuardedCall } from "../calling/guard.ts";
import { KiteError, type KiteErrorCode } from "../errors.ts";

/** When a circuit opens, and for how long; every field may be left out. */
export interface BreakerOptions {
  /** How many calls of one method of one kite must fail in a row before none is made any more. Default 5. */
  readonly failures?: number | undefined;
  /** How long none is made; then a single one shows whether it works again. Default 10,000 ms. */
  readonly halfOpenAfterMs?: number | undefined;
  /** Which failures count. Default: those that say something of the kite, not of what was asked of it. */
  readonly counts?: ((error: KiteError) => boolean) | undefined;
  /** Told of every circuit that opens or closes. */
  readonly onChange?: ((change: CircuitChange) => void) | undefined;
}

/** A circuit that has opened, because of `error`, or that has closed again. */
export interface CircuitChange extends GuardedCall {
  readonly state: "open" | "closed";
  readonly error?: KiteError | undefined;
}

/**
 * A guard that stops to call what fails again and again: the caller hears so at once, and the kite gets time to recover.
 * It keeps a circuit for each peer and method, and may guard any number of remote kites. What is not called fails with `unavailable`,
 * with the outcome `not_run` and `details.retryAfterMs`.
 *
 * @example
 * const guard = breaker({ failures: 5, halfOpenAfterMs: 10_000 });
 * await using math = await kite.connect<MathContract>({ name: "math" }, { guard });
 */
export function breaker(options: BreakerOptions = {}): Guard {
  const circuits = new Map<string, Circuit>();
  return {
    run: (about, work) => {
      const key = JSON.stringify([about.peer, about.method]);
      const circuit = circuits.get(key) ?? new Circuit(about, options);
      // Last in the order of use, so that the first is the one to forget.
      circuits.delete(key);
      circuits.set(key, circuit);
      for (const oldest of circuits.keys()) if (circuits.size > MAX_CIRCUITS) circuits.delete(oldest);
      return circuit.run(work);
    },
  };
}

class Circuit {
  readonly #about: GuardedCall;
  readonly #halfOpenAfterMs: number;
  readonly #policy: ReturnType<typeof circuitBreaker>;
  #openedAt = 0;

  constructor(about: GuardedCall, options: BreakerOptions) {
    const { failures = FAILURES, halfOpenAfterMs = HALF_OPEN_AFTER_MS, counts = saysSomethingOfTheKite, onChange } = options;
    this.#about = about;
    this.#halfOpenAfterMs = halfOpenAfterMs;
    this.#policy = circuitBreaker(
      handleWhen((thrown) => counts(KiteError.from(thrown))),
      { halfOpenAfter: halfOpenAfterMs, breaker: new ConsecutiveBreaker(failures) },
    );
    this.#policy.onBreak((reason) => {
      this.#openedAt = Date.now();
      onChange?.({ ...about, state: "open", error: "error" in reason ? KiteError.from(reason.error) : undefined });
    });
    this.#policy.onReset(() => onChange?.({ ...about, state: "closed" }));
  }

  /** @throws {KiteError} `unavailable` that did not run while the circuit is open; else what `work` throws. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const { state } = this.#policy;
    // While one call tries, others would wait for its end rather than for their own; they are refused as before.
    if (state === CircuitState.HalfOpen || (state === CircuitState.Open && this.#leftMs > 0)) return Promise.reject(this.#refusal());
    return this.#policy.execute(work);
  }

  get #leftMs(): number {
    return this.#openedAt + this.#halfOpenAfterMs - Date.now();
  }

  #refusal(): KiteError {
    const { peer, method } = this.#about;
    const since = new Date(this.#openedAt).toISOString();
    const until = new Date(this.#openedAt + this.#halfOpenAfterMs).toISOString();
    const message = `${method} of ${peer} is not called: it has failed again and again until ${since}, and is tried again from ${until}`;
    const details = { since, until, retryAfterMs: Math.max(0, this.#leftMs) };
    return new KiteError("unavailable", message, { outcome: "not_run", reason: CIRCUIT_OPEN, details }).passOn();
  }
}

// One restart fails the calls of a moment; five in a row, without one that worked between them, are more than that.
const FAILURES = 5;
// As a heartbeat: a kite that was killed is out of the directory by then, one that was restarted is back.
const HALF_OPEN_AFTER_MS = 10_000;
// About ten megabytes. A circuit that is forgotten is closed.
const MAX_CIRCUITS = 10_000;

const OF_THE_KITE: ReadonlySet<KiteErrorCode> = new Set<KiteErrorCode>([
  "unavailable",
  "disconnected",
  "deadline_exceeded",
  "overloaded",
  "internal",
]);

function saysSomethingOfTheKite({ code, outcome }: KiteError): boolean {
  // A caller without time left, or whose own limits are reached, has asked the kite nothing.
  return OF_THE_KITE.has(code) && !(code === "deadline_exceeded" && outcome === "not_run");
}
