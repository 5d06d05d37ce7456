import { setTimeout as delay } from "node:timers/promises";

/** What is told about each closing, for people. */
export type OnClosing = (what: string, ms: number, problem: string | null) => void;

/** Remembers what was opened, and closes it in reverse order: what was built on something goes before it. */
export class Scope {
  readonly #opened: { what: string; limitMs: number; close: () => Promise<unknown> }[] = [];
  #closing: Promise<void> | null = null;

  /** `limitMs` bounds the wait, not the closing: what takes longer is left behind, and said so. */
  defer(what: string, limitMs: number, close: () => Promise<unknown>): void {
    this.#opened.push({ what, limitMs, close });
  }

  /** Never throws: a failure to close one thing must not keep the others open. */
  close(onClosing: OnClosing = () => {}): Promise<void> {
    this.#closing ??= this.#closeAll(onClosing);
    return this.#closing;
  }

  async #closeAll(onClosing: OnClosing): Promise<void> {
    for (let next = this.#opened.pop(); next !== undefined; next = this.#opened.pop()) {
      const startedAt = performance.now();
      const problem = await closeWithin(next.close, next.limitMs);
      onClosing(next.what, performance.now() - startedAt, problem);
    }
  }
}

async function closeWithin(close: () => Promise<unknown>, limitMs: number): Promise<string | null> {
  const timer = new AbortController();
  const late = delay(limitMs, `did not stop in ${limitMs / 1000} s`, { signal: timer.signal }).catch(() => null);
  const closed = Promise.resolve()
    .then(close)
    .then(
      () => null,
      (cause: unknown) => (cause instanceof Error ? cause.message : String(cause)),
    );
  const problem = await Promise.race([closed, late]);
  timer.abort();
  return problem;
}
