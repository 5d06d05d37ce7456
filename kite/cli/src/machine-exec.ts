import { once } from "node:events";
import type { Remote } from "@kite-mesh/kite";
import type { KlientContract } from "@kite-mesh/klient/contract";
import { deferred } from "./deferred.ts";
import { EXIT, explain, Failure, isKiteError } from "./failure.ts";
import { openMesh } from "./mesh.ts";

export interface Exec {
  machine: string;
  /** The program, then its arguments. */
  command: readonly string[];
  cwd?: string;
  env: readonly string[];
}

/**
 * Runs a program on a machine as if it ran here: its input is ours, its outputs come out of ours as they are written, signals
 * reach it, and its status becomes ours. Everything that goes wrong on the way is 255, so that no status is mistaken for it.
 */
export async function exec(request: Exec): Promise<void> {
  const [cmd, ...args] = request.command;
  if (cmd === undefined)
    throw new Failure("a program to run was expected after the machine, as in kite exec hello -- uname -a", EXIT.usage);
  const envs = parseEnvironment(request.env);
  try {
    process.exitCode = await runRemotely(request, cmd, args, envs);
  } catch (cause) {
    throw new Failure(explain(cause).line, statusOf(cause), { cause });
  } finally {
    // It may still be open, at a terminal for ever; nobody is left to read it.
    process.stdin.destroy();
  }
}

/** As a shell says it: 127 for a program that is not there, 126 for one that may not be run. */
function statusOf(cause: unknown): number {
  if (cause instanceof Failure && cause.exitCode === EXIT.usage) return EXIT.usage;
  if (!isKiteError(cause) || cause.reason !== "ProcessError") return EXIT.remoteLost;
  return cause.code === "not_found" ? 127 : 126;
}

async function runRemotely({ machine, cwd }: Exec, cmd: string, args: string[], envs: Record<string, string>): Promise<number> {
  await using mesh = await openMesh();
  const { peerOf, KiteError } = await import("@kite-mesh/kite");
  const klient = await mesh.klient(machine);
  const exited = deferred<number>();
  // Nobody waits for it yet, or any more, when the program could not be started.
  exited.promise.catch(() => {});
  // Taken now: a connection that was lost for good goes on with another session, and the program belongs to this one.
  const { closed } = peerOf(klient).session;
  const lost = () =>
    exited.reject(new KiteError("disconnected", `the connection to ${machine} was lost, and ${cmd} may still be running there`));
  closed.addEventListener("abort", lost, { once: true });
  const started = klient.os.exec({
    cmd,
    args,
    ...(cwd === undefined ? {} : { workDir: cwd }),
    envs,
    stdin: standardInput(),
    stdout: (chunk) => write(process.stdout, chunk),
    stderr: (chunk) => write(process.stderr, chunk),
    exit: exited.resolve,
  });
  const stopForwarding = forwardSignals(klient, started);
  try {
    await started;
    return await exited.promise;
  } finally {
    stopForwarding();
    closed.removeEventListener("abort", lost);
  }
}

function parseEnvironment(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf("=");
      if (at < 1) throw new Failure(`--env should be name=value, and is "${entry}"`, EXIT.usage);
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

async function* standardInput(): AsyncGenerator<Uint8Array> {
  for await (const chunk of process.stdin) yield chunk as Uint8Array;
}

/** Answered when the chunk has been taken: a reader that stops, such as `less`, stops the program there. */
async function write(stream: NodeJS.WriteStream, chunk: Uint8Array): Promise<void> {
  if (stream.destroyed) return;
  if (!stream.write(chunk)) await once(stream, "drain").catch(() => {});
}

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** A signal goes to the program there. While one is on its way without an answer, the next one ends the command here. */
function forwardSignals(klient: Remote<KlientContract>, started: Promise<{ pid: number }>): () => void {
  let underWay = false;
  const forward = async (signal: NodeJS.Signals) => {
    if (underWay) process.exit(EXIT.remoteLost);
    underWay = true;
    try {
      const { pid } = await started;
      await klient.os.kill({ pid, signal });
    } finally {
      underWay = false;
    }
  };
  const handlers = FORWARDED.map((signal) => {
    // A program that has just ended cannot be signalled, and its status is on the way.
    const handler = () => void forward(signal).catch(() => {});
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  return () => {
    for (const remove of handlers) remove();
  };
}
