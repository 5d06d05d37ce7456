import { type KiteError, protocolError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import { isCount } from "../wire/v1.ts";
import type { StreamSource } from "../wire/values.ts";
import { type FailedWork, reasonOf } from "./failure.ts";
import type { Parcel } from "./parcels.ts";
import { fromReadable } from "./web-streams.ts";

/** How a stream's messages leave; the session provides it. */
export interface StreamWires {
  chunk(id: number, chunk: unknown): { weight: number; parcel: Parcel | undefined };
  drop(parcel: Parcel): void;
  end(id: number, error: KiteError | undefined): void;
  credit(id: number, weight: number): void;
  stop(id: number): void;
  /** What the reader is told of what the producer threw; `of` is the call that the stream answers. */
  explain(id: number, thrown: unknown, of: FailedWork | undefined): KiteError;
  /** Whether so much waits to be acknowledged that nothing more should be produced; `resume` tells when that is over. */
  congested(): boolean;
}

/** Streams that this side produces. Each is pulled only while the reader has credit left, so back-pressure is the producer's pace. */
export class OutgoingStreams {
  readonly #limits: Limits;
  readonly #wires: StreamWires;
  /** Made with the first stream: most sessions carry none. */
  #open: Map<number, Producer> | undefined;
  #window: number | undefined;
  #next = 1;

  constructor(limits: Limits, wires: StreamWires) {
    this.#limits = limits;
    this.#wires = wires;
  }

  get size(): number {
    return this.#open?.size ?? 0;
  }

  /** How much may be on its way is known; streams that waited for that begin. */
  agree(window: number): void {
    this.#window = window;
    for (const producer of this.#producers) producer.agree(window);
  }

  /** Takes in a stream that is about to be announced; {@link start} lets it begin. */
  add(source: StreamSource): number {
    if (this.size >= this.#limits.streams) throw limitError("streams", this.#limits, "one stream more was to be sent");
    const id = this.#next++;
    // Removed when it is over for the reader; a producer that never comes back from its wait must not count for ever.
    const producer = new Producer({
      id,
      source: source instanceof ReadableStream ? fromReadable(source) : source,
      wires: this.#wires,
      over: () => this.#open?.delete(id),
    });
    if (this.#window !== undefined) producer.agree(this.#window);
    this.#open ??= new Map();
    this.#open.set(id, producer);
    return id;
  }

  /** The message that announces the stream is sent: its chunks do not overtake it any more. */
  start(id: number): void {
    const producer = this.#open?.get(id);
    if (producer !== undefined) queueMicrotask(() => void producer.run());
  }

  /**
   * The reader of a stream has made room.
   *
   * @throws {KiteError} `protocol_error` for room that there cannot be.
   */
  credit(id: number, weight: unknown): void {
    if (!isCount(weight)) throw protocolError(`credit for a stream is a whole number, got ${JSON.stringify(weight)}`);
    this.#open?.get(id)?.refill(weight);
  }

  stop(id: number): void {
    this.#open?.get(id)?.stop();
  }

  /** There is room again after `congested`. */
  resume(): void {
    for (const producer of this.#producers) producer.resume();
  }

  /** These streams answer a call. Calls `left` when all of them are over and a reader left one of them before its end. */
  whenLeft(ids: readonly number[], call: FailedWork, left: () => void): void {
    const producers = ids.flatMap((id) => this.#open?.get(id) ?? []);
    let open = producers.length;
    let early = false;
    for (const producer of producers) {
      producer.of = call;
      producer.onOver((stopped) => {
        early ||= stopped;
        if (--open === 0 && early) left();
      });
    }
  }

  clear(): void {
    for (const producer of [...this.#producers]) producer.stop();
  }

  get #producers(): Iterable<Producer> {
    return this.#open?.values() ?? [];
  }
}

interface ProducerOptions {
  readonly id: number;
  readonly source: AsyncIterable<unknown>;
  readonly wires: StreamWires;
  readonly over: () => void;
}

class Producer {
  readonly #options: ProducerOptions;
  readonly #listeners: ((stopped: boolean) => void)[];
  #window = 0;
  #credit = 0;
  #over = false;
  #iterator: AsyncIterator<unknown> | undefined;
  #parcel: Parcel | undefined;
  #wake: (() => void) | undefined;
  /** The call that the stream answers. */
  of: FailedWork | undefined;

  constructor(options: ProducerOptions) {
    this.#options = options;
    this.#listeners = [options.over];
  }

  agree(window: number): void {
    this.#window = window;
    this.#credit = window;
    this.resume();
  }

  onOver(listener: (stopped: boolean) => void): void {
    this.#listeners.push(listener);
  }

  async run(): Promise<void> {
    // Stopped before it began: an iterator that was never asked for anything has nothing to clean up.
    if (this.#over) return;
    try {
      this.#iterator = this.#options.source[Symbol.asyncIterator]();
      await this.#pump(this.#iterator);
      this.#end(undefined);
    } catch (thrown) {
      const { id, wires } = this.#options;
      if (!this.#over) this.#end(wires.explain(id, thrown, this.of));
    }
  }

  refill(weight: number): void {
    this.#credit += weight;
    if (this.#credit > this.#window) throw protocolError(`stream ${this.#options.id} was given more credit than was used of its window`);
    this.resume();
  }

  resume(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /**
   * The reader has left. A generator hears `return` only at its next `yield`, so one that waits for something else must
   * heed its call's signal; either way nothing here waits for it.
   */
  stop(): void {
    if (this.#over) return;
    this.#finish(true);
    if (this.#parcel !== undefined) this.#options.wires.drop(this.#parcel);
    this.#letGo();
  }

  async #pump(iterator: AsyncIterator<unknown>): Promise<void> {
    const { id, wires } = this.#options;
    for (;;) {
      while ((this.#credit <= 0 || wires.congested()) && !this.#over) await new Promise<void>((wake) => (this.#wake = wake));
      if (this.#over) return;
      const { done, value } = await iterator.next();
      if (done || this.#over) return;
      try {
        const { weight, parcel } = wires.chunk(id, value);
        this.#credit -= weight;
        // The next chunk must not overtake this one.
        if (parcel !== undefined && !parcel.over) await this.#carried(parcel);
      } catch (thrown) {
        this.#letGo();
        throw reasonOf(thrown);
      }
    }
  }

  async #carried(parcel: Parcel): Promise<void> {
    this.#parcel = parcel;
    await new Promise<void>((resolve, reject) => parcel.follow({ sent: () => resolve(), failed: reject, dropped: resolve }));
    this.#parcel = undefined;
  }

  #end(error: KiteError | undefined): void {
    if (this.#over) return;
    this.#options.wires.end(this.#options.id, error);
    this.#finish(false);
  }

  #finish(stopped: boolean): void {
    this.#over = true;
    this.resume();
    for (const listener of this.#listeners) listener(stopped);
  }

  #letGo(): void {
    const iterator = this.#iterator;
    // Whatever goes wrong in the producer's own clean-up, nobody is left to be told.
    void (async () => iterator?.return?.())().catch(() => {});
  }
}
