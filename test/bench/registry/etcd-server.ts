import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../nats-server.ts";

const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 10_000;

/** An etcd of one member with its own settings for everything, so also for when it waits for the disk. Whoever started it closes it. */
export class EtcdServer {
  static async start(folder: string): Promise<EtcdServer> {
    const server = new EtcdServer(folder, await freePort(), await freePort());
    await server.#launch();
    return server;
  }

  readonly address: string;
  readonly #folder: string;
  readonly #peer: string;
  #child: ChildProcess | undefined;

  private constructor(folder: string, port: number, peerPort: number) {
    this.#folder = folder;
    this.address = `http://127.0.0.1:${port}`;
    this.#peer = `http://127.0.0.1:${peerPort}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Stops it, and starts it on the same files; answers with how long the start took, in milliseconds. */
  async restart(): Promise<number> {
    await this.close();
    return this.#launch();
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill();
    const overdue = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
    await exited;
    clearTimeout(overdue);
  }

  async #launch(): Promise<number> {
    const startedAt = performance.now();
    const { address } = this;
    const client = ["--listen-client-urls", address, "--advertise-client-urls", address];
    const peer = ["--listen-peer-urls", this.#peer, "--initial-advertise-peer-urls", this.#peer];
    const options = ["--data-dir", this.#folder, ...client, ...peer, "--initial-cluster", `default=${this.#peer}`, "--log-level", "error"];
    const child = spawn("etcd", options, { stdio: "ignore" });
    this.#child = child;
    const failed = new Promise<never>((_, reject) => {
      child.once("error", () => reject(new Error("etcd is not installed (Debian: etcd-server); leave it out with --without-etcd")));
    });
    await Promise.race([failed, this.#untilReady(startedAt + START_LIMIT_MS)]);
    return performance.now() - startedAt;
  }

  async #untilReady(deadline: number): Promise<void> {
    while (performance.now() < deadline) {
      const health = await fetch(`${this.address}/health`).then(
        async (response) => ((await response.json()) as { health: string }).health,
        () => "not yet",
      );
      if (health === "true") return;
      await pause(10);
    }
    throw new Error(`etcd did not answer within ${START_LIMIT_MS} ms`);
  }
}
