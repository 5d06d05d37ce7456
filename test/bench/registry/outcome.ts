import type { Measured } from "../in-flight.ts";

/** How many are asked at the same time, and for how long. */
export interface Load {
  inFlight: number;
  forMs: number;
}

/** What one measurement of one side found. Times are in milliseconds. */
export interface Outcome {
  calls: number;
  perSecond?: number | undefined;
  p50Ms?: number | undefined;
  p99Ms?: number | undefined;
  /** Processor time per call. */
  cpuUs?: { server: number; database?: number; clients: number };
  /** What is peculiar to it, under its name and unit. */
  more?: Record<string, number>;
}

export interface Sample extends Outcome {
  round: number;
  scenario: string;
  what: string;
  side: string;
}

/** Medians over the rounds. */
export interface Row extends Omit<Sample, "round" | "calls"> {
  /** This side's rate divided by the other's in the same round. */
  rateRatio: Record<string, number>;
}

export function outcomeOf({ calls, callsPerSecond, p50Us, p99Us }: Measured): Outcome {
  return { calls, perSecond: callsPerSecond, p50Ms: p50Us / 1000, p99Ms: p99Us / 1000 };
}
