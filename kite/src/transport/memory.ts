import type { RawFrame } from "../wire/v1.ts";
import type { Transport, TransportReceiver } from "./transport.ts";

/** A link inside the process. */
export interface MemoryLink {
  /** What one end sends the other one gets. */
  readonly ends: readonly [Transport, Transport];
  /** Cuts the link as a pulled cable does: what is on its way, in either direction, is lost. */
  sever(): void;
}

/**
 * Two ends of one link inside the process. Frames arrive in a later microtask, in order, as over a real socket.
 *
 * @example const { ends: [here, there] } = memoryLink();
 */
export function memoryLink(): MemoryLink {
  const a = new MemoryTransport();
  const b = new MemoryTransport();
  a.join(b);
  b.join(a);
  const sever = () => {
    a.lose();
    b.lose();
    a.close(1006, "the link was cut");
  };
  return { ends: [a, b], sever };
}

class MemoryTransport implements Transport {
  readonly bufferedBytes = 0;
  #peer: MemoryTransport | undefined;
  #receiver: TransportReceiver | undefined;
  #inbox: RawFrame[] = [];
  #closed: { code: number; reason: string } | undefined;
  #told = false;

  join(peer: MemoryTransport): void {
    this.#peer = peer;
  }

  start(receiver: TransportReceiver): void {
    this.#receiver = receiver;
    queueMicrotask(() => this.#deliver());
  }

  send(frame: RawFrame): void {
    if (this.#closed === undefined) this.#peer?.take(frame);
  }

  close(code: number, reason: string): void {
    this.end({ code, reason });
    this.#peer?.end({ code, reason });
  }

  take(frame: RawFrame): void {
    if (this.#closed !== undefined) return;
    this.#inbox.push(frame);
    queueMicrotask(() => this.#deliver());
  }

  lose(): void {
    this.#inbox = [];
  }

  end(why: { code: number; reason: string }): void {
    if (this.#closed !== undefined) return;
    this.#closed = why;
    queueMicrotask(() => this.#deliver());
  }

  #deliver(): void {
    if (this.#receiver === undefined) return;
    for (const frame of this.#inbox.splice(0)) this.#receiver.frame(frame);
    if (this.#closed === undefined || this.#told) return;
    this.#told = true;
    this.#receiver.closed(this.#closed);
  }
}
