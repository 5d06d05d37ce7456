import { expect, test } from "vitest";
import { z } from "zod";
import { KiteError } from "../errors.ts";
import { method } from "../method.ts";
import { connectedPair } from "../testing.ts";
import type { ServedCall } from "./served-call.ts";
import { testCall } from "./test-call.ts";
import { Throttle } from "./throttle.ts";

test("a caller who has used up its calls is refused, and told when to come back", () => {
  const clock = { now: 0 };
  const throttle = new Throttle({ calls: 2, perMs: 1_000 }, () => clock.now);
  throttle.take(callOf("alice"));
  throttle.take(callOf("alice"));

  const refused = thrownBy(() => throttle.take(callOf("alice")));
  clock.now += Number(refused.details?.["retryAfterMs"]);

  expect(refused).toMatchObject({ code: "overloaded", outcome: "not_run", details: { retryAfterMs: 500 } });
  expect(refused.message).toMatch(/^The maximum request rate is exceeded\. /);
  throttle.take(callOf("alice"));
  expect(thrownBy(() => throttle.take(callOf("alice")))).toMatchObject({ code: "overloaded" });
});

test("over a long time a caller gets exactly the rate, and never more than the burst at once", () => {
  const clock = { now: 0 };
  const throttle = new Throttle({ calls: 10, perMs: 1_000, burst: 3 }, () => clock.now);
  const taken: number[] = [];

  for (; clock.now < 60_000; clock.now += 7) if (takes(throttle, "alice")) taken.push(clock.now);

  expect(taken.filter((at) => at === 0)).toHaveLength(1);
  expect(taken.length).toBeGreaterThanOrEqual(600);
  expect(taken.length).toBeLessThanOrEqual(603);
});

test("a caller's bucket is its own, and a stranger's is its session's", () => {
  const throttle = new Throttle({ calls: 1, perMs: 1_000 }, () => 0);

  expect(takes(throttle, "alice", "s1")).toBe(true);
  expect(takes(throttle, "alice", "s2")).toBe(false);
  expect(takes(throttle, "bob", "s1")).toBe(true);
  expect(takes(throttle, undefined, "s1")).toBe(true);
  expect(takes(throttle, undefined, "s1")).toBe(false);
  expect(takes(throttle, undefined, "s2")).toBe(true);
});

test("callers without number do not fill the memory, and one who is refused is not forgotten for the others", () => {
  const throttle = new Throttle({ calls: 1, perMs: 60_000 }, () => 0);

  for (let index = 0; index < 15_000; index++) takes(throttle, `user-${index}`);

  expect(throttle.size).toBe(10_000);
  expect(takes(throttle, "user-14999")).toBe(false);
});

test.each([
  { calls: 0, perMs: 1_000 },
  { calls: 1, perMs: 0 },
  { calls: 1, perMs: 1, burst: 0 },
  { calls: Number.NaN, perMs: 1 },
])("a throttle that lets nothing through, or everything, fails when it is made: %j", (options) => {
  expect(thrownBy(() => new Throttle(options))).toMatchObject({ code: "invalid_argument" });
});

test("a throttled method answers the caller with overloaded, and the other methods go on", async () => {
  const served = { role: "viewer", input: z.number() } as const;
  await using pair = await connectedPair({
    rare: method({ ...served, throttle: { calls: 1, perMs: 3_600_000 } }, (n) => n),
    common: method(served, (n) => n),
  });

  expect(await pair.client.rare(1)).toBe(1);
  await expect(pair.client.rare(2)).rejects.toMatchObject({ code: "overloaded", outcome: "not_run" });
  expect(await pair.client.common(3)).toBe(3);
});

function callOf(username: string | undefined, session?: string): ServedCall {
  const caller = username === undefined ? { username: "anonymous", role: undefined } : { username };
  return testCall({ method: "square", caller, ...(session === undefined ? {} : { session }) });
}

function takes(throttle: Throttle, username: string | undefined, session?: string): boolean {
  try {
    throttle.take(callOf(username, session));
    return true;
  } catch (thrown) {
    if (KiteError.from(thrown).code === "overloaded") return false;
    throw thrown;
  }
}

function thrownBy(work: () => unknown): KiteError {
  try {
    work();
  } catch (thrown) {
    return KiteError.from(thrown);
  }
  throw new Error("nothing was thrown");
}
