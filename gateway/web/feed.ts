import { type Live, live } from "./live.ts";
import type { Watcher } from "./mesh.ts";
import { pause, retryDelayMs } from "./retry.ts";
import { sayError } from "./trouble.ts";

/**
 * How far what is shown can be believed. `since` is when it last could, in milliseconds since the epoch; null when nothing
 * was ever heard.
 */
export type Link = { state: "connecting" } | { state: "live" } | { state: "stale"; since: number | null; reason: string };

export interface FeedOptions<Event> {
  watch: (watcher: Watcher<Event>) => Promise<void>;
  onEvent: (event: Event) => void;
  signal: AbortSignal;
  /** Its `wake` ends the pause before the next try. */
  wake?: EventTarget;
  now?: () => number;
  random?: () => number;
}

/**
 * Follows a watch for as long as the page lives: opens it again, with growing pauses, whenever it is lost, and says
 * meanwhile how old the picture is. Ends when the signal aborts.
 */
export function followFeed<Event>({ watch, onEvent, signal, wake, now = Date.now, random = Math.random }: FeedOptions<Event>): Live<Link> {
  const link = live<Link>({ state: "connecting" });
  let failures = 0;
  const stale = (reason: string) => {
    const before = link.value;
    const since = before.state === "stale" ? before.since : before.state === "live" ? now() : null;
    link.set({ state: "stale", since, reason });
  };
  const watcher: Watcher<Event> = {
    signal,
    event(event) {
      failures = 0;
      if (link.value.state !== "live") link.set({ state: "live" });
      onEvent(event);
    },
    connected(connected) {
      // Before the first event there is nothing to show that could be live or stale.
      if (link.value.state === "connecting" || (link.value.state === "stale" && link.value.since === null)) return;
      if (!connected) stale("the connection was interrupted");
      else if (link.value.state !== "live") link.set({ state: "live" });
    },
  };

  const run = async () => {
    while (!signal.aborted) {
      const reason = await watch(watcher).then(
        () => "the other side ended the watch",
        (error: unknown) => sayError(error).text,
      );
      if (signal.aborted) return;
      stale(reason);
      await pause(retryDelayMs(failures++, random), signal, wake);
    }
  };
  // Cannot reject: the watch's failures are turned into text above, and pausing never fails.
  void run();
  return link;
}
