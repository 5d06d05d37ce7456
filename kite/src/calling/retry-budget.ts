/**
 * How many calls may be made again: one for every ten that are made, and ten that a remote kite starts with. When much
 * fails at once, such as in a restart under load, the repeated calls of all its callers would keep it down.
 */
export class RetryBudget {
  #tokens = RESERVE;

  /** A call is made for the first time. */
  earn(): void {
    if (this.#tokens < RESERVE) this.#tokens = Math.min(RESERVE, this.#tokens + RATIO);
  }

  /** Takes one repetition out; false when there is none left. */
  take(): boolean {
    // The sum of ten tenths is a little less than one.
    if (this.#tokens < 1 - ROUNDING) return false;
    this.#tokens -= 1;
    return true;
  }
}

// A kite that fails half of its calls gets a tenth more of them, not half as many again.
const RATIO = 0.1;
// Who calls seldom has earned nothing yet; this is also the most that a quiet hour saves up.
const RESERVE = 10;
const ROUNDING = 1e-9;
