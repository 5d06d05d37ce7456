import type { Change, Store } from "./store/store.ts";

export interface FollowOptions<T> {
  store: Store;
  /** Whether the change is a reason to read again. */
  notice: (change: Change) => boolean;
  /** What is new since the last read; `end` says that nothing will ever follow. Never called twice at once. */
  read: () => Promise<{ items: T[]; end: boolean }>;
  /** Ends the stream, also when nobody reads it. */
  signal: AbortSignal;
}

/**
 * Turns "something was written" into a stream of what changed. Changes that come while the consumer is slow become one
 * read, so nothing piles up. It ends when the consumer returns, when `read` says so, or by the signal.
 */
export function follow<T>({ store, notice, read, signal }: FollowOptions<T>): AsyncIterableIterator<T> {
  let stale = true;
  let ended = false;
  let closed = false;
  let wake: (() => void) | undefined;
  let buffer: T[] = [];

  const close = () => {
    closed = true;
    unsubscribe();
    signal.removeEventListener("abort", close);
    wake?.();
  };
  const unsubscribe = store.onChange((change) => {
    if (!notice(change)) return;
    stale = true;
    wake?.();
  });
  signal.addEventListener("abort", close, { once: true });
  if (signal.aborted) close();

  const refill = async () => {
    stale = false;
    try {
      const { items, end } = await read();
      buffer = items;
      ended = end;
    } catch (thrown) {
      close();
      throw thrown;
    }
  };
  const next = async (): Promise<IteratorResult<T>> => {
    while (!closed) {
      const item = buffer.shift();
      if (item !== undefined) return { done: false, value: item };
      if (ended) close();
      else if (stale) await refill();
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    return { done: true, value: undefined };
  };
  // One after the other, also when a consumer asks for several at once.
  let turn: Promise<unknown> = Promise.resolve();
  return {
    next: () => {
      const result = turn.then(next, next);
      turn = result;
      return result;
    },
    return: async () => {
      close();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
