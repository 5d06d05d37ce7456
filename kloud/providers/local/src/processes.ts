import { readdir, readFile } from "node:fs/promises";

/** One process, told apart from a later one with the same number by when it started. */
export interface ProcessId {
  readonly pid: number;
  /** In clock ticks since boot, as text: it is only ever compared. */
  readonly startedAt: string;
}

export interface ProcessInfo extends ProcessId {
  readonly parent: number;
  readonly session: number;
  /** Ended, and not yet collected by its parent; there is nothing left of it to stop. */
  readonly zombie: boolean;
}

/** Reads a line of `/proc/<pid>/stat`. */
export function parseStat(line: string): ProcessInfo | null {
  // The second field is the program's name in brackets, and may itself hold spaces and brackets.
  const open = line.indexOf("(");
  const close = line.lastIndexOf(")");
  if (open < 0 || close < 0) return null;
  const fields = line
    .slice(close + 2)
    .trim()
    .split(" ");
  const [state, parent, , session] = fields;
  const startedAt = fields[19];
  if (state === undefined || startedAt === undefined) return null;
  return {
    pid: Number(line.slice(0, open)),
    startedAt,
    parent: Number(parent),
    session: Number(session),
    zombie: state === "Z" || state === "X",
  };
}

/** Whether exactly this process is still running. */
export async function isRunning({ pid, startedAt }: ProcessId): Promise<boolean> {
  const found = await readProcess(pid);
  return found !== null && found.startedAt === startedAt && !found.zombie;
}

/**
 * Everything that belongs to a machine: what carries its marker in the environment, the sessions that those lead, and
 * their descendants. A program that has left all three on purpose is not found; only a pid namespace would hold it.
 */
export async function findMarked(marker: string): Promise<ProcessInfo[]> {
  const all = await readAll();
  const found = new Map<number, ProcessInfo>();
  await Promise.all(
    all.map(async (one) => {
      if (await carries(one.pid, marker)) found.set(one.pid, one);
    }),
  );
  let before = -1;
  while (found.size !== before) {
    before = found.size;
    for (const one of all) if (found.has(one.parent) || found.has(one.session)) found.set(one.pid, one);
  }
  // Neither the process that looks nor the one that everything descends from, whatever their environment says.
  found.delete(process.pid);
  found.delete(1);
  return [...found.values()];
}

/** Sends a signal to exactly this process; nothing happens when it is gone. */
export async function signalProcess(target: ProcessId, signal: NodeJS.Signals): Promise<void> {
  if (await isRunning(target)) kill(target.pid, signal);
}

/** Sends a signal to the whole group that this process leads. */
export async function signalGroup(leader: ProcessId, signal: NodeJS.Signals): Promise<void> {
  if (await isRunning(leader)) kill(-leader.pid, signal);
}

async function readAll(): Promise<ProcessInfo[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map((pid) => readProcess(Number(pid))));
  return found.filter((one) => one !== null && !one.zombie) as ProcessInfo[];
}

async function readProcess(pid: number): Promise<ProcessInfo | null> {
  // Gone between listing and reading is as good as never there.
  const line = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  return line === null ? null : parseStat(line);
}

async function carries(pid: number, marker: string): Promise<boolean> {
  // Other users' processes cannot be read, and are none of ours.
  const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  return environment.split("\0").includes(marker);
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ESRCH") throw thrown;
  }
}
