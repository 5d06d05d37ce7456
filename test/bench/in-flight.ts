export interface Measured {
  calls: number;
  callsPerSecond: number;
  p50Us: number;
  p99Us: number;
}

/** Keeps `inFlight` calls under way for the given time, and takes the time of each. */
export async function measure(call: () => Promise<unknown>, inFlight: number, forMs: number): Promise<Measured> {
  const latencies: number[] = [];
  const startedAt = performance.now();
  const until = startedAt + forMs;
  const lane = async () => {
    for (let calledAt = performance.now(); calledAt < until; ) {
      await call();
      const answeredAt = performance.now();
      latencies.push(answeredAt - calledAt);
      calledAt = answeredAt;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  const elapsedMs = performance.now() - startedAt;
  latencies.sort((a, b) => a - b);
  const calls = latencies.length;
  return {
    calls,
    callsPerSecond: (calls / elapsedMs) * 1000,
    p50Us: percentile(latencies, 0.5) * 1000,
    p99Us: percentile(latencies, 0.99) * 1000,
  };
}

/** Of sorted values. */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
}
