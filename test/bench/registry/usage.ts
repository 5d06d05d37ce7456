import { readdir, readFile } from "node:fs/promises";

// Linux counts a process's time in these, whatever its clock does.
const TICKS_PER_SECOND = 100;

/**
 * Microseconds of processor time that the processes have used with all that they started. Other programs on the machine
 * stretch a call's time, but hardly its work. Linux only.
 */
export async function cpuUs(pids: readonly number[]): Promise<number> {
  const all = await processes();
  const wanted = new Set(pids);
  for (let grown = true; grown; ) {
    const children = all.filter(({ pid, parent }) => wanted.has(parent) && !wanted.has(pid));
    for (const { pid } of children) wanted.add(pid);
    grown = children.length > 0;
  }
  const ticks = all.reduce((sum, { pid, ticks }) => (wanted.has(pid) ? sum + ticks : sum), 0);
  return (ticks / TICKS_PER_SECOND) * 1_000_000;
}

/** What the system has given a process, in bytes. Linux only. */
export async function residentBytes(pid: number): Promise<number> {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

interface Found {
  pid: number;
  parent: number;
  /** Its own, and those of children that have ended. */
  ticks: number;
}

async function processes(): Promise<Found[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  // Gone between listing and reading: it did nothing that is measured.
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")));
  return stats.filter(Boolean).map((stat) => {
    // A name may contain spaces and brackets; what follows the last one are numbers.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return { pid: Number.parseInt(stat, 10), parent: Number(fields[1]), ticks };
  });
}
