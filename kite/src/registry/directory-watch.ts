import { Endable, itemsUntil, sleep } from "../abortable.ts";
import { Backoff, type BackoffOptions } from "../backoff.ts";
import { KiteError } from "../errors.ts";
import type { Query } from "../identity.ts";
import type { Logger } from "../log.ts";
import { isLasting, type ReachRegistry } from "./registration.ts";
import type { WatchEvent } from "./registry.ts";

export interface DirectoryWatchOptions {
  readonly reach: ReachRegistry;
  readonly log: Logger;
  readonly backoff: BackoffOptions;
  readonly now: () => number;
  readonly signal?: AbortSignal | undefined;
}

/** What {@link KiteClient.watch} gives: the events, and how old what they told is. */
export interface DirectoryWatch extends AsyncIterableIterator<WatchEvent> {
  /** Whether changes may be missing for now: kontrol was not heard yet, or the connection to it is lost. */
  readonly stale: boolean;
  /** Until when what was told is complete, in milliseconds since the epoch: now, unless it is stale; undefined before the first event. */
  readonly asOf: number | undefined;
}

/**
 * What happens in the directory, without a gap: after a lost connection it goes on from the last revision that was seen.
 * A further `snapshot` means that kontrol could not do that, and replaces what was known. Nothing is asked before the first
 * `next()`; the watch ends when its reader stops, the signal is aborted, or kontrol refuses it.
 */
export function watchDirectory(query: Query, options: DirectoryWatchOptions): DirectoryWatch {
  return new Watching(query, options);
}

class Watching extends Endable<WatchEvent> implements DirectoryWatch {
  readonly #now: () => number;
  readonly #heard: Heard;

  constructor(query: Query, options: DirectoryWatchOptions) {
    const heard: Heard = { upTo: undefined, live: false };
    super((signal) => follow(query, options, signal, heard), options.signal);
    this.#now = options.now;
    this.#heard = heard;
  }

  get stale(): boolean {
    return !this.#heard.live;
  }

  get asOf(): number | undefined {
    return this.#heard.live ? this.#now() : this.#heard.upTo;
  }
}

/** Whether changes arrive now, and if not, until when they did. */
interface Heard {
  upTo: number | undefined;
  live: boolean;
}

async function* follow(
  query: Query,
  { reach, log, backoff: waits, now }: DirectoryWatchOptions,
  signal: AbortSignal,
  heard: Heard,
): AsyncGenerator<WatchEvent, void, undefined> {
  const backoff = new Backoff(waits);
  let since: string | undefined;
  while (!signal.aborted) {
    const startedAt = now();
    let error = new KiteError("disconnected", "kontrol ended the watch");
    try {
      const registry = await reach({ timeoutMs: WATCH_TIMEOUT_MS, signal });
      const events = await registry.watch(since === undefined ? { query } : { query, since });
      // Who goes on from a revision may hear nothing for long: nothing has changed.
      heard.live = since !== undefined;
      for await (const event of itemsUntil(events, signal)) {
        heard.live = true;
        since = event.revision;
        yield event;
      }
    } catch (thrown) {
      error = KiteError.from(thrown);
    }
    if (heard.live) heard.upTo = now();
    heard.live = false;
    if (signal.aborted) return;
    if (isLasting(error)) {
      if (since === undefined) throw error;
      // A kontrol whose log was restored from a backup does not know the revision; it is asked for everything, once.
      since = undefined;
    }
    if (now() - startedAt > STEADY_MS) backoff.reset();
    log.debug({ code: error.code, error: error.message, since: since ?? null }, "the watch was interrupted; going on");
    await sleep(backoff.next() ?? STEADY_MS, { signal }).catch(() => {}); // ends the loop by its condition
  }
}

const WATCH_TIMEOUT_MS = 10_000;
// A watch that lasted this long worked, and its loss is the first one.
const STEADY_MS = 30_000;
