import { execFile } from "node:child_process";
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { KiteError } from "@kite-mesh/kite";

export interface HomeLock {
  release(): Promise<void>;
}

/**
 * Makes sure that one mesh at a time works in a home. The lock is a file with the process's number and the time of its birth,
 * so a number that was given to another program later does not hold it.
 *
 * @throws {KiteError} `failed_precondition` naming the process that holds it, or why the file cannot be written.
 */
export async function lockHome(home: string): Promise<HomeLock> {
  const path = join(home, "mesh.lock");
  const draft = `${path}.${process.pid}`;
  const own = { pid: process.pid, birth: (await birthOf(process.pid)) ?? "" };
  try {
    await writeFile(draft, JSON.stringify(own));
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (await linked(draft, path)) return { release: () => rm(path, { force: true }) };
      await removeIfStale(path);
    }
  } catch (cause) {
    if (cause instanceof KiteError) throw cause;
    const why = (cause as Error).message;
    throw new KiteError(
      "failed_precondition",
      `KITE_HOME (${home}) should be a folder that can be written, and cannot: ${why}; choose another one`,
      { cause },
    );
  } finally {
    await rm(draft, { force: true }).catch(() => {});
  }
  throw new KiteError(
    "failed_precondition",
    `another mesh is just starting in ${home}; use that one, or choose another folder with KITE_HOME`,
  );
}

/** Whether the process that held this number at `birth` is there. */
export async function isSameProcess(pid: number, birth: string): Promise<boolean> {
  return (await birthOf(pid)) === birth;
}

/** Tells a process from a later one with the same number; null when there is none. */
export async function birthOf(pid: number): Promise<string | null> {
  if (process.platform === "linux") {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
    // Field 22, counted after the name, which stands in brackets and may itself contain spaces and brackets.
    return stat === null ? null : (stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "");
  }
  const { stdout } = await promisify(execFile)("ps", ["-o", "lstart=", "-p", String(pid)], { timeout: 5000 }).catch(() => ({ stdout: "" }));
  return stdout.trim() || null;
}

// Each round removes one stale lock; a second one can only be that of a mesh which started and died in between.
const ATTEMPTS = 3;

async function linked(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw cause;
  }
}

async function removeIfStale(path: string): Promise<void> {
  const text = await readFile(path, "utf8").catch(() => null);
  if (text === null) return;
  const { pid, birth } = parse(text);
  if (pid !== null && (await isSameProcess(pid, birth))) {
    throw new KiteError(
      "failed_precondition",
      `a mesh is already running on this folder (process ${pid}); use it, stop it, or choose another folder with KITE_HOME`,
    );
  }
  // Of two that find the same stale lock one moves it away; what the other one then moves may be a fresh lock, so it looks again.
  const aside = `${path}.stale-${process.pid}`;
  await rename(path, aside).catch(() => {});
  if ((await readFile(aside, "utf8").catch(() => text)) !== text) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}

function parse(text: string): { pid: number | null; birth: string } {
  try {
    const { pid, birth } = JSON.parse(text) as { pid?: unknown; birth?: unknown };
    return { pid: typeof pid === "number" ? pid : null, birth: typeof birth === "string" ? birth : "" };
  } catch {
    return { pid: null, birth: "" };
  }
}
