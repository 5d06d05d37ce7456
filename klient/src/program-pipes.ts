import type { ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";

export interface Delivery {
  stream: Readable | null;
  deliver: ((chunk: Uint8Array) => unknown) | undefined;
  /** Aborted when there is nobody left to deliver to. */
  closed: AbortSignal;
}

/**
 * Hands a program's output to its caller. Some chunks may be on their way at once; when the caller has not taken them, the
 * pipe is not read, and the program waits. Resolves when everything was taken; rejects when the caller fails or is gone.
 */
export async function deliverOutput({ stream, deliver, closed }: Delivery): Promise<void> {
  if (stream === null) return;
  if (deliver === undefined) {
    stream.resume();
    return;
  }
  const onTheirWay = new Set<Promise<unknown>>();
  const gone = whenAborted(closed);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const delivery: Promise<unknown> = Promise.resolve(deliver(chunk)).finally(() => onTheirWay.delete(delivery));
      onTheirWay.add(delivery);
      if (onTheirWay.size >= CHUNKS_ON_THEIR_WAY) await Promise.race([...onTheirWay, gone.rejection]);
    }
    await Promise.race([Promise.all(onTheirWay), gone.rejection]);
  } catch (cause) {
    for (const delivery of onTheirWay) delivery.catch(() => {});
    stream.destroy();
    throw cause;
  } finally {
    gone.forget();
  }
}

/** Gives a program its input. A program that ends without reading it all ends the input; that is no failure. */
export async function feedInput(child: ChildProcess, input: Uint8Array | AsyncIterable<Uint8Array> | undefined): Promise<void> {
  const { stdin } = child;
  if (stdin === null || input === undefined) return;
  // EPIPE: the program does not read any more.
  stdin.on("error", () => stdin.destroy());
  if (input instanceof Uint8Array) {
    stdin.end(input);
    return;
  }
  const iterator = input[Symbol.asyncIterator]();
  const ended = new Promise<"ended">((resolve) => child.once("exit", () => resolve("ended")).once("close", () => resolve("ended")));
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), ended]);
      if (next === "ended" || stdin.destroyed) return;
      if (next.done === true) break;
      if (!stdin.write(next.value))
        await Promise.race([new Promise((resolve) => stdin.once("drain", resolve).once("close", resolve)), ended]);
    }
    stdin.end();
  } catch {
    // The caller's stream broke: the program sees the end of its input.
    stdin.end();
  } finally {
    // Not awaited: a producer that waits for something else may take its time to hear of it.
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

function whenAborted(signal: AbortSignal): { rejection: Promise<never>; forget: () => void } {
  let abort: () => void = () => {};
  const rejection = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
  // It may reject when nobody waits for it.
  rejection.catch(() => {});
  return { rejection, forget: () => signal.removeEventListener("abort", abort) };
}

// Of up to 64 KB each; enough to fill a link of some hundred Mbit/s at 10 ms.
const CHUNKS_ON_THEIR_WAY = 8;
