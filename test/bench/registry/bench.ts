import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { type Postgres, startPostgres } from "../../../deploy/local/src/postgres.ts";
import { EtcdServer } from "./etcd-server.ts";
import type { Outcome } from "./outcome.ts";
import { cpuUs } from "./usage.ts";
import { Worker } from "./worker.ts";

export interface BenchOptions {
  /** What the processes run. */
  readonly program: string;
  readonly profileFolder: string | undefined;
  /** How long one measurement lasts. */
  readonly forMs: number;
  /** How many kites are registered, and watchers there, where that is what is measured. */
  readonly kites: number;
  readonly watchers: number;
  readonly withEtcd: boolean;
  /** A PostgreSQL that somebody else runs. Default: one from npm, with its own settings, on a folder of its own. */
  readonly postgresUrl: string | undefined;
}

/** One side of something that is measured. */
export interface Contender {
  readonly what: string;
  readonly side: string;
  /** Whose processor time is counted. */
  readonly pids: { readonly server: readonly number[]; readonly database?: readonly number[]; readonly clients: readonly number[] };
  measure(): Promise<Outcome>;
  /** Undoes what would be in the way of the next one, and is not measured. */
  tidy?(): Promise<unknown>;
}

/** A story that is told by both sides, each with servers and clients in processes of their own. */
export interface Scenario {
  readonly name: string;
  open(bench: Bench): Promise<readonly Contender[]>;
}

/** A kontrol in a process of its own, with a service that may do everything. */
export interface BenchKontrol {
  readonly worker: Worker;
  readonly url: string;
  readonly kiteKey: string;
  readonly databaseUrl: string;
  readonly pids: { readonly server: readonly number[]; readonly database: readonly number[] };
}

/** What scenarios start. What one of them opened is closed with {@link closeScenario}; the rest by whoever started it. */
export class Bench implements AsyncDisposable {
  static async start(options: BenchOptions): Promise<Bench> {
    const folder = await mkdtemp(path.join(os.tmpdir(), "kite-bench-"));
    try {
      const dataDir = path.join(folder, "postgres");
      const postgres = await startPostgres({ dataDir, url: options.postgresUrl });
      const database =
        options.postgresUrl === undefined ? [Number.parseInt(await readFile(path.join(dataDir, "postmaster.pid"), "utf8"), 10)] : [];
      return new Bench(options, folder, postgres, database);
    } catch (cause) {
      await rm(folder, { recursive: true, force: true });
      throw cause;
    }
  }

  readonly options: BenchOptions;
  readonly #folder: string;
  readonly #postgres: Postgres;
  readonly #databasePids: readonly number[];
  readonly #opened: { close(): Promise<void> }[] = [];
  #named = 0;

  private constructor(options: BenchOptions, folder: string, postgres: Postgres, databasePids: readonly number[]) {
    this.options = options;
    this.#folder = folder;
    this.#postgres = postgres;
    this.#databasePids = databasePids;
  }

  /** For people: which servers are measured. */
  get describe(): string {
    return this.#postgres.describe;
  }

  worker(name: string): Worker {
    const { program, profileFolder } = this.options;
    return this.closing(new Worker(program, profileFolder && path.join(profileFolder, name)));
  }

  closing<T extends { close(): Promise<void> }>(resource: T): T {
    this.#opened.push(resource);
    return resource;
  }

  async database(): Promise<string> {
    return this.#postgres.createDatabase(`bench_${process.pid}_${this.#named++}`);
  }

  /** Starts a kontrol on a database of its own, unless one is given. */
  async kontrol(name: string, given: { databaseUrl?: string; heartbeatMs?: number } = {}): Promise<BenchKontrol> {
    const databaseUrl = given.databaseUrl ?? (await this.database());
    const worker = this.worker(`${name}-kontrol`);
    const { url, kiteKey } = await worker.ask("startKontrol", { databaseUrl, heartbeatMs: given.heartbeatMs });
    return { worker, url, kiteKey, databaseUrl, pids: { server: [worker.pid], database: this.#databasePids } };
  }

  etcd(): Promise<EtcdServer> {
    return EtcdServer.start(path.join(this.#folder, `etcd-${this.#named++}`)).then((server) => this.closing(server));
  }

  /** Measures once, with the processor time of each process per call. */
  async measure({ pids, measure, tidy }: Contender): Promise<Outcome> {
    const { server, database = [], clients } = pids;
    const used = () => Promise.all([cpuUs(server), cpuUs(database), cpuUs(clients)]);
    const before = await used();
    const outcome = await measure();
    const [ofServer = 0, ofDatabase = 0, ofClients = 0] = (await used()).map(
      (after, index) => (after - (before[index] ?? 0)) / outcome.calls,
    );
    await tidy?.();
    return { ...outcome, cpuUs: { server: ofServer, ...(database.length > 0 ? { database: ofDatabase } : {}), clients: ofClients } };
  }

  async closeScenario(): Promise<void> {
    for (const resource of this.#opened.splice(0).reverse()) await resource.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.closeScenario();
    await this.#postgres.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
