import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { KiteError } from "../errors.ts";
import { type Ending, keepRenewed, type RenewalOptions } from "./renewal.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("a new credential is shown after two thirds of the old one's life, and so on with each that follows", async () => {
  const { stop, shown } = renewing(60_000);

  await vi.advanceTimersByTimeAsync(39_000);
  expect(shown).toEqual([]);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(shown).toEqual(["key 1"]);
  await vi.advanceTimersByTimeAsync(40_000);

  expect(shown).toEqual(["key 1", "key 2"]);
  stop();
});

test.each([
  ["never ends", undefined, 365 * 86_400_000],
  // More than a timer holds: it would fire at once.
  ["ends in ten years", 10 * 365 * 86_400_000, 86_400_000],
])("a credential that %s is left alone", async (_, lifeMs, passingMs) => {
  const { stop, shown } = renewing(lifeMs);

  await vi.advanceTimersByTimeAsync(passingMs);

  expect(shown).toEqual([]);
  stop();
});

test("credentials that have ended when they come, as by a clock that is wrong, are renewed once a second and no oftener", async () => {
  const { stop, shown } = renewing(-3_600_000);

  await vi.advanceTimersByTimeAsync(10_000);

  expect(shown).toHaveLength(10);
  stop();
});

test.each(["obtained", "shown"])("a credential that cannot be %s is tried again every fifteen seconds, until one is", async (at) => {
  let away = true;
  const fail = async () => {
    if (away) throw new KiteError("unavailable", "kontrol is away");
  };
  const warn = vi.fn();
  const { stop, shown, ended } = renewing(60_000, {
    ...(at === "obtained" ? { beforeObtain: fail } : { beforeShow: fail }),
    log: { debug() {}, info() {}, warn, error() {} },
  });

  await vi.advanceTimersByTimeAsync(40_000 + 4 * 15_000);
  expect([shown.length, warn.mock.calls.length]).toEqual([0, 5]);
  away = false;
  await vi.advanceTimersByTimeAsync(15_000);

  expect(shown).toHaveLength(1);
  expect(ended).not.toHaveBeenCalled();
  stop();
});

test("when whoever it was for has left, that is said once the credential has ended, and no earlier", async () => {
  const { ended } = renewing(60_000, {
    beforeObtain: () => Promise.reject(new KiteError("not_found", "math has left")),
  });

  await vi.advanceTimersByTimeAsync(59_000);
  expect(ended).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(60_000);

  expect(ended).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: "not_found" }));
  expect(vi.getTimerCount()).toBe(0);
});

test("what is under way when it is stopped comes to nothing, and leaves no timer", async () => {
  let arrive: () => void = () => {};
  const { stop, shown, ended } = renewing(60_000, { beforeObtain: () => new Promise((resolve) => (arrive = resolve)) });
  await vi.advanceTimersByTimeAsync(41_000);

  stop();
  arrive();
  await vi.advanceTimersByTimeAsync(600_000);

  expect(shown).toEqual([]);
  expect(ended).not.toHaveBeenCalled();
  expect(vi.getTimerCount()).toBe(0);
});

test("one that is stopped while the peer looks at the credential does not go on with it", async () => {
  let accept: () => void = () => {};
  const { stop, shown } = renewing(60_000, { beforeShow: () => new Promise((resolve) => (accept = resolve)) });
  await vi.advanceTimersByTimeAsync(41_000);

  stop();
  accept();
  await vi.advanceTimersByTimeAsync(600_000);

  expect(shown).toEqual(["key 1"]);
  expect(vi.getTimerCount()).toBe(0);
});

interface Credential extends Ending {
  readonly key: string;
}

interface Steps extends Pick<RenewalOptions<Credential>, "log"> {
  beforeObtain?: () => Promise<void>;
  beforeShow?: () => Promise<void>;
}

/** Credentials that live as long as the first one. */
function renewing(lifeMs: number | undefined, { beforeObtain, beforeShow, log }: Steps = {}) {
  const shown: string[] = [];
  let issued = 0;
  const next = (): Credential => ({ key: `key ${issued++}`, expiresAt: lifeMs === undefined ? undefined : Date.now() + lifeMs });
  const ended = vi.fn();
  const stop = keepRenewed(next(), {
    obtain: async () => {
      await beforeObtain?.();
      return next();
    },
    show: async ({ key }) => {
      await beforeShow?.();
      shown.push(key);
    },
    ended,
    log,
  });
  return { stop, shown, ended };
}
