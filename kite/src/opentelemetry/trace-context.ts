import { createTraceState, INVALID_SPANID, INVALID_TRACEID, type SpanContext } from "@opentelemetry/api";
import type { CallMeta } from "../method.ts";

/**
 * Reads W3C Trace Context as it travels with a call. kite.v1 names these two fields, so they are read whichever propagator
 * the process has for its other protocols. Undefined when nothing came, or nothing that can be understood.
 */
export function readTraceContext({ traceparent, tracestate }: CallMeta): SpanContext | undefined {
  const [, version = "", traceId = "", spanId = "", flags = "", more = ""] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  if (version === "" || version === "ff" || traceId === INVALID_TRACEID || spanId === INVALID_SPANID) return undefined;
  // A later version may say more after what is known today; version 00 may not.
  if (version === "00" && more !== "") return undefined;
  const context: SpanContext = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
  return tracestate === undefined ? context : { ...context, traceState: createTraceState(tracestate) };
}

/** The same the other way, over what else travels with the call. */
export function writeTraceContext({ traceId, spanId, traceFlags, traceState }: SpanContext, meta: CallMeta | undefined): CallMeta {
  const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
  // The state belongs to its parent: one that came with another must not stay.
  const tracestate = traceState?.serialize() || undefined;
  return { ...meta, traceparent, tracestate };
}

const TRACEPARENT = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/;
