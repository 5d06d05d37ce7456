import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Request, Response } from "./process.ts";
import type { TaskName, Tasks } from "./tasks.ts";

// The longest task fills 100,000 keys into a server; a process that is silent for this long hangs.
const ANSWER_LIMIT_MS = 180_000;
const STOP_LIMIT_MS = 10_000;

/** A process of the benchmark: a kontrol, or clients. Whoever started it closes it. */
export class Worker {
  readonly #child: ChildProcess;

  constructor(program: string, profileFolder: string | undefined) {
    const profile = profileFolder === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`];
    this.#child = fork(program, { execArgv: ["--expose-gc", ...profile] });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async ask<K extends TaskName>(task: K, ...[given]: Parameters<Tasks[K]>): Promise<Awaited<ReturnType<Tasks[K]>>> {
    const settled = new AbortController();
    const signal = AbortSignal.any([settled.signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]);
    this.#child.send({ task, given } satisfies Request);
    try {
      const died = once(this.#child, "exit", { signal }).then(([code]) =>
        Promise.reject(new Error(`the process asked for ${task} exited with ${code}`)),
      );
      const [response] = (await Promise.race([once(this.#child, "message", { signal }), died])) as [Response];
      if ("error" in response) throw new Error(`${task}: ${response.error}`);
      return response.answer as Awaited<ReturnType<Tasks[K]>>;
    } finally {
      settled.abort();
    }
  }

  /** As power fails: nothing is said to anybody. */
  async kill(): Promise<void> {
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.disconnect();
    const overdue = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT_MS);
    await exited;
    clearTimeout(overdue);
  }
}
