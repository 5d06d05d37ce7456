import { type ContractOf, callback, callWith, method, type Observer } from "@kite-mesh/kite";
import { expect, test } from "vitest";
import { only, startTestKontrol } from "../../kontrol/src/testing.ts";
import { freshDatabase } from "../postgres.ts";

const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CALLED_BACK = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

const methods = {
  meta: method({ role: "viewer" }, ({ meta }) => meta),
  callBack: method({ role: "viewer", input: callback<() => void>() }, (onDone) => onDone()),
};

test("a trace goes on behind the relay, with a call and with what the kite there calls back", async () => {
  await using mesh = await startTestKontrol(await freshDatabase());
  const alice = await mesh.person("alice");
  const heard: unknown[] = [];
  // What `tracing()` does, without an SDK: the kite behind the relay says which span calls back, the caller hears of it.
  const telling: Observer = () => ({ invoking: () => ({ meta: { traceparent: CALLED_BACK } }) });
  const hearing: Observer = () => ({ invoked: ({ call }) => void heard.push(call.meta.traceparent) });
  const machine = alice.kite({ name: "machine", methods, observers: [telling] });
  await machine.register();
  const caller = alice.kite({ name: "caller", observers: [hearing] });
  const { url } = only(await caller.find({ name: "machine" }));
  const remote = await caller.connect<ContractOf<typeof methods>>({ name: "machine" });

  const meta = await callWith(remote, { meta: { traceparent: TRACEPARENT, tracestate: "a=1" } }).meta();
  await remote.callBack(() => {});

  expect(url).toContain("/relay/");
  expect(meta).toEqual({ traceparent: TRACEPARENT, tracestate: "a=1" });
  expect(heard).toEqual([CALLED_BACK]);
});
