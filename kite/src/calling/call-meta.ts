import type { CallMeta } from "../method.ts";

/**
 * What travels with a call that is made for another one: the trace goes on, whether anybody here records it or not, unless
 * the call has one of its own. The key is for one effect, and stays behind.
 */
export function metaWithin(own: CallMeta | undefined, { traceparent, tracestate }: CallMeta): CallMeta | undefined {
  if (traceparent === undefined || own?.traceparent !== undefined) return own;
  return { ...own, traceparent, tracestate };
}
