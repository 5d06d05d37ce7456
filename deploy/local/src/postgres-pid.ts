import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { readFile, readlink, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export interface FoundServer {
  pid: number;
  socketDir: string;
}

/**
 * The server that runs on this folder (a real path), or null. Lock files whose server is gone are removed: PostgreSQL itself
 * refuses to start when the number in them has been given to another program of the same user in the meantime.
 */
export async function findServer(dataDir: string): Promise<FoundServer | null> {
  const lock = join(dataDir, "postmaster.pid");
  const text = await readFile(lock, "utf8").catch(() => null);
  if (text === null) return null;
  // Line 1 is the pid, 2 the folder, 3 the start time, 4 the port, 5 the socket's folder, 8 the state.
  const [pidText = "", , , port = "", socketDir = "", , , state = ""] = text.split("\n");
  const pid = Number.parseInt(pidText, 10);
  const alive = Number.isInteger(pid) && isAlive(pid) && (await isPostgresOn(dataDir, pid));
  if (alive && socketDir !== "" && state.trim() !== "stopping") return { pid, socketDir };
  if (alive) await untilGone(pid);
  // In this order: as long as the first one stands, the next start comes by here again.
  if (socketDir !== "") await rm(join(socketDir, `.s.PGSQL.${port}.lock`), { force: true });
  await rm(lock, { force: true });
  return null;
}

/** Whether a process with this number runs; one that belongs to somebody else counts, one that only waits to be buried does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "EPERM";
  }
  return !isZombie(pid);
}

/** In a container nobody may bury orphans for seconds, and a server that was taken over is one. */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
  } catch {
    return false;
  }
}

// A server that is stopping needs a checkpoint, one that has just been launched a moment to write its lock file to the end.
const GONE_LIMIT_MS = 15_000;

async function untilGone(pid: number): Promise<void> {
  const deadline = Date.now() + GONE_LIMIT_MS;
  while (isAlive(pid)) {
    if (Date.now() > deadline) process.kill(pid, "SIGQUIT");
    if (Date.now() > deadline + GONE_LIMIT_MS) return;
    await new Promise((done) => setTimeout(done, 25));
  }
}

/** PostgreSQL works in its data folder. Where that cannot be seen (macOS), its command line names the folder. */
async function isPostgresOn(dataDir: string, pid: number): Promise<boolean> {
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => null);
  if (cwd !== null) return cwd === dataDir;
  // The working folder of another uid's process may be hidden, as from root in a container; its command line never is.
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => commandByPs(pid));
  return command.includes("postgres") && command.includes(dataDir);
}

async function commandByPs(pid: number): Promise<string> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "command=", "-p", String(pid)], { timeout: 5000 }).catch(() => ({
    stdout: "",
  }));
  return stdout;
}
