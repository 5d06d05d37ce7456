import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type Postgres, startPostgres } from "../deploy/local/src/postgres.ts";
import { findServer } from "../deploy/local/src/postgres-pid.ts";

/**
 * A PostgreSQL of a test's own, to be stopped in every way that real ones stop. Leaving its scope ends it and removes its data.
 *
 * @example
 * await using server = await startPostgresServer();
 * await server.freeze();
 */
export async function startPostgresServer(): Promise<PostgresServer> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "kite-server-"));
  const server = new PostgresServer(folder);
  try {
    await server.start();
    return server;
  } catch (cause) {
    await server[Symbol.asyncDispose]();
    throw cause;
  }
}

export class PostgresServer implements AsyncDisposable {
  readonly #folder: string;
  #running: Postgres | undefined;
  /** What stands still: the postmaster first. */
  #frozen: number[] = [];

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Starts it, again on the same data; the url stays the same. */
  async start(): Promise<void> {
    this.#running = await startPostgres({ dataDir: this.#dataDir });
  }

  createDatabase(name: string): Promise<string> {
    if (this.#running === undefined) throw new Error("the server is stopped: start it first");
    return this.#running.createDatabase(name);
  }

  /** Immediate shutdown: every connection breaks, nothing is written any more, and the next start recovers. */
  async stopHard(): Promise<void> {
    process.kill(await this.#postmaster(), "SIGQUIT");
    await this.#running?.close();
    this.#running = undefined;
  }

  /** Every process of it stands still, as on a machine that is paused: connections stay open, and nothing answers. */
  async freeze(): Promise<void> {
    const postmaster = await this.#postmaster();
    process.kill(postmaster, "SIGSTOP");
    this.#frozen = [postmaster, ...(await childrenOf(postmaster))];
    for (const pid of this.#frozen) signal(pid, "SIGSTOP");
  }

  thaw(): void {
    for (const pid of this.#frozen.splice(0).reverse()) signal(pid, "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.thaw();
    await this.#running?.close();
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  get #dataDir(): string {
    return path.join(this.#folder, "data");
  }

  async #postmaster(): Promise<number> {
    const found = await findServer(this.#dataDir);
    if (found === null) throw new Error("the server is not running");
    return found.pid;
  }
}

async function childrenOf(parent: number): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const isChild = async (pid: number) => {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    // The name stands in brackets and may contain anything; behind it come the state and the parent.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent;
  };
  const found = await Promise.all(pids.map(async (pid) => ((await isChild(pid)) ? [pid] : [])));
  return found.flat();
}

/** A backend may end between the look and the signal. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause;
  }
}
