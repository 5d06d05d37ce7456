import { afterAll, vi } from "vitest";

// Test files share processes: to start one for each file was a quarter of the work of a whole run. A file has modules of its own all
// the same, and what else it leaves changed makes it fail, and not one that happens to come after it.
vi.resetModules();
const { returnDatabases } = await import("../postgres.ts");
const found = takeStock();

afterAll(() => {
  returnDatabases();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
  const left = takeStock();
  const changed = Object.keys({ ...found, ...left }).filter((name) => left[name] !== found[name]);
  // By name alone: a variable may hold a credential.
  if (changed.length > 0) throw new Error(`this file leaves changed: ${changed.join(", ")}`);
});

function takeStock(): Record<string, unknown> {
  const { fetch, queueMicrotask, setImmediate, setInterval, setTimeout } = globalThis;
  const events = ["uncaughtException", "unhandledRejection", "warning", "SIGINT", "SIGTERM", "SIGHUP"];
  return {
    ...{ fetch, queueMicrotask, setImmediate, setInterval, setTimeout },
    Date: globalThis.Date,
    WebSocket: globalThis.WebSocket,
    "the folder": process.cwd(),
    "the exit code": process.exitCode,
    ...Object.fromEntries(events.map((event) => [`who listens to ${event}`, process.listenerCount(event)])),
    ...Object.fromEntries(Object.entries(process.env).map(([name, value]) => [`the variable ${name}`, value])),
  };
}
