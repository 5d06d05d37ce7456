import { expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { silent } from "../log.ts";
import { type CallMeta, method } from "../method.ts";
import { watchKite } from "../observe.ts";
import { serveMethods } from "../serving/serve.ts";
import { testCaller, testIdentity, until } from "../testing.ts";
import { Acceptor } from "./acceptor.ts";
import { greet } from "./test-stranger.ts";

// What only describes a call must neither stop it nor reach its method as something else than a text.
const LONGEST = "x".repeat(512);

test.each<[what: string, sent: unknown, seen: CallMeta]>([
  ["a number", { traceparent: 7, tracestate: "a=1" }, { tracestate: "a=1" }],
  ["an object", { traceparent: { a: 1 }, tracestate: ["a=1"] }, {}],
  ["null", { traceparent: null, tracestate: null }, {}],
  ["a text that is too long", { traceparent: `${LONGEST}x`, tracestate: `${LONGEST}x` }, {}],
  ["a text of 512 characters", { traceparent: LONGEST, tracestate: LONGEST }, { traceparent: LONGEST, tracestate: LONGEST }],
  ["what nobody knows", { traceparent: "00-1", baggage: "b=2" }, { traceparent: "00-1" }],
  ["a text in place of all of it", "00-1", {}],
])("a trace that is %s is left out where it is none, and what it came with runs", async (_, sent, seen) => {
  const metas: CallMeta[] = [];
  const identity = testIdentity();
  const invoked = ({ call }: { call: { meta: CallMeta } }) => void metas.push(call.meta);
  const host = new Acceptor({
    limits: LIMITS,
    authenticate: async () => testCaller(),
    serve: serveMethods({
      methods: {
        give: method(
          {},
          ({ meta }) =>
            () =>
              metas.push(meta),
        ),
      },
    }),
    watch: watchKite({ identity, sessions: () => [] }, [() => ({ invoked })], silent),
  });
  const peer = await greet(host);

  peer.send(`[1,0,[0,1,"give",[],60000,${JSON.stringify(sent)}]]`);
  await until(() => peer.heard().includes('[1,1,{"$":["f",1]}]'));
  peer.send(`[2,1,[5,2,1,[],${JSON.stringify(sent)}]]`);
  await until(() => /\[1,2,2\]/.test(peer.heard()));

  expect(metas.map(({ key, traceparent, tracestate, ...more }) => more)).toEqual([{}, {}]);
  expect(metas).toEqual([seen, seen]);
  host.close(new KiteError("disconnected", "the test is over"));
});
