import { expect, test } from "vitest";
import { Kite } from "../kite.ts";
import { type CallMeta, method } from "../method.ts";
import { testCaller } from "../testing.ts";
import { metaWithin } from "./call-meta.ts";
import { callWith } from "./remote.ts";

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

test("a trace goes through a kite that knows nothing of traces, and not into the next call", async () => {
  interface Last {
    meta(): Promise<CallMeta>;
  }
  const common = { version: "1.0.0", authenticate: async () => testCaller() };
  await using last = new Kite({ name: "last", ...common, methods: { meta: method({ role: "viewer" }, (call) => call.meta) } });
  const address = await last.listen();
  const through = method({ role: "viewer" }, async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return toLast.meta();
  });
  await using middle: Kite = new Kite({ name: "middle", ...common, methods: { through } });
  const toLast = middle.dial<Last>(address);
  await using first = new Kite({ name: "first", version: "1.0.0" });
  const toMiddle = first.dial<{ through(): Promise<CallMeta> }>(await middle.listen());

  const [traced, plain] = await Promise.all([callWith(toMiddle, { meta: outer }).through(), toMiddle.through()]);

  expect(traced).toEqual({ traceparent: outer.traceparent, tracestate: "a=1" });
  expect(plain).toEqual({});
});
