import { KiteError, protocolError } from "../errors.ts";
import { type Limits, limitError } from "../limits.ts";
import { isCount } from "../wire/v1.ts";
import { leastLength, plainWeight } from "../wire/values.ts";
import type { Arrivals } from "./arrivals.ts";
import type { StreamWires } from "./streams.ts";
import { toReadable } from "./web-streams.ts";

/** Streams that the peer produces. */
export class IncomingStreams {
  readonly #limits: Limits;
  readonly #wires: StreamWires;
  /** Made with the first stream: most sessions carry none. */
  #open: Map<number, StreamReader> | undefined;
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
    return this.#open?.size ?? 0;
  }

  add(id: number): RemoteStream<unknown> {
    if (this.#open?.has(id)) throw protocolError(`stream ${id} was announced twice`);
    if (this.size >= this.#limits.streams) throw limitError("streams", this.#limits, "the peer sent one stream more");
    const reader = new StreamReader(this.#window, {
      consumed: (weight) => this.#wires.credit(id, weight),
      stopped: () => this.#stop(id),
    });
    this.#open ??= new Map();
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
  chunk(id: number, { chunk, weight, arrivals }: ArrivedChunk): boolean {
    const reader = this.#open?.get(id);
    reader?.push({ chunk, weight: weightOf(chunk, weight), arrivals });
    return reader !== undefined;
  }

  end(id: number, error: KiteError | undefined): void {
    const reader = this.#open?.get(id);
    if (reader === undefined) return;
    this.#open?.delete(id);
    reader.end(error);
  }

  clear(error: KiteError): void {
    for (const reader of this.#open?.values() ?? []) reader.end(error);
    this.#open = undefined;
  }

  #stop(id: number): void {
    if (this.#open?.delete(id)) this.#wires.stop(id);
  }
}

interface ArrivedChunk {
  readonly chunk: unknown;
  /** As its sender said, if it did. */
  readonly weight: unknown;
  /** What it holds that must be let go if nobody reads it. */
  readonly arrivals: Arrivals | undefined;
}

/**
 * A stream that another kite produces: read it once, with `for await`. Leaving the loop, or `cancel()`, ends the producer.
 * What was read makes room for more; a reader that stops reading stops the producer too.
 *
 * @example for await (const line of await logs.tail("app.log")) console.log(line);
 */
export class RemoteStream<T> implements AsyncIterableIterator<T> {
  readonly #reader: StreamReader;

  constructor(reader: StreamReader) {
    this.#reader = reader;
  }

  /** @throws {KiteError} what the producer failed with, or `disconnected` when its session is lost. */
  next(): Promise<IteratorResult<T>> {
    return this.#reader.next(this) as Promise<IteratorResult<T>>;
  }

  /** What leaving a `for await` loop calls. */
  async return(): Promise<IteratorResult<T>> {
    this.cancel();
    return { done: true, value: undefined };
  }

  /**
   * The rest of the stream as a Web stream. It asks for a chunk when its reader does; cancelling it ends the producer.
   *
   * @example await (await logs.tail("app.log")).readable().pipeTo(new WritableStream({ write: (line) => console.log(line) }));
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
  #chunks: (ArrivedChunk & { readonly weight: number })[] = [];
  #waiting: Waiting[] = [];
  #inFlight = 0;
  #consumed = 0;
  #ended: { error: KiteError | undefined } | undefined;

  constructor(window: number, events: { consumed(weight: number): void; stopped(): void }) {
    this.#window = window;
    this.#events = events;
  }

  push(arrived: ArrivedChunk & { readonly weight: number }): void {
    const { chunk, weight } = arrived;
    // One chunk may overdraw the window, whatever its size; the next one must have waited.
    if (this.#inFlight >= this.#window) throw protocolError(`a stream was sent beyond its window of ${this.#window}`);
    this.#inFlight += weight;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#chunks.push(arrived);
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
    for (const { arrivals } of this.#chunks.splice(0)) arrivals?.letGo();
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
