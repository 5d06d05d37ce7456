import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { program } from "./programs.ts";

export interface KontrolProcessOptions {
  readonly databaseUrl: string;
  readonly heartbeatMs: number;
  /** 0 picks one. */
  readonly port: number;
  /** Administrators that it makes, each with a kite.key. */
  readonly people: readonly string[];
}

/** What the process says when it is up. */
export interface KontrolReady {
  readonly url: string;
  readonly keys: Readonly<Record<string, string>>;
}

// On cores that are busy with other tests.
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;

/** A kontrol in a process of its own, to be killed. Leaving its scope ends it. */
export class KontrolProcess implements AsyncDisposable {
  readonly url: string;
  readonly keys: Readonly<Record<string, string>>;
  readonly #child: ChildProcess;
  readonly #log: string[];

  private constructor(child: ChildProcess, { url, keys }: KontrolReady, log: string[]) {
    this.#child = child;
    this.url = url;
    this.keys = keys;
    this.#log = log;
  }

  static async start(options: KontrolProcessOptions): Promise<KontrolProcess> {
    const child = spawn(process.execPath, [program("kontrol-process"), JSON.stringify(options)], { stdio: ["pipe", "pipe", "pipe"] });
    const log: string[] = [];
    createInterface({ input: child.stderr }).on("line", (line) => log.push(line));
    const started = once(createInterface({ input: child.stdout }), "line", { signal: AbortSignal.timeout(START_LIMIT_MS) });
    const ended = once(child, "close").then(([code]) => Promise.reject(new Error(`kontrol ended with ${code}:\n${log.join("\n")}`)));
    try {
      const [line] = (await Promise.race([started, ended])) as [string];
      ended.catch(() => {});
      return new KontrolProcess(child, JSON.parse(line) as KontrolReady, log);
    } catch (cause) {
      child.kill("SIGKILL");
      throw cause;
    }
  }

  /** What it logged: JSON, one line each. */
  get log(): readonly string[] {
    return this.#log;
  }

  async kill9(): Promise<void> {
    if (this.#hasEnded()) return;
    const closed = once(this.#child, "close");
    this.#child.kill("SIGKILL");
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hasEnded()) return;
    const closed = once(this.#child, "close");
    this.#child.stdin?.end();
    const overdue = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT_MS);
    await closed;
    clearTimeout(overdue);
    if (this.#child.signalCode === "SIGKILL") throw new Error(`kontrol did not end in ${STOP_LIMIT_MS} ms:\n${this.#log.join("\n")}`);
  }

  #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}
