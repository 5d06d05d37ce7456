import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "zod";
import { LIMITS } from "../limits.ts";
import { type Call, method } from "../method.ts";
import { serveMethods } from "../serving/serve.ts";
import { until } from "../testing.ts";
import { type MemoryLink, memoryLink } from "../transport/memory.ts";
import type { RemoteFunction } from "./callbacks.ts";
import { Peer } from "./peer.ts";
import type { RemoteStream } from "./remote-stream.ts";
import type { Session } from "./session.ts";
import { acceptor } from "./test-stranger.ts";

interface Cargo {
  readonly fn: RemoteFunction;
  readonly stream: RemoteStream<unknown>;
}

const anything = z.custom<Cargo>(() => true);

/** Functions, streams and, it may be, so many bytes that they travel in pieces; or a Blob that cannot be read. */
function cargo({ size, blob }: { size: number; blob: boolean }): unknown {
  const numbers = async function* () {
    for (let n = 0; ; n++) yield n % 7 === 0 ? { n, inner: async () => n } : n;
  };
  const unreadable = blob ? new Blob(["x".repeat(300_000)]) : undefined;
  if (unreadable !== undefined) Object.assign(unreadable, { slice: () => ({ arrayBuffer: () => Promise.reject(new Error("gone")) }) });
  return { fn: async (n: number) => n, stream: numbers(), padding: "x".repeat(size), unreadable };
}

function letGo({ fn, stream }: Cargo): void {
  fn.release();
  stream.cancel();
}

async function read({ stream, fn }: Cargo): Promise<void> {
  for await (const chunk of stream) {
    if (typeof chunk === "number") continue;
    const { n, inner } = chunk as { n: number; inner: RemoteFunction };
    await inner();
    inner.release();
    await fn(n);
    if (n > 20) break;
  }
}

function methods() {
  const work = (call: Call) => new Promise<void>((_, reject) => call.signal.addEventListener("abort", () => reject(call.signal.reason)));
  return {
    take: method({ role: "anyone", input: anything }, (given) => letGo(given)),
    read: method({ role: "anyone", input: anything }, async (given, call) => {
      call.signal.addEventListener("abort", () => letGo(given));
      await read(given).finally(() => letGo(given));
    }),
    wait: method({ role: "anyone", input: anything }, (given, call) => work(call).finally(() => letGo(given))),
    refuse: method({ role: "anyone", input: z.number() }, () => {}),
    queue: method({ role: "anyone", input: anything, concurrency: { running: 1, waiting: 2 } }, async (given) => {
      await new Promise(setImmediate);
      letGo(given);
    }),
    give: method({ role: "anyone", input: z.unknown() }, async (what) => {
      await new Promise(setImmediate);
      return cargo(what as { size: number; blob: boolean });
    }),
  };
}

const content = fc.record({
  size: fc.constantFrom(0, 0, 0, 300_000, 900_000),
  blob: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
});
const call = fc.record({
  name: fc.constantFrom("take", "read", "wait", "refuse", "queue", "give", "unknown"),
  side: fc.constantFrom("dialled" as const, "accepted" as const),
  content,
  /** After how many turns it is given up, if it is not answered before. */
  turns: fc.constantFrom(0, 1, 2, 5, 30),
});
type Step = "cut" | "turn" | (typeof call extends fc.Arbitrary<infer C> ? C : never);
const step: fc.Arbitrary<Step> = fc.oneof({ weight: 5, arbitrary: call }, fc.constant<Step>("cut"), fc.constant<Step>("turn"));

test("whatever is given up, wherever the connection is cut, nothing that was sent stays open, and the session goes on", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      await using pair = await bothWays();
      const { dialled, accepted } = pair;

      const done: Promise<void>[] = [];
      for (const each of steps) {
        if (each === "turn") await new Promise(setImmediate);
        else if (each === "cut") pair.cut();
        else done.push(giveUp(pair[each.side], each));
      }
      await Promise.all(done);

      await until(() => open(dialled) + open(accepted) === 0, 20_000);
      expect([dialled.state, accepted.state]).not.toContain("closed");
    }),
    { numRuns: 30 },
  );
}, 60_000);

/** Makes a call and lets go of what comes of it, or gives it up first. */
async function giveUp(session: Session, { name, content, turns }: Exclude<Step, string>): Promise<void> {
  const controller = new AbortController();
  const answer = session.call(name, [name === "give" ? content : cargo(content)], { signal: controller.signal });
  const done = answer.then((given) => name === "give" && letGo(given as Cargo)).catch(() => {});
  for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
  controller.abort();
  await done;
}

function open(session: Session): number {
  return Object.values(session.counts).reduce((sum, count) => sum + count, 0);
}

/** A session whose both sides serve the same. */
async function bothWays() {
  const host = acceptor(undefined, methods());
  let link: MemoryLink | undefined;
  const peer = new Peer({
    target: async () => ({ url: "memory:" }),
    dial: async () => {
      link = memoryLink();
      host.accept(link.ends[1]);
      return link.ends[0];
    },
    limits: { ...LIMITS, streamWindow: 3_000 },
    serve: serveMethods({ methods: methods() }),
    random: () => 0,
  });
  await peer.connect();
  const [accepted] = [...host.sessions] as [Session];
  const cut = () => link?.sever();
  return { dialled: peer.session, accepted, cut, [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose]() };
}
