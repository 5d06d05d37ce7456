import { afterAll, vi } from "vitest";

// What is waited for comes when it comes: vitest's second is not enough for a database or a process on a machine that others use,
// and a test that passes waits no longer for it.
const LONG_MS = 15_000;
const { waitFor } = vi;

vi.waitFor = (callback, options) => {
  const { timeout = LONG_MS, ...more } = typeof options === "number" ? { timeout: options } : (options ?? {});
  return waitFor(callback, { timeout, ...more });
};
// The next file in this process is made patient anew.
afterAll(() => {
  vi.waitFor = waitFor;
});
