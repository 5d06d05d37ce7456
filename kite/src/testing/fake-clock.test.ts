import { expect, test } from "vitest";
import { callWith } from "../calling/remote.ts";
import { method } from "../method.ts";
import { connectedPair } from "../testing.ts";
import { fakeClock } from "./fake-clock.ts";

const methods = {
  slow: method({}, () => new Promise<void>(() => {})),
  after: method({}, () => new Promise<string>((resolve) => setTimeout(resolve, 30_000, "after half a minute"))),
};

test("a deadline of a minute passes when the test says so, and not before", async () => {
  using clock = fakeClock();
  await using pair = await connectedPair(methods);
  let code: string | undefined;
  const call = callWith(pair.client, { timeoutMs: 60_000 })
    .slow()
    .catch((error) => (code = error.code));

  await clock.advance(59_000);
  const before = code;
  // Deadlines are kept by the 64th.
  await clock.advance(3_000);
  await call;

  expect([before, code]).toEqual([undefined, "deadline_exceeded"]);
});

test("deadlines from before the clock, and of another one, keep no call of this one waiting", async () => {
  await using real = await connectedPair(methods);
  void real.client.slow().catch(() => {});
  await real.fence();

  for (let round = 0; round < 2; round++) {
    using clock = fakeClock();
    await using pair = await connectedPair(methods);
    let code: string | undefined;
    const call = pair.client.slow().catch((error) => (code = error.code));
    await clock.advance(62_000);
    expect(code).toBe("deadline_exceeded");
    await call;
  }
});

test("a session that is suspended ends after its grace period", async () => {
  using clock = fakeClock();
  await using pair = await connectedPair(methods, { graceMs: 30_000 });
  let code: string | undefined;
  const call = pair.client.slow().catch((error) => (code = error.code));
  await pair.fence();

  pair.block();
  pair.cut();
  await clock.advance(29_000);
  const before = code;
  await clock.advance(2_000);
  await call;

  expect([before, code]).toEqual([undefined, "disconnected"]);
});

test("timers run in their order, with their arguments, those that repeat again and again, and one that was cleared not", async () => {
  using clock = fakeClock();
  const seen: string[] = [];
  const say = (what: string) => void seen.push(`${what} at ${clock.elapsedMs}`);

  setTimeout(say, 20, "second");
  setTimeout(say, 10, "first");
  const every = setInterval(say, 15, "every");
  clearTimeout(setTimeout(say, 5, "never"));
  await clock.advance(30);
  clearInterval(every);
  await clock.advance(1_000);

  expect(seen).toEqual(["first at 10", "every at 15", "second at 20", "every at 30"]);
});

test("the time is the test's while the clock is there, and the real one afterwards", async () => {
  const real = setTimeout;
  const began = Date.now();
  {
    using clock = fakeClock();
    const monotonic = performance.now();
    await clock.advance(3_600_000);
    expect(Date.now() - began).toBeGreaterThanOrEqual(3_600_000);
    expect(new Date()).toEqual(new Date(Date.now()));
    expect(performance.now() - monotonic).toBe(3_600_000);
    expect(() => fakeClock()).toThrow(/a process has one time/);
  }

  expect(setTimeout).toBe(real);
  expect(Date.now() - began).toBeLessThan(3_600_000);
});
