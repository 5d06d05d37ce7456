import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { KiteError } from "../errors.ts";
import { breaker, type CircuitChange } from "./breaker.ts";

beforeEach(() => void vi.useFakeTimers({ now: Date.UTC(2030, 0, 1) }));
afterEach(() => void vi.useRealTimers());

const square = { peer: "math", method: "square" };
const fail = (error: KiteError) => () => Promise.reject(error);
const down = fail(new KiteError("unavailable", "nobody answers", { outcome: "not_run" }));
const works = async () => 144;

test("a circuit opens after failures in a row, refuses without calling, and says since when and until when", async () => {
  const changes: CircuitChange[] = [];
  const guard = breaker({ failures: 3, halfOpenAfterMs: 10_000, onChange: (change) => changes.push(change) });
  for (let call = 0; call < 3; call++) await expect(guard.run(square, down)).rejects.toThrow("nobody answers");
  const work = vi.fn(works);

  await vi.advanceTimersByTimeAsync(4_000);
  const refused = guard.run(square, work);

  await expect(refused).rejects.toMatchObject({
    code: "unavailable",
    outcome: "not_run",
    reason: "circuit_open",
    message: expect.stringMatching(/square of math .* 2030-01-01T00:00:00.000Z.* 2030-01-01T00:00:10.000Z/),
    details: { retryAfterMs: 6_000 },
  });
  expect(work).not.toHaveBeenCalled();
  expect(changes).toMatchObject([{ ...square, state: "open", error: { code: "unavailable" } }]);
});

test("after its time one call tries, others are refused meanwhile, and its success closes the circuit", async () => {
  const changes: string[] = [];
  const guard = breaker({ failures: 1, halfOpenAfterMs: 1_000, onChange: ({ state }) => changes.push(state) });
  await guard.run(square, down).catch(() => {});
  await vi.advanceTimersByTimeAsync(1_000);
  const { promise, resolve } = deferred<number>();

  const trying = guard.run(square, () => promise);
  await expect(guard.run(square, works)).rejects.toMatchObject({ reason: "circuit_open" });
  resolve(144);

  expect(await trying).toBe(144);
  expect(await guard.run(square, works)).toBe(144);
  expect(changes).toEqual(["open", "closed"]);
});

test("a try that fails opens the circuit for as long again", async () => {
  const guard = breaker({ failures: 1, halfOpenAfterMs: 1_000 });
  await guard.run(square, down).catch(() => {});
  await vi.advanceTimersByTimeAsync(1_000);
  await guard.run(square, down).catch(() => {});

  await vi.advanceTimersByTimeAsync(999);
  await expect(guard.run(square, works)).rejects.toMatchObject({ details: { retryAfterMs: 1 } });
  await vi.advanceTimersByTimeAsync(1);

  expect(await guard.run(square, works)).toBe(144);
});

test("each peer and method has a circuit of its own", async () => {
  const guard = breaker({ failures: 1 });

  await guard.run(square, down).catch(() => {});

  expect(await guard.run({ ...square, method: "cube" }, works)).toBe(144);
  expect(await guard.run({ ...square, peer: "other" }, works)).toBe(144);
  await expect(guard.run(square, works)).rejects.toMatchObject({ reason: "circuit_open" });
});

test.each([
  new KiteError("not_found", "no such file"),
  new KiteError("invalid_argument", "a number was expected"),
  new KiteError("cancelled", "the caller has left"),
  new KiteError("deadline_exceeded", "no time was left", { outcome: "not_run" }),
])("$code says nothing of the kite and opens no circuit", async (error) => {
  const guard = breaker({ failures: 1 });

  await guard.run(square, fail(error)).catch(() => {});

  expect(await guard.run(square, works)).toBe(144);
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}
