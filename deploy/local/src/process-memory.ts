import { readdir, readFile } from "node:fs/promises";

export interface ProcessMemory {
  pid: number;
  command: string;
  /** What it occupies, shared pages counted in full: the sum over processes is more than the machine gives. */
  rssBytes: number;
  /** Shared pages divided by those who share them: sums are true. */
  pssBytes: number;
}

/** A process and everything below it, as Linux tells it. */
export async function memoryOfTree(root: number): Promise<ProcessMemory[]> {
  const parents = await parentOfAll();
  const tree = [root];
  for (const pid of tree) tree.push(...[...parents].filter(([, parent]) => parent === pid).map(([child]) => child));
  const found = await Promise.all(tree.map(memoryOf));
  return found.filter((memory) => memory !== null);
}

async function parentOfAll(): Promise<Map<number, number>> {
  const pids = (await readdir("/proc")).map(Number).filter(Number.isInteger);
  const pairs = await Promise.all(pids.map(async (pid) => [pid, await parentOf(pid)] as const));
  return new Map(pairs.filter((pair): pair is readonly [number, number] => pair[1] !== null));
}

async function parentOf(pid: number): Promise<number | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  // After the name, which stands in brackets, come the state and the parent.
  return stat === null ? null : Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
}

async function memoryOf(pid: number): Promise<ProcessMemory | null> {
  try {
    const [rollup, command] = await Promise.all([readFile(`/proc/${pid}/smaps_rollup`, "utf8"), readFile(`/proc/${pid}/cmdline`, "utf8")]);
    const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(rollup)?.[1] ?? 0);
    return { pid, command: command.replaceAll("\0", " ").trim(), rssBytes: kilobytes("Rss") * 1024, pssBytes: kilobytes("Pss") * 1024 };
  } catch {
    // It has ended in between.
    return null;
  }
}
