import { readdirSync, readFileSync } from "node:fs";

/**
 * Sends a signal to every process of a session: a terminal's shell and all jobs that it started, each of which has a
 * process group of its own. Where there is no /proc, the groups beyond the shell's own are left to the hang-up.
 */
export function signalSession(sessionId: number, signal: NodeJS.Signals): void {
  const members = processesOfSession(sessionId);
  // Without members there is nobody left, and the number may be somebody else's by now.
  if (members === undefined) signalGroup(sessionId, signal);
  for (const pid of members ?? []) signalProcess(pid, signal);
}

/** Sends a signal to a process and all that it started, as long as they stayed in its group. */
export function signalGroup(leader: number, signal: NodeJS.Signals): void {
  signalProcess(-leader, signal);
}

/** Whether a process runs; one that has ended and waits for its parent to notice does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "EPERM";
  }
  return stateOf(String(pid))?.state !== "Z";
}

function processesOfSession(sessionId: number): number[] | undefined {
  let entries: string[];
  try {
    entries = readdirSync("/proc");
  } catch {
    return undefined;
  }
  return entries.filter((entry) => /^\d+$/.test(entry) && stateOf(entry)?.session === sessionId).map(Number);
}

/** From /proc/<pid>/stat, counted from the last parenthesis: a program's name, which stands before it, may contain anything. */
function stateOf(pid: string): { state: string | undefined; session: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0], session: Number(fields[3]) };
  } catch {
    return undefined;
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended by itself, which is what was wanted.
  }
}
