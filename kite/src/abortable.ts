import { KiteError } from "./errors.ts";

/** The items of a source until the signal is aborted; then the iteration ends, also while it waits, and the source is told to end. */
export async function* itemsUntil<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  // One listener for all items: to add and remove one takes longer than to pass an item on.
  let end = () => {};
  const abort = () => end();
  signal.addEventListener("abort", abort, { once: true });
  try {
    while (!signal.aborted) {
      const next = await new Promise<IteratorResult<T> | undefined>((resolve, reject) => {
        end = () => resolve(undefined);
        iterator.next().then(resolve, reject);
      });
      if (next === undefined || next.done) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    // Not awaited: a source whose connection is gone may never answer, and whoever iterates has what it wants.
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/**
 * A generator that can be ended while it waits. By itself `return()` of a generator is heard only at its next `yield`;
 * this one aborts the signal first, which the generator must heed.
 */
export class Endable<T> implements AsyncIterableIterator<T> {
  readonly #ending = new AbortController();
  readonly #items: AsyncGenerator<T, void, undefined>;

  constructor(make: (signal: AbortSignal) => AsyncGenerator<T, void, undefined>, outer?: AbortSignal) {
    this.#items = make(outer === undefined ? this.#ending.signal : AbortSignal.any([this.#ending.signal, outer]));
  }

  next(): Promise<IteratorResult<T>> {
    return this.#items.next();
  }

  async return(): Promise<IteratorResult<T>> {
    this.#ending.abort();
    await this.#items.return(undefined);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/**
 * Waits for a promise that goes on for others, unless the signal ends this wait first.
 *
 * @throws {KiteError} `cancelled` when the signal was aborted.
 */
export function waitUntil<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(new KiteError("cancelled", "the wait was cancelled", { cause: signal.reason }));
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/**
 * Waits, unless the signal ends the wait first; 24 days at most.
 *
 * @throws {KiteError} `cancelled` when the signal is aborted, before or meanwhile; no timer is left behind.
 */
export async function sleep(ms: number, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(ms, MAX_TIMEOUT_MS));
  });
  await waitUntil(over, signal).finally(() => clearTimeout(timer));
}

// setTimeout holds a signed 32-bit number of milliseconds, 24 days; more would end the wait at once.
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** A signal that follows two others, until it is let go of. */
export interface JoinedSignal {
  readonly signal: AbortSignal;
  release(): void;
}

/** Aborted when either is. Not `AbortSignal.any`: on Node 20 every use leaves a trace in its sources, and they may live for ever. */
export function eitherSignal(one: AbortSignal | undefined, other: AbortSignal): JoinedSignal {
  if (one === undefined || one === other) return { signal: other, release: () => {} };
  const joined = new AbortController();
  const sources = [one, other];
  const abort = (): void => joined.abort(sources.find(({ aborted }) => aborted)?.reason);
  for (const source of sources) source.addEventListener("abort", abort, { once: true });
  if (sources.some(({ aborted }) => aborted)) abort();
  const release = (): void => {
    for (const source of sources) source.removeEventListener("abort", abort);
  };
  return { signal: joined.signal, release };
}
