import { Worker } from "node:worker_threads";
import { eitherSignal, sleep } from "../abortable.ts";
import { KiteError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { BEAT_THREAD_SOURCE } from "./beat-thread-source.ts";
import type { OwnBeats } from "./registration.ts";

export interface ThreadBeatsOptions {
  /** Where kontrol is; only by HTTP or WebSocket can a thread beat there. */
  readonly kontrolUrl: string;
  /** The kite's id. */
  readonly id: string;
  /** What the registration was answered with. */
  readonly ticket: string;
  readonly heartbeatMs: number;
  readonly log: Logger;
}

// A turn of the event loop is noted twice in a second: exact enough for beats, and nothing that keeps a processor awake.
const TURN_MS = 500;
// It holds a few sockets. The young generation is what a worker touches first, so it is what it costs.
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 };

/**
 * Beats for a registration from a thread of its own, so that a kite whose event loop is blocked is seen as busy, and not as
 * dead. All kites of the process share the thread; it starts with the first and ends with the last, and keeps no process
 * alive. Whoever asked disposes of the beats. Undefined where no thread can be had: the session beats then.
 *
 * @example using beats = beatFromThread({ kontrolUrl, id: kite.identity.id, ticket, heartbeatMs, log });
 */
export function beatFromThread(options: ThreadBeatsOptions): OwnBeats | undefined {
  if (!/^(https?|wss?):/.test(options.kontrolUrl)) return undefined;
  try {
    shared ??= new BeatThread(() => (shared = undefined));
    return shared.add(options);
  } catch (thrown) {
    // Some runtimes have no threads, and some programs may not start any.
    options.log.debug({ error: KiteError.from(thrown).message }, "no thread could be started to beat from; the session beats");
    return undefined;
  }
}

let shared: BeatThread | undefined;

class BeatThread {
  readonly #worker: Worker;
  readonly #clock: BigInt64Array;
  readonly #turning: NodeJS.Timeout;
  readonly #onEnd: () => void;
  readonly #beats = new Map<number, ThreadBeats>();
  #keys = 0;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
    const clock = new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT);
    this.#clock = new BigInt64Array(clock);
    Atomics.store(this.#clock, 0, process.hrtime.bigint());
    this.#worker = new Worker(BEAT_THREAD_SOURCE, {
      eval: true,
      name: "kite beats",
      workerData: { clock, turnMs: TURN_MS },
      resourceLimits: RESOURCE_LIMITS,
      // What the process loads before its program is not for the thread, nor is what its environment says.
      execArgv: [],
      env: {},
    });
    this.#worker.unref();
    this.#worker.on("message", ({ key, beats }: { key: number; beats: boolean }) => this.#beats.get(key)?.move(beats));
    // Unheard, an error of the thread would be one of the process. The session beats in its place.
    this.#worker.on("error", () => {});
    this.#worker.on("exit", () => this.#end());
    this.#turning = setInterval(() => this.#turn(), TURN_MS).unref();
  }

  add({ kontrolUrl, id, ticket, heartbeatMs }: ThreadBeatsOptions): ThreadBeats {
    const key = this.#keys++;
    const beats = new ThreadBeats(() => this.#remove(key));
    this.#beats.set(key, beats);
    const url = `${kontrolUrl.replace(/\/+$/, "")}/beats/${encodeURIComponent(id)}`;
    this.#worker.postMessage({ kind: "add", key, url, ticket, heartbeatMs });
    return beats;
  }

  #remove(key: number): void {
    if (!this.#beats.delete(key)) return;
    this.#worker.postMessage({ kind: "end", key });
    if (this.#beats.size > 0) return;
    this.#end();
    void this.#worker.terminate();
  }

  /** The thread may also have died by itself. Then the next registration starts another. */
  #end(): void {
    clearInterval(this.#turning);
    for (const beats of this.#beats.values()) beats.move(false);
    this.#beats.clear();
    this.#onEnd();
  }

  #turn(): void {
    const now = process.hrtime.bigint();
    const late = (now - Atomics.exchange(this.#clock, 0, now)) / 1_000_000n - BigInt(TURN_MS);
    if (late > Atomics.load(this.#clock, 1)) Atomics.store(this.#clock, 1, late);
  }
}

class ThreadBeats implements OwnBeats {
  readonly #onDispose: () => void;
  /** Aborted when kontrol ceases to answer; undefined while it does not answer. */
  #answering: AbortController | undefined;

  constructor(onDispose: () => void) {
    this.#onDispose = onDispose;
  }

  get answered(): boolean {
    return this.#answering !== undefined;
  }

  move(answered: boolean): void {
    if (answered) this.#answering ??= new AbortController();
    else {
      this.#answering?.abort();
      this.#answering = undefined;
    }
  }

  async wait(ms: number, signal: AbortSignal): Promise<void> {
    const answering = this.#answering?.signal;
    if (answering === undefined) return sleep(ms, { signal });
    const either = eitherSignal(signal, answering);
    try {
      await sleep(ms, { signal: either.signal });
    } catch (thrown) {
      if (signal.aborted) throw thrown;
    } finally {
      either.release();
    }
  }

  [Symbol.dispose](): void {
    this.#onDispose();
  }
}
