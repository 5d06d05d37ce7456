import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { connect, type NatsConnection } from "nats";
import { until } from "../testing.ts";

export interface TestNatsOptions {
  /** Bytes in one message; NATS's default is 1 MiB. */
  readonly maxPayload?: number;
  /** Default true. */
  readonly jetstream?: boolean;
  /** Further lines of its configuration. */
  readonly config?: string;
}

/** A nats-server on a port of its own, that can be killed and started again. Whoever started it disposes it. */
export class TestNatsServer implements AsyncDisposable {
  readonly #program: string;
  readonly #folder: string;
  readonly #options: TestNatsOptions;
  #port = -1;
  #child: ChildProcess | undefined;
  readonly #connections: NatsConnection[] = [];

  static async start(program: string, options: TestNatsOptions = {}): Promise<TestNatsServer> {
    const server = new TestNatsServer(program, await mkdtemp(path.join(tmpdir(), "kite-nats-")), options);
    await server.start();
    return server;
  }

  private constructor(program: string, folder: string, options: TestNatsOptions) {
    this.#program = program;
    this.#folder = folder;
    this.#options = options;
  }

  get url(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** A connection that is closed with the server. It comes back soon after the server does. */
  async connect(options: { user?: string; pass?: string } = {}): Promise<NatsConnection> {
    const connection = await connect({
      servers: `127.0.0.1:${this.#port}`,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
      reconnectJitter: 0,
      ...options,
    });
    this.#connections.push(connection);
    return connection;
  }

  async start(): Promise<void> {
    const { maxPayload = 1024 * 1024, jetstream: stores = true, config = "" } = this.#options;
    const file = path.join(this.#folder, "nats.conf");
    const jetstream = !stores ? "" : `jetstream { store_dir: ${JSON.stringify(path.join(this.#folder, "store"))} }`;
    const lines = [`listen: "127.0.0.1:${this.#port}"`, `ports_file_dir: ${JSON.stringify(this.#folder)}`, `max_payload: ${maxPayload}`];
    await writeFile(file, [...lines, jetstream, config].join("\n"));
    const child = spawn(this.#program, ["--config", file], { stdio: "ignore" });
    this.#child = child;
    const ports = path.join(this.#folder, `nats-server_${child.pid}.ports`);
    let url: string | undefined;
    await until(() => {
      if (child.exitCode !== null) throw new Error(`nats-server ended with ${child.exitCode}`);
      void readFile(ports, "utf8")
        .then((text) => (url = (JSON.parse(text) as { nats: string[] }).nats[0]))
        .catch(() => {}); // not there yet, or half written
      return url !== undefined;
    }, LIMIT_MS);
    this.#port = Number(new URL(url ?? "").port);
  }

  /** As a power cut does it. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()));
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

// It starts in a tenth of a second; a busy machine of a CI needs longer.
const LIMIT_MS = 20_000;
