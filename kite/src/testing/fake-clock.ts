import { KiteError } from "../errors.ts";

/** The time of a test: it stands still until the test lets some pass. Leaving its scope brings back the real one. */
export interface FakeClock extends Disposable {
  /** Milliseconds that have passed since the clock was made. */
  readonly elapsedMs: number;
  /** Lets so much time pass. Timers run in the order in which they are due, and what each sets off is done before the next. */
  advance(ms: number): Promise<void>;
}

/**
 * Takes the place of this process's timers, `Date` and `performance.now`, so that deadlines, heartbeats and grace periods of
 * minutes pass at once. For tests over memory, as `connectedPair` makes them: what really travels needs real time. What is
 * tested is made after the clock, and closed before it is gone.
 *
 * @throws {KiteError} `failed_precondition` when the time is a test's already.
 * @example
 * using clock = fakeClock();
 * await using pair = await connectedPair({ slow: method({}, () => new Promise(() => {})) });
 * const answer = callWith(pair.client, { timeoutMs: 60_000 }).slow();
 * await clock.advance(60_000);
 * await assert.rejects(answer, { code: "deadline_exceeded" });
 */
export function fakeClock(): FakeClock {
  if (ticking) throw new KiteError("failed_precondition", "there is a fake clock already; a process has one time");
  ticking = true;
  return new Clock();
}

let ticking = false;
let clocks = 0;
// A hundred days; no test lets more pass.
const APART_MS = 100 * 24 * 3_600_000;

type Work = (...args: unknown[]) => void;

class Clock implements FakeClock {
  readonly #real = { Date, setTimeout, setInterval, clearTimeout, clearInterval, now: performance.now };
  readonly #startedAt = Date.now();
  // Far from the real time and from every other clock's: deadlines that fall together share a timer, which must be one of this clock's.
  readonly #monotonicAt = performance.now() + ++clocks * APART_MS;
  readonly #timers = new Set<Timer>();
  #elapsedMs = 0;

  constructor() {
    const clock = this;
    class FakeDate extends Date {
      constructor(...given: unknown[]) {
        super(...((given.length === 0 ? [FakeDate.now()] : given) as [number]));
      }

      static override now(): number {
        return clock.#startedAt + clock.#elapsedMs;
      }
    }
    const set =
      (repeats: boolean) =>
      (work: Work, ms = 0, ...args: unknown[]) =>
        this.#add(() => work(...args), ms, repeats);
    const clear = (timer: unknown) => void this.#timers.delete(timer as Timer);
    Object.assign(globalThis, {
      Date: FakeDate,
      setTimeout: set(false),
      setInterval: set(true),
      clearTimeout: clear,
      clearInterval: clear,
    });
    performance.now = () => this.#monotonicAt + this.#elapsedMs;
  }

  get elapsedMs(): number {
    return this.#elapsedMs;
  }

  async advance(ms: number): Promise<void> {
    const end = this.#elapsedMs + ms;
    await settled();
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.#elapsedMs = Math.max(this.#elapsedMs, next.dueMs);
      if (next.everyMs === undefined) this.#timers.delete(next);
      else next.dueMs += next.everyMs;
      next.work();
      await settled();
    }
    this.#elapsedMs = end;
  }

  [Symbol.dispose](): void {
    const { now, ...globals } = this.#real;
    Object.assign(globalThis, globals);
    performance.now = now;
    this.#timers.clear();
    ticking = false;
  }

  #add(work: () => void, ms: number, repeats: boolean): Timer {
    // As Node has it: what is no time, or none at all, is a millisecond.
    const waitMs = Math.max(Number(ms) || 1, 1);
    const timer = new Timer(work, this.#elapsedMs + waitMs, repeats ? waitMs : undefined);
    this.#timers.add(timer);
    return timer;
  }

  /** Of those that are due by then, the first; of several at once, the one that was set first. */
  #next(byMs: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (timer.dueMs <= byMs && (first === undefined || timer.dueMs < first.dueMs)) first = timer;
    return first;
  }
}

/** Holds no process, whatever is asked of it. */
class Timer {
  readonly work: () => void;
  readonly everyMs: number | undefined;
  dueMs: number;

  constructor(work: () => void, dueMs: number, everyMs: number | undefined) {
    this.work = work;
    this.dueMs = dueMs;
    this.everyMs = everyMs;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return false;
  }
}

/** Lets everything run that waits for nothing but its turn: promises, and messages over memory in both directions. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < TURNS; turns++) await new Promise((resolve) => setImmediate(resolve));
}

// A call over memory and its answer, an invocation inside it and its own, and as much again.
const TURNS = 8;
