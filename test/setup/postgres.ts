import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import pg from "pg";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** On 127.0.0.1: whoever connects is given a database of its own for as long as it stays connected. */
    databasePort: number;
  }
}

/** What a test file is told over the socket: one line of JSON. */
export type DatabaseLease = { url: string } | { error: string };

// The cluster starts in under a second; initdb on two busy cores has been seen to take five.
const START_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 10_000;

/**
 * One PostgreSQL cluster for the whole run, started when the first test file asks for a database. A database lives as
 * long as the connection that asked for it, so one that a crashed worker held is dropped like any other.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  let cluster: Promise<Cluster> | undefined;
  const open = new Set<Promise<void>>();

  const server = createServer((socket) => {
    cluster ??= startCluster();
    const lease = lend(socket, cluster).finally(() => open.delete(lease));
    open.add(lease);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  project.provide("databasePort", (server.address() as AddressInfo).port);

  return async () => {
    await closeServer(server);
    await Promise.all(open);
    await (await cluster?.catch(() => undefined))?.close();
  };
}

async function lend(socket: Socket, starting: Promise<Cluster>): Promise<void> {
  const gone = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => socket.destroy());
  socket.resume();
  try {
    const cluster = await starting;
    const name = `test_${process.pid}_${cluster.lent++}`;
    await cluster.admin.query(`create database ${name} template template0`);
    const url = new URL(cluster.url);
    url.pathname = `/${name}`;
    answer(socket, { url: url.href });
    await gone;
    // PostgreSQL waits 5 s for those who are saying goodbye: a pool that was ended may still be, and would take force for an error.
    await cluster.admin.query(`drop database ${name}`).catch(() => cluster.admin.query(`drop database ${name} with (force)`));
  } catch (cause) {
    answer(socket, { error: cause instanceof Error ? cause.message : String(cause) });
    socket.end();
  }
}

function answer(socket: Socket, lease: DatabaseLease): void {
  if (socket.writable) socket.write(`${JSON.stringify(lease)}\n`);
}

interface Cluster {
  url: string;
  admin: pg.Pool;
  lent: number;
  close(): Promise<void>;
}

/** Runs `cluster.ts` as a process of its own, which ends the server when this process is gone, however it went. */
async function startCluster(): Promise<Cluster> {
  const script = fileURLToPath(new URL("cluster.ts", import.meta.url));
  // Detached: a Ctrl-C is for the test run, which then closes the cluster; PostgreSQL itself must not get it as well.
  const child = spawn(process.execPath, ["--conditions=mesh-source", "--import", "tsx", script], {
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const started = once(lines, "line", { signal: AbortSignal.timeout(START_LIMIT_MS) });
  const [url] = (await Promise.race([
    started,
    exited.then(([code]) => Promise.reject(new Error(`the test cluster's process exited with ${code} instead of printing a url`))),
  ])) as [string];

  // A few, for a database may wait to be dropped while others are asked for.
  const admin = new pg.Pool({ connectionString: url, max: 4 });
  // Only the next query is to fail when the server goes; an unheard "error" would end the run without its report.
  admin.on("error", () => {});
  return {
    url,
    admin,
    lent: 0,
    async close() {
      await admin.end();
      child.stdin.end();
      const overdue = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
      await exited;
      clearTimeout(overdue);
    },
  };
}

async function closeServer(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}
