import { KiteError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import { isCount } from "../wire/v1.ts";
import { leastLength, plainWeight, type StreamSource } from "../wire/values.ts";
import { type FailedWork, reasonOf } from "./failure.ts";
import type { Parcel } from "./parcels.ts";
import { fromReadable, toReadable } from "./web-streams.ts";

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
  readonly #open = new Map<number, Producer>();
  #window: number | undefined;
  #next = 1;

  constructor(limits: Limits, wires: StreamWires) {
    this.#limits = limits;
    this.#wires = wires;
  }

  get size(): number {
    return this.#open.size;
  }

  /** How much may be on its way is known; streams that waited for that begin. */
  agree(window: number): void {
    this.#window = window;
    for (const producer of this.#open.values()) producer.agree(window);
  }

  /** Takes in a stream that is about to be announced; {@link start} lets it begin. */
  add(source: StreamSource): number {
    if (this.#open.size >= this.#limits.streams) throw limitError("streams", this.#limits, "one stream more was to be sent");
    const id = this.#next++;
    // Removed when it is over for the reader; a producer that never comes back from its wait must not count for ever.
    const producer = new Producer({
      id,
      source: source instanceof ReadableStream ? fromReadable(source) : source,
      wires: this.#wires,
      over: () => this.#open.delete(id),
    });
    if (this.#window !== undefined) producer.agree(this.#window);
    this.#open.set(id, producer);
    return id;
  }

  /** The message that announces the stream is sent: its chunks do not overtake it any more. */
  start(id: number): void {
    const producer = this.#open.get(id);
    if (producer !== undefined) queueMicrotask(() => void producer.run());
  }

  /**
   * The reader of a stream has made room.
   *
   * @throws {KiteError} `protocol_error` for room that there cannot be.
   */
  credit(id: number, weight: unknown): void {
    if (!isCount(weight)) throw new KiteError("protocol_error", `credit for a stream is a whole number, got ${JSON.stringify(weight)}`);
    this.#open.get(id)?.refill(weight);
  }

  stop(id: number): void {
    this.#open.get(id)?.stop();
  }

  /** There is room again after `congested`. */
  resume(): void {
    for (const producer of this.#open.values()) producer.resume();
  }

  /** These streams answer a call. Calls `left` when all of them are over and a reader left one of them before its end. */
  whenLeft(ids: readonly number[], call: FailedWork, left: () => void): void {
    const producers = ids.flatMap((id) => this.#open.get(id) ?? []);
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
    for (const producer of [...this.#open.values()]) producer.stop();
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
    if (this.#credit > this.#window)
      throw new KiteError("protocol_error", `stream ${this.#options.id} was given more credit than was used of its window`);
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

/** Streams that the peer produces. */
export class IncomingStreams {
  readonly #limits: Limits;
  readonly #wires: StreamWires;
  readonly #open = new Map<number, StreamReader>();
  #window: number;
  /** A stream that nobody can read any more ends like one that was left. */
  #abandoned: FinalizationRegistry<StreamReader> | undefined;

  constructor(limits: Limits, wires: StreamWires) {
    this.#limits = limits;
    this.#wires = wires;
    this.#window = limits.streamWindow;
  }

  /** How much may be on its way is known. */
  agree(window: number): void {
    this.#window = window;
  }

  get size(): number {
    return this.#open.size;
  }

  add(id: number): RemoteStream<unknown> {
    if (this.#open.has(id)) throw new KiteError("protocol_error", `stream ${id} was announced twice`);
    if (this.#open.size >= this.#limits.streams) throw limitError("streams", this.#limits, "the peer sent one stream more");
    const reader = new StreamReader(this.#window, {
      consumed: (weight) => this.#wires.credit(id, weight),
      stopped: () => this.#stop(id),
    });
    this.#open.set(id, reader);
    const stream = new RemoteStream<unknown>(reader);
    this.#abandoned ??= new FinalizationRegistry((abandoned) => abandoned.cancel());
    this.#abandoned.register(stream, reader);
    return stream;
  }

  /**
   * A chunk has arrived, with the weight that its sender said.
   *
   * @throws {KiteError} `protocol_error` for a weight that it cannot have, or for more than the window.
   */
  chunk(id: number, chunk: unknown, said: unknown): void {
    this.#open.get(id)?.push(chunk, weightOf(chunk, said));
  }

  end(id: number, error: KiteError | undefined): void {
    const reader = this.#open.get(id);
    if (reader === undefined) return;
    this.#open.delete(id);
    reader.end(error);
  }

  clear(error: KiteError): void {
    for (const reader of this.#open.values()) reader.end(error);
    this.#open.clear();
  }

  #stop(id: number): void {
    if (this.#open.delete(id)) this.#wires.stop(id);
  }
}

/**
 * A stream that another kite produces: read it once, with `for await`. Leaving the loop, or `cancel()`, ends the producer.
 * What was read makes room for more; a reader that stops reading stops the producer too.
 *
 * @example for await (const line of await klient.log.tail({ path })) console.log(line);
 */
export class RemoteStream<T> implements AsyncIterableIterator<T> {
  readonly #reader: StreamReader;

  constructor(reader: StreamReader) {
    this.#reader = reader;
  }

  next(): Promise<IteratorResult<T>> {
    return this.#reader.next(this) as Promise<IteratorResult<T>>;
  }

  async return(): Promise<IteratorResult<T>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  /**
   * The rest of the stream as a Web stream. It asks for a chunk when its reader does; cancelling it ends the producer.
   *
   * @example await (await klient.fs.open({ path })).readable().pipeTo(destination);
   */
  readable(): ReadableStream<T> {
    return toReadable(this);
  }

  /** Ends the stream at its producer. What has arrived but was not read is dropped. */
  cancel(): void {
    this.#reader.cancel();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
  }
}

interface Waiting {
  /** Keeps the stream from being collected, and so ended, while somebody waits for its next chunk. */
  readonly stream: object;
  resolve(result: IteratorResult<unknown>): void;
  reject(error: KiteError): void;
}

class StreamReader {
  readonly #window: number;
  readonly #events: { consumed(weight: number): void; stopped(): void };
  #chunks: { readonly chunk: unknown; readonly weight: number }[] = [];
  #waiting: Waiting[] = [];
  #inFlight = 0;
  #consumed = 0;
  #ended: { error: KiteError | undefined } | undefined;

  constructor(window: number, events: { consumed(weight: number): void; stopped(): void }) {
    this.#window = window;
    this.#events = events;
  }

  push(chunk: unknown, weight: number): void {
    // One chunk may overdraw the window, whatever its size; the next one must have waited.
    if (this.#inFlight >= this.#window) throw new KiteError("protocol_error", `a stream was sent beyond its window of ${this.#window}`);
    this.#inFlight += weight;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#chunks.push({ chunk, weight });
    else {
      this.#consume(weight);
      waiting.resolve({ done: false, value: chunk });
    }
  }

  end(error: KiteError | undefined): void {
    this.#ended ??= { error };
    for (const waiting of this.#waiting.splice(0)) this.#finish(waiting);
  }

  next(stream: object): Promise<IteratorResult<unknown>> {
    const first = this.#chunks.shift();
    if (first !== undefined) {
      this.#consume(first.weight);
      return Promise.resolve({ done: false, value: first.chunk });
    }
    return new Promise((resolve, reject) => {
      const waiting = { stream, resolve, reject };
      if (this.#ended === undefined) this.#waiting.push(waiting);
      else this.#finish(waiting);
    });
  }

  cancel(): void {
    this.#chunks = [];
    if (this.#ended !== undefined) return;
    this.end(undefined);
    this.#events.stopped();
  }

  #consume(weight: number): void {
    this.#consumed += weight;
    // In halves: a message for every chunk would double the traffic, the whole window would make the producer wait.
    if (this.#consumed >= this.#window / 2 && this.#ended === undefined) {
      this.#inFlight -= this.#consumed;
      this.#events.consumed(this.#consumed);
      this.#consumed = 0;
    }
  }

  #finish(waiting: Waiting): void {
    const error = this.#ended?.error;
    // An error is told once; whoever asks again finds the end.
    this.#ended = { error: undefined };
    if (error === undefined) waiting.resolve({ done: true, value: undefined });
    else waiting.reject(error);
  }
}

function weightOf(chunk: unknown, said: unknown): number {
  if (said === undefined) {
    const weight = plainWeight(chunk);
    if (weight !== undefined) return weight;
  } else if (isCount(said) && said >= leastLength(chunk)) return said;
  throw new KiteError(
    "protocol_error",
    "a chunk that is neither text nor bytes has its weight beside it, which is not less than its length",
  );
}
