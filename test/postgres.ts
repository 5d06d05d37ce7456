import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { inject } from "vitest";
import type { DatabaseLease } from "./setup/postgres.ts";

// The first file to ask waits for the cluster, which initdb makes while other workers keep the cores busy.
const LIMIT_MS = 60_000;

const held: Socket[] = [];

/**
 * The url of an empty database on the run's PostgreSQL cluster, for the calling test file alone. It is dropped, open
 * connections included, when the file is done; call it again for a second one.
 */
export async function freshDatabase(): Promise<string> {
  const socket = createConnection(inject("databasePort"), "127.0.0.1");
  // Holding the connection is what holds the database; it must not hold the worker.
  const lines = createInterface({ input: socket });
  const [line] = (await once(lines, "line", { signal: AbortSignal.timeout(LIMIT_MS) })) as [string];
  socket.unref();
  held.push(socket);
  const lease = JSON.parse(line) as DatabaseLease;
  if ("error" in lease) throw new Error(`no database for this test file: ${lease.error}`);
  return lease.url;
}

/** Drops the databases of a test file that is done. A worker that was killed has let go of them, too. */
export function returnDatabases(): void {
  for (const socket of held.splice(0)) socket.destroy();
}
