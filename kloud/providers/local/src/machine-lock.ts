import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/**
 * Does something with a machine while nobody else does, in this process or another. The lock is a socket name that the
 * kernel gives to one process at a time and takes back when that process ends, however it ends: nothing can be left behind.
 */
export async function withMachineLock<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const name = `\0kite-machine-${createHash("sha256").update(path).digest("hex").slice(0, 32)}`;
  const server = await acquire(name, path, signal);
  try {
    // Whoever had to wait may no longer be the one who should do this.
    signal.throwIfAborted();
    return await work();
  } finally {
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

const RETRY_MS = 20;
// Stopping a machine that does not want to end takes a quarter of this.
const LIMIT_MS = 60_000;

async function acquire(name: string, path: string, signal: AbortSignal): Promise<Server> {
  const end = performance.now() + LIMIT_MS;
  for (;;) {
    signal.throwIfAborted();
    const server = await listen(name);
    if (server !== null) return server;
    if (performance.now() > end) throw new Error(`another process has worked on ${path} for ${LIMIT_MS / 1000} s; end it, or wait`);
    await pause(RETRY_MS, undefined, { signal });
  }
}

async function listen(name: string): Promise<Server | null> {
  const server = createServer((socket) => socket.destroy());
  return await new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => (error.code === "EADDRINUSE" ? resolve(null) : reject(error)));
    server.listen(name, () => resolve(server));
  });
}
