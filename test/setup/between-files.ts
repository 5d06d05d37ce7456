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
  const changed = Object.entries(takeStock()).filter(([name, value]) => value !== found[name]);
  if (changed.length > 0)
    throw new Error(`this file leaves changed: ${changed.map(([name, value]) => `${name} (now ${value})`).join(", ")}`);
});

function takeStock(): Record<string, unknown> {
  const { fetch, queueMicrotask, setImmediate, setInterval, setTimeout } = globalThis;
  const listened = ["uncaughtException", "unhandledRejection", "warning", "SIGINT", "SIGTERM", "SIGHUP"];
  return {
    ...{ fetch, queueMicrotask, setImmediate, setInterval, setTimeout },
    Date: globalThis.Date,
    WebSocket: globalThis.WebSocket,
    "the environment": JSON.stringify(Object.entries(process.env).sort()),
    "the folder": process.cwd(),
    "the exit code": process.exitCode,
    "who listens to the process": listened.map((event) => `${event} ${process.listenerCount(event)}`).join(),
  };
}
