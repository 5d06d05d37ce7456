import { expect, test } from "vitest";
import type { KiteError } from "../errors.ts";
import { LIMITS } from "../limits.ts";
import { method } from "../method.ts";
import { serveMethods } from "../serving/serve.ts";
import { until } from "../testing.ts";
import { memoryLink } from "../transport/memory.ts";
import type { RemoteFunction } from "./callbacks.ts";
import { Peer } from "./peer.ts";
import type { RemoteStream } from "./remote-stream.ts";
import type { Session } from "./session.ts";
import { acceptor } from "./test-stranger.ts";

type Side = "the dialler" | "the acceptor";

test.each<[side: Side, how: string, padding: number]>([
  ["the dialler", "in one frame", 0],
  ["the acceptor", "in one frame", 0],
  ["the dialler", "in pieces", 300 * 1024],
  ["the acceptor", "in pieces", 300 * 1024],
])("%s lets streams and functions go that come %s with the result of a call that was cancelled", async (side, _, padding) => {
  await using pair = await bothWays(padding);
  const { caller, callee } = pair.of(side);
  const controller = new AbortController();
  const call = caller.call("give", [], { signal: controller.signal });
  await until(() => pair.work.length === 1);
  controller.abort();
  await expect(call).rejects.toMatchObject({ code: "cancelled" });
  // Else a result in pieces would be given up on its way.
  await fence(caller);

  pair.answer();
  await until(() => callee.counts.serving === 0 && callee.counts.sending === 0 && callee.counts.exported === 0);

  expect(caller.counts).toMatchObject({ receiving: 0, imported: 0, calls: 0, parcels: 0 });
});

test("a function that is held from an earlier result goes on when a late one brings it once more", async () => {
  await using pair = await bothWays();
  const { caller, callee } = pair.of("the dialler");
  const first = caller.call("give", []);
  await until(() => pair.work.length === 1);
  pair.answer();
  const { fn, stream } = (await first) as { fn: RemoteFunction; stream: RemoteStream<number> };
  stream.cancel();
  const controller = new AbortController();
  const second = caller.call("give", [], { signal: controller.signal }).catch((error: KiteError) => error.code);
  await until(() => pair.work.length === 1);

  controller.abort();
  pair.answer();
  await until(() => callee.counts.serving === 0 && callee.counts.sending === 0);

  expect([await second, await fn(), callee.counts.exported]).toEqual(["cancelled", "here", 1]);
  fn.release();
  await fence(caller);
  expect(callee.counts.exported).toBe(0);
});

/** Two sides that serve the same: `give` answers when the test says so, whether somebody waits or not, with what lives in the session. */
async function bothWays(padding = 0) {
  const work: (() => void)[] = [];
  const fn = async () => "here";
  const numbers = async function* () {
    for (let n = 0; ; n++) yield n;
  };
  const give = method({ role: "anyone" }, async () => {
    await new Promise<void>((resolve) => work.push(resolve));
    return { fn, stream: numbers(), padding: "x".repeat(padding) };
  });
  const host = acceptor(undefined, { give });
  const peer = new Peer({
    target: async () => ({ url: "memory:" }),
    dial: async () => {
      const [here, there] = memoryLink().ends;
      host.accept(there);
      return here;
    },
    limits: LIMITS,
    serve: serveMethods({ methods: { give } }),
  });
  await peer.connect();
  const [accepted] = [...host.sessions] as [Session];
  return {
    work,
    answer: () => {
      for (const finish of work.splice(0)) finish();
    },
    of: (caller: Side) =>
      caller === "the dialler" ? { caller: peer.session, callee: accepted } : { caller: accepted, callee: peer.session },
    [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
  };
}

async function fence(session: Session): Promise<void> {
  await session.call("kite.fence", []).catch(() => {});
}
