import { hrtime } from "node:process";

/** One clock for all processes of the machine, in milliseconds. */
export function nowMs(): number {
  return Number(hrtime.bigint()) / 1e6;
}

export async function untilTrue(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}
