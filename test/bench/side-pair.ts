import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type Place, place } from "./cpus.ts";
import type { Measured } from "./in-flight.ts";
import type { Large, Memory, Request, Response } from "./process.ts";
import type { Workload } from "./side.ts";
import type { SideName } from "./sides.ts";

// A measurement lasts a second or two; a process that is silent for this long hangs.
const ANSWER_LIMIT_MS = 60_000;

/** The server and the client of one side, each in its own process, idle until measured. */
export class SidePair {
  static async start(side: SideName, program: string, profileFolder: string | undefined): Promise<SidePair> {
    const server = launch(program, profileFolder && `${profileFolder}/${side}-server`);
    const client = launch(program, profileFolder && `${profileFolder}/${side}-client`);
    try {
      const { address } = await ask<{ address: string }>(server, { do: "serve", side });
      const { workloads } = await ask<{ workloads: Workload[] }>(client, { do: "connect", side, address });
      return new SidePair(side, address, workloads, server, client);
    } catch (cause) {
      await Promise.all([stop(client), stop(server)]);
      throw cause;
    }
  }

  readonly side: SideName;
  readonly workloads: readonly Workload[];
  readonly #address: string;
  readonly #server: ChildProcess;
  readonly #client: ChildProcess;

  private constructor(side: SideName, address: string, workloads: readonly Workload[], server: ChildProcess, client: ChildProcess) {
    this.side = side;
    this.workloads = workloads;
    this.#address = address;
    this.#server = server;
    this.#client = client;
  }

  async measure(what: { workload: Workload; inFlight: number; forMs: number }): Promise<Measured & { cpuUsPerCall: number }> {
    this.#place(what.inFlight === 1 && what.workload !== "stream" ? "together" : "apart");
    const before = await this.#cpuUs();
    const measured = await ask<Measured>(this.#client, { do: "measure", ...what });
    return { ...measured, cpuUsPerCall: ((await this.#cpuUs()) - before) / measured.calls };
  }

  #place(where: Place): void {
    const [client, server] = [this.#client.pid, this.#server.pid];
    if (client !== undefined && server !== undefined) place(client, server, where);
  }

  /** Of both processes together. Other programs on the machine stretch a call's time, but hardly its work. */
  async #cpuUs(): Promise<number> {
    const used = await Promise.all([this.#client, this.#server].map((child) => ask<{ cpuUs: number }>(child, { do: "cpu" })));
    return used.reduce((sum, { cpuUs }) => sum + cpuUs, 0);
  }

  /** Bytes that the server keeps for each of so many idle connections. */
  async idleSession(count: number): Promise<Memory> {
    // The first ones also bring what is made once.
    await this.#open(count / 10);
    const before = await ask<Memory>(this.#server, { do: "memory" });
    await this.#open(count);
    const after = await ask<Memory>(this.#server, { do: "memory" });
    return { heap: (after.heap - before.heap) / count, rss: (after.rss - before.rss) / count };
  }

  /** By how many bytes client and server together have grown after so many calls with a new function each. */
  async churn(count: number): Promise<number> {
    const warm = { do: "churn", count: count / 10 } as const;
    await ask(this.#client, warm);
    const before = await this.#heap();
    await ask(this.#client, { do: "churn", count });
    return (await this.#heap()) - before;
  }

  large(bytes: number): Promise<Large> {
    this.#place("anywhere");
    return ask<Large>(this.#client, { do: "large", bytes });
  }

  async #open(count: number): Promise<void> {
    await ask(this.#client, { do: "open", side: this.side, address: this.#address, count });
  }

  async #heap(): Promise<number> {
    const both = await Promise.all([this.#client, this.#server].map((child) => ask<Memory>(child, { do: "memory" })));
    return both.reduce((sum, { heap }) => sum + heap, 0);
  }

  async close(): Promise<void> {
    await stop(this.#client);
    await stop(this.#server);
  }
}

function launch(program: string, profileFolder: string | undefined): ChildProcess {
  return fork(program, { execArgv: ["--expose-gc", ...(profileFolder ? ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`] : [])] });
}

async function ask<R extends Response>(child: ChildProcess, request: Request): Promise<R> {
  const settled = new AbortController();
  const signal = AbortSignal.any([settled.signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]);
  child.send(request);
  try {
    const died = once(child, "exit", { signal }).then(([code]) =>
      Promise.reject(new Error(`the process asked to ${request.do} exited with ${code}`)),
    );
    const [response] = (await Promise.race([once(child, "message", { signal }), died])) as [Response];
    if ("error" in response) throw new Error(response.error);
    return response as R;
  } finally {
    settled.abort();
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.disconnect();
  const overdue = setTimeout(() => child.kill("SIGKILL"), 5000);
  await exited;
  clearTimeout(overdue);
}
