import { expect, test } from "vitest";
import { metaWithin } from "./call-meta.ts";

const outer = { key: "order-1", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "a=1" };

test("a call that is made for another one carries its trace, and not its key", () => {
  expect(metaWithin(undefined, outer)).toEqual({ traceparent: outer.traceparent, tracestate: "a=1" });
  expect(metaWithin({ key: "order-2" }, outer)).toEqual({ key: "order-2", traceparent: outer.traceparent, tracestate: "a=1" });
});

test("a trace of its own stays, whole", () => {
  const own = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00" };

  expect(metaWithin(own, outer)).toBe(own);
});

test("where no trace came in, nothing is added", () => {
  expect(metaWithin(undefined, { key: "order-1", tracestate: "a=1" })).toBeUndefined();
});
