import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { program } from "./programs.ts";
import { until } from "./until.ts";

export interface Ended {
  /** Null where a signal ended it. */
  status: number | null;
  stdout: string;
  stderr: string;
}

const SOON_MS = 30_000;

/** Runs lines as they are typed into a shell, in which `kite`, `npx kite` and `kontrol` are this checkout's. */
export class Shell {
  readonly #cwd: string;
  /** For what needs a terminal around it. */
  readonly env: NodeJS.ProcessEnv;

  private constructor(cwd: string, env: NodeJS.ProcessEnv) {
    this.#cwd = cwd;
    this.env = env;
  }

  /** `folder` is where the commands are put; who made it removes it. */
  static async open({ folder, cwd, env }: { folder: string; cwd: string; env: NodeJS.ProcessEnv }): Promise<Shell> {
    const node = (file: string) => `exec '${process.execPath}' '${file}' "$@"\n`;
    await mkdir(folder, { recursive: true });
    await write(folder, "kite", node(program("kite")));
    await write(folder, "kontrol", node(program("kontrol")));
    // What npx does with a command that is installed, half a second sooner.
    await write(folder, "npx", `test "$1" = kite && shift && ${node(program("kite"))}`);
    return new Shell(cwd, { ...env, PATH: `${folder}${path.delimiter}${env["PATH"] ?? ""}` });
  }

  in(cwd: string): Shell {
    return new Shell(cwd, this.env);
  }

  with(env: NodeJS.ProcessEnv): Shell {
    return new Shell(this.#cwd, { ...this.env, ...env });
  }

  /** Runs a line to its end. */
  async run(line: string): Promise<Ended> {
    await using started = this.start(line);
    return await started.ended();
  }

  /** Starts a line that stays. Leaving the scope ends it as Ctrl-C does. */
  start(line: string): StartedLine {
    const options = { cwd: this.#cwd, env: this.env, detached: true } as const;
    return new StartedLine(line, spawn("sh", ["-c", line], { ...options, stdio: ["ignore", "pipe", "pipe"] }));
  }
}

export class StartedLine implements AsyncDisposable {
  readonly #line: string;
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  stdout = "";
  stderr = "";

  constructor(line: string, child: ChildProcess) {
    this.#line = line;
    this.#child = child;
    this.#closed = once(child, "close");
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
  }

  async says(pattern: RegExp): Promise<void> {
    await until(`${pattern} from: ${this.#line}`, SOON_MS, () => pattern.test(this.stdout)).catch((cause: unknown) => {
      throw new Error(`${(cause as Error).message}; it said: ${this.stdout}${this.stderr}`, { cause });
    });
  }

  async ended(): Promise<Ended> {
    const overdue = setTimeout(() => this.#signal("SIGKILL"), SOON_MS);
    await this.#closed;
    clearTimeout(overdue);
    return { status: this.#child.exitCode, stdout: this.stdout, stderr: this.stderr };
  }

  async interrupt(): Promise<Ended> {
    this.#signal("SIGINT");
    return await this.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.interrupt();
  }

  /** To the whole group, as a terminal sends it: behind the shell there may be npm, and behind that what it runs. */
  #signal(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, signal);
  }
}

async function write(folder: string, name: string, script: string): Promise<void> {
  const file = path.join(folder, name);
  await writeFile(file, `#!/bin/sh\n${script}`);
  await chmod(file, 0o755);
}
