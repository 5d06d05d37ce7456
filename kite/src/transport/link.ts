import type { RawFrame } from "../wire/v1.ts";
import type { Transport, TransportReceiver } from "./transport.ts";

/**
 * A transport made of two streams of frames: what the relay carries inside another session. Closing either stream closes
 * it; the reason does not travel, the session above says its own goodbye.
 *
 * @example
 * const onLink = ({ incoming }: RelayLink) => {
 *   const { transport, outgoing } = linkTransport(incoming);
 *   kite.serve(transport);
 *   return outgoing;
 * };
 */
export function linkTransport(incoming: AsyncIterable<RawFrame>): { transport: Transport; outgoing: AsyncIterable<RawFrame> } {
  const link = new LinkTransport(incoming);
  return { transport: link, outgoing: link.outgoing };
}

class LinkTransport implements Transport {
  readonly outgoing: AsyncIterableIterator<RawFrame>;
  readonly #incoming: AsyncIterable<RawFrame>;
  #iterator: AsyncIterator<RawFrame> | undefined;
  #receiver: TransportReceiver | undefined;
  #queue: RawFrame[] = [];
  #queuedBytes = 0;
  #wake: (() => void) | undefined;
  #closed: { code: number; reason: string } | undefined;

  constructor(incoming: AsyncIterable<RawFrame>) {
    this.#incoming = incoming;
    // Not a generator: one that waits for a frame would hear only with the next frame that its reader has left.
    this.outgoing = {
      next: () => this.#next(),
      return: async () => {
        this.close(1006, "the relay has let go of the link");
        this.#queue = [];
        return DONE;
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  get bufferedBytes(): number {
    return this.#queuedBytes;
  }

  start(receiver: TransportReceiver): void {
    this.#receiver = receiver;
    if (this.#closed === undefined) void this.#receive();
    else receiver.closed(this.#closed);
  }

  send(frame: RawFrame): void {
    if (this.#closed !== undefined) return;
    this.#queue.push(frame);
    this.#queuedBytes += frame.length;
    this.#stir();
  }

  close(code: number, reason: string): void {
    if (this.#closed !== undefined) return;
    const why = { code, reason };
    this.#closed = why;
    this.#stir();
    const iterator = this.#iterator;
    // The relay's side may be gone; whether it could still be told changes nothing here.
    void (async () => iterator?.return?.())().catch(() => {});
    const receiver = this.#receiver;
    queueMicrotask(() => receiver?.closed(why));
  }

  async #next(): Promise<IteratorResult<RawFrame>> {
    for (;;) {
      const frame = this.#queue.shift();
      if (frame !== undefined) {
        this.#queuedBytes -= frame.length;
        return { done: false, value: frame };
      }
      if (this.#closed !== undefined) return DONE;
      await new Promise<void>((wake) => (this.#wake = wake));
    }
  }

  async #receive(): Promise<void> {
    const iterator = this.#incoming[Symbol.asyncIterator]();
    this.#iterator = iterator;
    try {
      for (;;) {
        const { done, value } = await iterator.next();
        if (done || this.#closed !== undefined) break;
        this.#receiver?.frame(value);
      }
      this.close(1000, "the caller has left");
    } catch {
      this.close(1006, "the relay's own connection was lost");
    }
  }

  #stir(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}

const DONE = { done: true, value: undefined } as const;
