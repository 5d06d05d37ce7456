import {
  type Call,
  type DirectoryKite,
  formatIdentity,
  type Identity,
  KiteError,
  type Logger,
  type Query,
  type WatchEvent,
} from "@kite-mesh/kite";
import { issue, type QueryOptions, urlFor } from "../directory/query.ts";
import type { Watchers } from "../directory/watch.ts";

/** What an older watcher is told of one kite. */
export interface KiteEvent {
  readonly action: "REGISTER" | "DEREGISTER";
  readonly kite: Identity;
  readonly url: string;
  /** Empty for one that went; kite.js throws where there is none. */
  readonly token: string;
}

/** The caller's function, which takes what an answer would look like. */
export type WatchCallback = (event: { error: null; result: KiteEvent }) => unknown;

export interface OlderWatchesOptions extends QueryOptions {
  readonly watchers: Watchers;
  readonly logger: Logger;
}

// A program that watches everything it depends on has a dozen; more in one session are a loop.
const PER_SESSION = 256;

/**
 * The watches of older kites: a function of theirs is called with each kite that comes, changes or goes, until they cancel
 * the watch or their session ends. It is the same watch as everybody's, told in other words.
 */
export class OlderWatches {
  readonly #options: OlderWatchesOptions;
  /** By session, then by the watch's id. */
  readonly #sessions = new Map<string, Map<string, () => void>>();

  constructor(options: OlderWatchesOptions) {
    this.#options = options;
  }

  /** Tells what changes after `since`, the revision of the answer that the caller gets with the id. */
  start(
    query: Query,
    { kites, revision }: { kites: readonly DirectoryKite[]; revision: string },
    callback: WatchCallback,
    call: Call,
  ): string {
    const { id: sessionId, closed } = call.session;
    const watches = this.#sessions.get(sessionId) ?? new Map<string, () => void>();
    if (watches.size >= PER_SESSION) {
      throw new KiteError("limit_exceeded", `this session watches ${PER_SESSION} queries already, the limit; cancelWatcher ends one`);
    }
    const watcherID = crypto.randomUUID();
    const { username, expiresAt: until } = call.caller;
    const events = this.#options.watchers.watch({ query, since: revision, username, until })[Symbol.asyncIterator]();
    const stop = () => {
      closed.removeEventListener("abort", stop);
      watches.delete(watcherID);
      if (watches.size === 0) this.#sessions.delete(sessionId);
      void events.return?.();
    };
    watches.set(watcherID, stop);
    this.#sessions.set(sessionId, watches);
    closed.addEventListener("abort", stop, { once: true });
    if (closed.aborted) stop();
    void this.#tell({ [Symbol.asyncIterator]: () => events }, kites, callback, call).finally(() => {
      stop();
      // A function of the caller's is held until it is let go.
      (callback as Partial<Disposable>)[Symbol.dispose]?.();
    });
    return watcherID;
  }

  /** Ends a watch of the same session; others do not exist for it. */
  cancel(watcherID: string, { session }: Call): void {
    const stop = this.#sessions.get(session.id)?.get(watcherID);
    if (stop === undefined) throw new KiteError("not_found", "this session has no watch of that id; it was cancelled before");
    stop();
  }

  /** Never rejects. Waits for the callback, so a caller that reads slowly gets a snapshot's difference and no queue of events. */
  async #tell(events: AsyncIterable<WatchEvent>, begin: readonly DirectoryKite[], callback: WatchCallback, call: Call): Promise<void> {
    const known = new Map(begin.map((found) => [found.kite.id, found]));
    try {
      for await (const event of events) {
        if (event.type === "registered" && !isNews(event.kite, known.get(event.kite.kite.id))) continue;
        if (event.type === "registered") await this.#arrived(event.kite, known, callback, call);
        else if (event.type === "gone") await departed(event.kite, known, callback);
        else {
          const present = new Set(event.kites.map(({ kite }) => kite.id));
          for (const { kite } of [...known.values()]) if (!present.has(kite.id)) await departed(kite, known, callback);
          for (const found of event.kites) if (isNews(found, known.get(found.kite.id))) await this.#arrived(found, known, callback, call);
        }
      }
    } catch (thrown) {
      this.#options.logger.debug({ caller: call.caller.username, err: KiteError.from(thrown) }, "an older watch ended");
    }
  }

  async #arrived(found: DirectoryKite, known: Map<string, DirectoryKite>, callback: WatchCallback, call: Call): Promise<void> {
    const { directory, now } = this.#options;
    const { kite, url } = found;
    const record = directory.kite(kite.id);
    const access = record === undefined ? undefined : directory.access(record, call.caller.username, now());
    // It has left meanwhile, or may not be seen any more: that is the next event.
    if (record === undefined || access === undefined || formatIdentity(record.kite) !== formatIdentity(kite)) return;
    known.set(kite.id, found);
    const { token } = await issue(record, access, call.caller, this.#options);
    const dialled = urlFor(url, call.caller, this.#options.keys);
    await callback({ error: null, result: { action: "REGISTER", kite, url: dialled, token } });
  }
}

async function departed(kite: Identity, known: Map<string, DirectoryKite>, callback: WatchCallback): Promise<void> {
  // One that came and went before it could be told of.
  const found = known.get(kite.id);
  if (found === undefined) return;
  known.delete(kite.id);
  await callback({ error: null, result: { action: "DEREGISTER", kite, url: found.url, token: "" } });
}

/** They know nothing of labels: a kite whose load changed is no news. */
function isNews({ registeredAt, url }: DirectoryKite, before: DirectoryKite | undefined): boolean {
  return before === undefined || before.registeredAt !== registeredAt || before.url !== url;
}
