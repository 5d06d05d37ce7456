import { KiteError } from "../errors.ts";
import type { CallMeta } from "../method.ts";

/**
 * What a peer sent beside the arguments. A trace that is not as it should be is left out: a call is not refused for what only
 * describes it. The key is for {@link isKey}.
 */
export function readMeta(sent: unknown): CallMeta {
  if (typeof sent !== "object" || sent === null) return {};
  const { key, traceparent, tracestate } = sent as CallMeta;
  return { key: key ?? undefined, traceparent: short(traceparent), tracestate: short(tracestate) };
}

/** A call whose key was left out would run again with every repeat, which is what its caller uses the key against. */
export function isKey(key: unknown): boolean {
  return key === undefined || (typeof key === "string" && key.length <= MAX_KEY);
}

export function badKey(name: string): KiteError {
  return new KiteError("invalid_argument", `${name}: the key of a call is a text of at most ${MAX_KEY} characters; it did not run`, {
    outcome: "not_run",
  });
}

const MAX_KEY = 128;
// What the W3C's recommendation asks every participant to be able to carry.
const MAX_TRACE = 512;

function short(value: unknown): string | undefined {
  return typeof value === "string" && value.length <= MAX_TRACE ? value : undefined;
}
