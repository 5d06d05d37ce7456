import { setTimeout as pause } from "node:timers/promises";

const LOOK_EVERY_MS = 50;

/**
 * Waits until `condition` answers with something other than undefined or false, and answers with that. What it throws
 * counts as "not yet", and is the cause of the error when the time is up.
 */
export async function until<T>(
  what: string,
  limitMs: number,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const end = performance.now() + limitMs;
  let last: unknown;
  while (performance.now() < end) {
    try {
      const found = await condition();
      if (found !== undefined && found !== false) return found;
      last = undefined;
    } catch (cause) {
      last = cause;
    }
    await pause(LOOK_EVERY_MS);
  }
  throw new Error(`expected ${what} within ${limitMs} ms`, { cause: last });
}
