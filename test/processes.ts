import { readdir, readFile, readlink } from "node:fs/promises";

/** A process of this machine, for people to recognise. */
export interface FoundProcess {
  pid: number;
  command: string;
}

/**
 * Every process that has `text` in its command line, its environment, its working folder or its program's path. With the
 * unique folder of a test it finds all that was started for it, however often it changed its parent. Linux only.
 */
export async function processesMentioning(text: string): Promise<FoundProcess[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => mentioning(pid, text)));
  return found.filter((one) => one !== undefined && one.pid !== process.pid) as FoundProcess[];
}

async function mentioning(pid: number, text: string): Promise<FoundProcess | undefined> {
  // Any of these may be gone between listing and reading, or not ours to read: then it is not ours to find.
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
  const [command, environment, stat, folder] = await Promise.all([
    read("cmdline"),
    read("environ"),
    read("stat"),
    readlink(`/proc/${pid}/cwd`).catch(() => ""),
  ]);
  // Ended, and not yet collected by its parent.
  if (/^\d+ \(.*\) [ZX]/.test(stat)) return undefined;
  if (![command, environment, folder].some((place) => place.includes(text))) return undefined;
  return { pid, command: command.replaceAll("\0", " ").trim() };
}
