import { Endable, itemsUntil } from "../abortable.ts";
import { Backoff, type BackoffOptions, sleep } from "../backoff.ts";
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

/**
 * What happens in the directory, without a gap: after a lost connection it goes on from the last revision that was seen.
 * A further `snapshot` means that kontrol could not do that, and replaces what was known. Nothing is asked before the first
 * `next()`; the watch ends when its reader stops, the signal is aborted, or kontrol refuses it.
 */
export function watchDirectory(query: Query, options: DirectoryWatchOptions): AsyncIterableIterator<WatchEvent> {
  return new Endable((signal) => follow(query, options, signal), options.signal);
}

async function* follow(
  query: Query,
  { reach, log, backoff: waits, now }: DirectoryWatchOptions,
  signal: AbortSignal,
): AsyncGenerator<WatchEvent, void, undefined> {
  const backoff = new Backoff(waits);
  let since: string | undefined;
  while (!signal.aborted) {
    const startedAt = now();
    let error = new KiteError("disconnected", "kontrol ended the watch");
    try {
      const registry = await reach({ timeoutMs: WATCH_TIMEOUT_MS, signal });
      const events = await registry.watch(since === undefined ? { query } : { query, since });
      for await (const event of itemsUntil(events, signal)) {
        since = event.revision;
        yield event;
      }
    } catch (thrown) {
      error = KiteError.from(thrown);
    }
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
