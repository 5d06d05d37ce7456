/**
 * A queue between something that happens and somebody who reads: `push` never waits, the reader pulls. It is bounded by
 * its writer, who sees `size` and decides what a full queue means. Ends with `end`, or when the reader stops.
 */
export class Feed<T> implements AsyncIterable<T>, AsyncIterator<T, undefined> {
  readonly #onStop: () => void;
  readonly #onTake: (item: T) => void;
  #items: T[] = [];
  #waiting: { resolve: (result: IteratorResult<T, undefined>) => void; reject: (error: Error) => void } | undefined;
  #ended = false;
  #error: Error | undefined;

  /** `onStop` is called once, however it ends; `onTake` for everything that the reader took. */
  constructor({ onStop = () => {}, onTake = () => {} }: { onStop?: () => void; onTake?: (item: T) => void } = {}) {
    this.#onStop = onStop;
    this.#onTake = onTake;
  }

  get size(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#ended) return;
    const waiting = this.#waiting;
    if (waiting === undefined) {
      this.#items.push(item);
      return;
    }
    this.#waiting = undefined;
    waiting.resolve({ done: false, value: item });
    this.#onTake(item);
  }

  /** Forgets what was not read yet. */
  clear(): void {
    this.#items = [];
  }

  /** Nothing more comes. What is queued is still read, then the error, if there is one. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting === undefined) this.#error = error;
    else if (error !== undefined) waiting.reject(error);
    else waiting.resolve({ done: true, value: undefined });
    this.#onStop();
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const item = this.#items.shift();
    if (item !== undefined) {
      this.#onTake(item);
      return Promise.resolve({ done: false, value: item });
    }
    if (this.#ended) {
      const error = this.#error;
      this.#error = undefined;
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.clear();
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
