import { KiteError } from "../errors.ts";

/** What this side reads, as a Web stream that asks for a chunk when its own reader does. Cancelling it cancels the source. */
export function toReadable<T>(source: AsyncIterator<T> & { cancel(): void }): ReadableStream<T> {
  return new ReadableStream<T>(
    {
      pull: async (controller) => {
        const { done, value } = await source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: () => source.cancel(),
    },
    // Nothing is read ahead: the window that there is already is enough.
    { highWaterMark: 0 },
  );
}

/** A Web stream as an async iterable whose `return` cancels it at once, also while a chunk is awaited; its own waits for that chunk. */
export function fromReadable<T>(source: ReadableStream<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]: () => {
      const reader = source.getReader();
      return {
        next: async () => {
          const { done, value } = await reader.read();
          return done ? { done: true, value: undefined } : { done: false, value };
        },
        return: async () => {
          await reader.cancel(new KiteError("cancelled", "the reader has left"));
          return { done: true, value: undefined };
        },
      };
    },
  };
}
