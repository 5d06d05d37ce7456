import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { method } from "../method.ts";
import { type ConnectedPair, connectedPair, until } from "../testing.ts";
import type { RemoteFunction } from "./callbacks.ts";
import type { SessionCounts } from "./counts.ts";

const anything = z.custom<unknown>(() => true);

function served(ran: number[]) {
  return {
    once: method({ input: z.number() }, (n) => void ran.push(n)),
    later: method({ input: anything }, async (value) => {
      await new Promise(setImmediate);
      return value;
    }),
    fail: method({ input: z.string() }, (why): string => {
      throw new KiteError("conflict", why);
    }),
    count: method({ input: z.number() }, async function* (to) {
      for (let n = 0; n < to; n++) yield n;
    }),
    each: method({ input: z.tuple([z.array(z.number()), anything]) }, async ([items, fn]) => {
      for (const item of items) await (fn as RemoteFunction)(item);
      return items.length;
    }),
  };
}

type Pair = ConnectedPair<ReturnType<typeof served>>;
/** Does one thing, and makes sure that what comes of it is what was asked for. */
type Step = (pair: Pair, at: number) => Promise<void> | void;

// A property of that name is refused, which is a test of its own among the hostile ones.
const sendable = fc.jsonValue({ maxDepth: 2 }).filter((value) => !JSON.stringify(value).includes('"__proto__":'));
const call = sendable.map(
  (value): Step =>
    async ({ client }) =>
      // JSON has no negative zero.
      expect(await client.later(value)).toEqual(JSON.parse(JSON.stringify(value))),
);
const failure = fc.string().map(
  (why): Step =>
    async ({ client }) =>
      void (await expect(client.fail(why)).rejects.toMatchObject({ code: "conflict", message: why })),
);
const stream = fc.nat(60).map(
  (to): Step =>
    async ({ client }) => {
      const got: unknown[] = [];
      for await (const n of await client.count(to)) got.push(n);
      expect(got).toEqual(Array.from({ length: to }, (_, n) => n));
    },
);
const callbacks = fc.array(fc.integer(), { maxLength: 8 }).map(
  (items): Step =>
    async ({ client }) => {
      const got: number[] = [];
      expect(await client.each([items, async (item: number) => void got.push(item)])).toBe(items.length);
      expect(got).toEqual(items);
    },
);
const effect = fc.constant<Step>(async ({ client }, at) => void (await client.once(at)));
const cut = fc.constant<Step>((pair) => pair.cut());
const TURN: Step = () => new Promise((resolve) => setImmediate(resolve));

test("whatever is called at once, and wherever the connection is cut, every call gives its own answer, once, and nothing stays open", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(call, failure, stream, callbacks, effect, cut, fc.constant(TURN)), { maxLength: 25 }),
      async (steps) => {
        const ran: number[] = [];
        await using pair = await connectedPair(served(ran));

        const done: (Promise<void> | void)[] = [];
        for (const [at, step] of steps.entries()) {
          const going = step(pair, at);
          done.push(going);
          // Time passes only here: whatever stands between two of them begins in the same tick.
          if (step === TURN) await going;
        }
        await Promise.all(done);

        expect(new Set(ran).size).toBe(ran.length);
        await until(() => [pair.peer.session, ...pair.acceptor.sessions].every((session) => idle(session?.counts)));
      },
    ),
    { numRuns: 60 },
  );
}, 60_000);

function idle(counts: SessionCounts | undefined): boolean {
  return counts !== undefined && counts.calls + counts.serving + counts.sending + counts.receiving + counts.parcels === 0;
}
