import {
  type Attributes,
  type Context,
  context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { KiteError, KiteErrorCode } from "../errors.ts";
import { formatIdentity, type Identity } from "../identity.ts";
import type { AnsweredCall, Calling, MadeCall, Observer, Serving } from "../observe.ts";
import { readTraceContext, writeTraceContext } from "./trace-context.ts";

/** Where spans go; may be left out. */
export interface TracingOptions {
  /** Default: the one that `@opentelemetry/api` hands out, which is the SDK's as soon as there is one. */
  readonly tracer?: Tracer | undefined;
}

/**
 * Spans for every call that a kite serves or makes, in one trace through all kites that the call passes: a served call
 * continues the trace that came with it and its method runs within its span, and a call that is made carries its own span
 * on. The same holds for functions that were passed as arguments, in whichever direction they are called. Without an OpenTelemetry SDK nothing is recorded, and the trace that came in is passed on as it is.
 *
 * @example
 * import { tracing } from "@kite-mesh/kite/opentelemetry";
 * const kite = await openKite({ name: "math", version: "1.0.0", methods, observers: [tracing()] });
 */
export function tracing({ tracer = trace.getTracer("@kite-mesh/kite") }: TracingOptions = {}): Observer {
  return ({ identity }) => ({
    serving: (call) => serving(tracer, identity, call),
    calling: (call) => calling(tracer, call),
    invoked: ({ call, method = FUNCTION }) => serving(tracer, identity, { call, method }),
    invoking: (call) => calling(tracer, call),
  });
}

function serving(tracer: Tracer, { name }: Identity, { call, method = OTHER }: AnsweredCall): Serving | undefined {
  const parent = remoteParent(call.meta) ?? ROOT_CONTEXT;
  const attributes = { ...named(name, method), "kite.caller": call.caller.username };
  const span = tracer.startSpan(`${name}/${method}`, { kind: SpanKind.SERVER, attributes }, parent);
  // There is no SDK, and no trace came in: nothing to record, and nothing to continue.
  if (!isSpanContextValid(span.spanContext())) return undefined;
  const within = trace.setSpan(parent, span);
  return {
    run: (work) => context.with(within, work),
    ended: (error) => {
      if (error !== undefined) fail(span, error, !CALLERS_FAULT.has(error.code));
      span.end();
    },
  };
}

function calling(tracer: Tracer, call: MadeCall): Calling | undefined {
  const { method, meta, peer } = call;
  const active = context.active();
  // The span at work knows best whose doing the call is; what travels with the call already counts where there is none.
  const parent = trace.getSpan(active) === undefined ? (remoteParent(meta ?? {}, active) ?? active) : active;
  const service = peer?.name;
  const attributes = named(service, method);
  const span = tracer.startSpan(spanName(service, method), { kind: SpanKind.CLIENT, attributes }, parent);
  const spanContext = span.spanContext();
  if (!isSpanContextValid(spanContext)) return undefined;
  return {
    meta: writeTraceContext(spanContext, meta),
    ended: (error) => {
      const { peer } = call;
      if (peer !== undefined) {
        span.setAttribute("kite.peer", formatIdentity(peer));
        // It was not known before the first connection.
        if (service === undefined) span.updateName(spanName(peer.name, method)).setAttribute("rpc.service", peer.name);
      }
      if (error !== undefined) fail(span, error, true);
      span.end();
    },
  };
}

function remoteParent(meta: MadeCall["meta"] & object, base: Context = ROOT_CONTEXT): Context | undefined {
  const remote = meta.traceparent === undefined ? undefined : readTraceContext(meta);
  return remote === undefined ? undefined : trace.setSpanContext(base, remote);
}

function named(service: string | undefined, method: string): Attributes {
  const attributes: Attributes = { "rpc.system": "kite", "rpc.method": method };
  if (service !== undefined) attributes["rpc.service"] = service;
  return attributes;
}

function spanName(service: string | undefined, method: string): string {
  return service === undefined ? method : `${service}/${method}`;
}

function fail(span: Span, { code, message, outcome }: KiteError, isFailure: boolean): void {
  span.setAttribute("error.type", code);
  if (outcome !== undefined) span.setAttribute("kite.outcome", outcome);
  if (isFailure) span.setStatus({ code: SpanStatusCode.ERROR, message });
}

// As OpenTelemetry's conventions for HTTP call a name of which there are too many to count.
const OTHER = "_OTHER";
// What was passed without a name.
const FUNCTION = "function";

/** A kite that refuses such a call has done what it should: the server's span is none to be alarmed about, the client's is. */
const CALLERS_FAULT: ReadonlySet<KiteErrorCode> = new Set<KiteErrorCode>([
  "invalid_argument",
  "method_not_found",
  "unauthenticated",
  "token_expired",
  "permission_denied",
  "not_found",
  "already_exists",
  "failed_precondition",
  "conflict",
  "cancelled",
]);
