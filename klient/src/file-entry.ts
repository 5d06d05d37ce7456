import { constants, type Stats } from "node:fs";
import { access, lstat, readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { KiteError } from "@kite-mesh/kite";
import type { FileEntry } from "./contract.ts";
import { isMissing, onPath } from "./file-error.ts";

/** What is at a path; a symbolic link is described by what it leads to. Nothing there is an answer, not an error. */
export async function entryAt(path: string): Promise<FileEntry> {
  const link = await statOrMissing(path, lstat);
  if (link === undefined) return { ...MISSING, name: basename(path), fullPath: path };
  const target = link.isSymbolicLink() ? await stat(path).catch(() => undefined) : link;
  const shown = target ?? link;
  const [readable, writable] =
    target === undefined ? [false, false] : await Promise.all([may(path, constants.R_OK), may(path, constants.W_OK)]);
  return {
    name: basename(path),
    fullPath: path,
    exists: true,
    isDir: shown.isDirectory(),
    size: shown.size,
    mode: shown.mode & 0o7777,
    time: shown.mtime.toISOString(),
    isBroken: target === undefined,
    readable,
    writable,
  };
}

export interface ListOptions {
  recursive: boolean;
  /** Names of folders that are listed but not entered. */
  ignoreFolders: readonly string[];
  signal: AbortSignal;
}

/** The entries of a folder by name, folders before what is in them. Symbolic links are not followed. */
export async function listFolder(path: string, options: ListOptions): Promise<FileEntry[]> {
  const entries: FileEntry[] = [];
  const folders = [path];
  for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
    options.signal.throwIfAborted();
    const inside = folder;
    const found = await onPath("list", inside, () => readdir(inside, { withFileTypes: true }));
    if (entries.length + found.length > MAX_ENTRIES) {
      throw new KiteError(
        "limit_exceeded",
        `${path} has more than ${MAX_ENTRIES} entries; list a folder below it, or leave some out with ignoreFolders`,
      );
    }
    found.sort((a, b) => (a.name < b.name ? -1 : 1));
    entries.push(...(await onPath("list", inside, () => Promise.all(found.map(({ name }) => entryAt(join(inside, name)))))));
    if (!options.recursive) break;
    const enter = found.filter((entry) => entry.isDirectory() && !options.ignoreFolders.includes(entry.name));
    folders.unshift(...enter.map(({ name }) => join(inside, name)));
  }
  return entries;
}

/** The bytes of a file, or of all files below a folder; symbolic links count as themselves. */
export async function sizeOf(path: string, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  const waiting = [path];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    signal.throwIfAborted();
    const current = next;
    const found = current === path ? await onPath("measure", path, () => lstat(path)) : await statOrMissing(current, lstat);
    if (found === undefined) continue;
    if (!found.isDirectory()) bytes += found.size;
    else for (const name of await onPath("measure", current, () => readdir(current))) waiting.push(join(current, name));
  }
  return bytes;
}

async function statOrMissing(path: string, look: (path: string) => Promise<Stats>): Promise<Stats | undefined> {
  try {
    return await look(path);
  } catch (cause) {
    // A part of the path that is a file: there is nothing behind it either.
    if (isMissing(cause) || (cause as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw cause;
  }
}

function may(path: string, what: number): Promise<boolean> {
  return access(path, what).then(
    () => true,
    () => false,
  );
}

const MISSING: Omit<FileEntry, "name" | "fullPath"> = {
  exists: false,
  isDir: false,
  size: 0,
  mode: 0,
  time: "",
  isBroken: false,
  readable: false,
  writable: false,
};
// Some 300 bytes each: six megabytes, which is a third of what one answer may have.
const MAX_ENTRIES = 20_000;
