/** 0.5 s, 1 s, 2 s … at most 10 s, each shortened by up to half so that a restarted mesh is not asked by all at once. */
export function retryDelayMs(failures: number, random: () => number): number {
  const full = Math.min(500 * 2 ** failures, 10_000);
  return full * (1 - random() / 2);
}

/** Waits; less if the signal aborts or `wake` fires. Never rejects. */
export function pause(delayMs: number, signal: AbortSignal, wake?: EventTarget): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      wake?.removeEventListener("wake", done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener("abort", done, { once: true });
    wake?.addEventListener("wake", done, { once: true });
    if (signal.aborted) done();
  });
}

/** Fires `wake` when trying again is worth it at once: the browser is online again, or the page was brought to the front. */
export function wakeUps(signal: AbortSignal): EventTarget {
  const target = new EventTarget();
  const wake = () => target.dispatchEvent(new Event("wake"));
  window.addEventListener("online", wake, { signal });
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake(), { signal });
  return target;
}
