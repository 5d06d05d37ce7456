/** Calls `work` for every item in order, at most `limit` at a time, and waits for all; the first failure stops further ones from starting. */
export async function eachBounded<T>(items: readonly T[], limit: number, work: (item: T) => Promise<void>): Promise<void> {
  const waiting = items.values();
  let failed = false;
  const lane = async () => {
    for (const item of waiting) {
      if (failed) return;
      try {
        await work(item);
      } catch (thrown) {
        failed = true;
        throw thrown;
      }
    }
  };
  const lanes = Array.from({ length: Math.min(limit, items.length) }, lane);
  // All lanes have ended before anybody hears of a failure: nothing goes on behind the caller's back.
  const settled = await Promise.allSettled(lanes);
  for (const outcome of settled) if (outcome.status === "rejected") throw outcome.reason;
}
