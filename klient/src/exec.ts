import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable } from "node:stream";
import { KiteError } from "@kite-mesh/kite";
import { abortTogether } from "./abort-together.ts";
import type { ExecResult, OsExec } from "./contract.ts";
import { commandShell, folderOrRoot, type MachineUser } from "./machine-user.ts";
import { signalGroup } from "./process-session.ts";
import { deliverOutput, feedInput } from "./program-pipes.ts";

export interface ProgramsOptions {
  user: MachineUser;
  /** How long a program has between SIGTERM and SIGKILL. */
  graceMs?: number;
}

/** Ends a program: when the caller gave up, and when the caller's session has ended for good. */
export interface ExecScope {
  signal: AbortSignal;
  closed: AbortSignal;
}

/**
 * The programs that callers started: on pipes, each in a process group of its own, none left behind when its caller is
 * gone. `close` ends them all.
 */
export class Programs {
  readonly #user: MachineUser;
  readonly #graceMs: number;
  readonly #running = new Map<number, ChildProcess>();
  readonly #closing = new AbortController();

  constructor({ user, graceMs = GRACE_MS }: ProgramsOptions) {
    this.#user = user;
    this.#graceMs = graceMs;
  }

  /** Runs a shell command to its end and answers with all of its output. */
  async run(
    { command, timeoutMs }: { command: string; timeoutMs?: number | undefined },
    { signal, closed }: ExecScope,
  ): Promise<ExecResult> {
    const child = await this.#spawn({ cmd: commandShell(), args: ["-c", command] });
    const stop = new AbortController();
    const timeout = timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)];
    const { signal: ended, release: forget } = abortTogether([signal, closed, stop.signal, this.#closing.signal, ...timeout]);
    const endProgram = () => this.#end(child);
    if (ended.aborted) endProgram();
    else ended.addEventListener("abort", endProgram, { once: true });
    try {
      const gather = (stream: Readable | null, name: string) => gatherOutput(stream, name, (error) => stop.abort(error));
      const [stdout, stderr, { status, bySignal }] = await Promise.all([
        gather(child.stdout, "stdout"),
        gather(child.stderr, "stderr"),
        exitOf(child),
      ]);
      if (ended.aborted) throw stoppedBecause(ended.reason, timeoutMs);
      return { stdout, stderr, exitStatus: bySignal ? -1 : status };
    } finally {
      forget();
    }
  }

  /** Starts a program and answers at once; output, exit and input go on as long as the caller's session lives. */
  async start(request: OsExec, { signal, closed }: ExecScope): Promise<{ pid: number }> {
    const child = await this.#spawn(request);
    const { signal: gone, release: forget } = abortTogether([closed, this.#closing.signal]);
    const endProgram = () => this.#end(child);
    gone.addEventListener("abort", endProgram, { once: true });
    if (signal.aborted || gone.aborted) endProgram();
    const finished = Promise.all([
      deliverOutput({ stream: child.stdout, deliver: request.stdout, closed: gone }),
      deliverOutput({ stream: child.stderr, deliver: request.stderr, closed: gone }),
      exitOf(child),
      feedInput(child, request.stdin),
    ]);
    void finished
      .then(([, , { status }]) => request.exit?.(status))
      // The caller is gone or fails; nobody wants the rest.
      .catch(endProgram)
      .finally(() => {
        forget();
        for (const callback of [request.stdout, request.stderr, request.exit]) release(callback);
      });
    return { pid: child.pid as number };
  }

  /** @throws {KiteError} `not_found` for a process that was not started here or has ended. */
  kill({ pid, signal = "SIGTERM" }: { pid: number; signal?: string | undefined }): void {
    if (!(signal in constants.signals))
      throw new KiteError("invalid_argument", `there is no signal ${signal}; give a name such as SIGTERM`);
    if (!this.#running.has(pid))
      throw new KiteError("not_found", `pid ${pid} not found: only processes that were started with os.exec can be ended`);
    signalGroup(pid, signal as NodeJS.Signals);
  }

  async close(): Promise<void> {
    this.#closing.abort(new KiteError("unavailable", "klient is being closed"));
    const children = [...this.#running.values()];
    for (const child of children) this.#end(child);
    await Promise.all(children.map((child) => exitOf(child)));
  }

  async #spawn({ cmd, args = [], envs, workDir, stdin }: OsExec): Promise<ChildProcess> {
    if (this.#running.size >= MAX_PROGRAMS)
      throw new KiteError("limit_exceeded", `${MAX_PROGRAMS} programs run at once on this machine; end one first`);
    const cwd = workDir ?? folderOrRoot(this.#user.home);
    if (workDir !== undefined && folderOrRoot(workDir) !== workDir)
      throw new KiteError("not_found", `workDir ${workDir} is not a folder of this machine`);
    const child = spawn(cmd, args, {
      cwd,
      env: { ...this.#user.env, ...envs },
      // A process group of its own, so that what it starts ends with it.
      detached: true,
      stdio: [stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
    // One place notes the end, before anybody can miss the event.
    const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause: NodeJS.ErrnoException) => reject(startFailure(cmd, cause)));
    });
    const pid = child.pid as number;
    this.#running.set(pid, child);
    void closed.then(() => this.#running.delete(pid));
    child.on("error", () => {});
    return child;
  }

  /** Asks the program and all that it started to end, and makes them after a moment. */
  #end(child: ChildProcess): void {
    const pid = child.pid as number;
    if (!this.#running.has(pid)) return;
    signalGroup(pid, "SIGTERM");
    const timer = setTimeout(() => signalGroup(pid, "SIGKILL"), this.#graceMs);
    child.once("close", () => clearTimeout(timer));
  }
}

/** Settles when the program has ended and both of its outputs are closed. */
function exitOf(child: ChildProcess): Promise<{ status: number; bySignal: boolean }> {
  const read = () => {
    const { exitCode, signalCode } = child;
    return signalCode === null
      ? { status: exitCode ?? 0, bySignal: false }
      : { status: 128 + constants.signals[signalCode], bySignal: true };
  };
  const isClosed =
    (child.exitCode !== null || child.signalCode !== null) && child.stdout?.closed !== false && child.stderr?.closed !== false;
  return isClosed ? Promise.resolve(read()) : new Promise((resolve) => child.once("close", () => resolve(read())));
}

async function gatherOutput(stream: Readable | null, name: string, tooMuch: (error: KiteError) => void): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_OUTPUT_BYTES) chunks.push(chunk);
    else
      tooMuch(
        new KiteError("limit_exceeded", `exec answers with at most ${MAX_OUTPUT_BYTES} bytes of ${name}; use os.exec, which has no limit`),
      );
  });
  await new Promise((resolve) => (stream === null ? resolve(undefined) : stream.once("close", resolve)));
  return Buffer.concat(chunks).toString();
}

function stoppedBecause(reason: unknown, timeoutMs: number | undefined): KiteError {
  if (reason instanceof Error && reason.name === "TimeoutError" && timeoutMs !== undefined) {
    return new KiteError("deadline_exceeded", `the command ran longer than ${timeoutMs} ms and was ended`, { outcome: "unknown" });
  }
  return KiteError.from(reason, "cancelled");
}

function startFailure(cmd: string, cause: NodeJS.ErrnoException): KiteError {
  const options = { cause, reason: "ProcessError" };
  if (cause.code === "ENOENT") return new KiteError("not_found", `there is no program ${cmd} in the PATH of this machine`, options);
  if (cause.code === "EACCES")
    return new KiteError("permission_denied", `${cmd} may not be run: it is not executable for this user`, options);
  return new KiteError("failed_precondition", `${cmd} could not be started: ${cause.message}`, options);
}

/** A function that came from another kite is held there until it is released; the bare type does not show it. */
function release(callback: unknown): void {
  (callback as Partial<Disposable> | undefined)?.[Symbol.dispose]?.();
}

// Fits twice into one answer of kite's, with room for what JSON adds.
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const MAX_PROGRAMS = 200;
const GRACE_MS = 2_000;
