import { expect, test } from "vitest";
import { readTraceContext, writeTraceContext } from "./trace-context.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const SPAN = "b7ad6b7169203331";

test("a trace context that was read is written as it came", () => {
  const meta = { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: "vendor=a,other=b" };

  const context = readTraceContext(meta);

  expect(context).toMatchObject({ traceId: TRACE, spanId: SPAN, traceFlags: 1, isRemote: true });
  expect(context && writeTraceContext(context, { key: "order-1" })).toEqual({ key: "order-1", ...meta });
});

test("the state of another parent does not stay", () => {
  const written = writeTraceContext({ traceId: TRACE, spanId: SPAN, traceFlags: 0 }, { tracestate: "vendor=a" });

  expect(written).toEqual({ traceparent: `00-${TRACE}-${SPAN}-00`, tracestate: undefined });
});

test.each([
  ["nothing", undefined],
  ["something else", "hello"],
  ["capitals", `00-${TRACE.toUpperCase()}-${SPAN}-01`],
  ["a trace of zeros", `00-${"0".repeat(32)}-${SPAN}-01`],
  ["a span of zeros", `00-${TRACE}-${"0".repeat(16)}-01`],
  ["the version that is no version", `ff-${TRACE}-${SPAN}-01`],
  ["version 00 with more than it has", `00-${TRACE}-${SPAN}-01-more`],
  ["a later version run on", `01-${TRACE}-${SPAN}-01more`],
])("%s is no trace context", (_, traceparent) => {
  expect(readTraceContext({ traceparent })).toBeUndefined();
});

test("of a later version the part that is known is read", () => {
  expect(readTraceContext({ traceparent: `01-${TRACE}-${SPAN}-00-more` })).toMatchObject({ traceId: TRACE, traceFlags: 0 });
});
