import type { Stats } from "node:fs";
import { cp, lstat, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { KiteError } from "@kite-mesh/kite";
import { isMissing, onPath } from "./file-error.ts";

/** Copies a file, or a folder with all that is in it; into a folder that exists, it merges. Symbolic links stay links. */
export async function copyPath(source: string, destination: string): Promise<void> {
  const from = await onPath("copy", source, () => lstat(source));
  const to = await onPath("copy to", destination, () =>
    stat(destination).catch((cause) => (isMissing(cause) ? undefined : Promise.reject(cause))),
  );
  refuseMismatch(source, from, destination, to);
  const [realSource, realDestination] = await Promise.all([onPath("copy", source, () => realpath(source)), realDestinationOf(destination)]);
  if (realSource === realDestination)
    throw new KiteError("invalid_argument", `${source} and ${destination} are the same; choose another destination`);
  if (realDestination.startsWith(realSource + sep) && from.isDirectory()) {
    throw new KiteError(
      "invalid_argument",
      `${destination} lies in ${source}, and would be copied into itself; choose another destination`,
    );
  }
  await onPath(`copy ${source} to`, destination, () =>
    cp(source, destination, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true }),
  );
}

/** Renames, also to another file system, where the content has to be copied. */
export async function movePath(source: string, destination: string): Promise<void> {
  try {
    await rename(source, destination);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EXDEV") await onPath(`move ${source} to`, destination, () => Promise.reject(cause));
    await copyPath(source, destination);
    await onPath("remove", source, () => rm(source, { recursive: true }));
  }
}

function refuseMismatch(source: string, from: Stats, destination: string, to: Stats | undefined): void {
  if (to === undefined || from.isDirectory() === to.isDirectory()) return;
  const sentence = from.isDirectory()
    ? `${source} is a folder and ${destination} a file; remove the file first`
    : `${source} is a file and ${destination} a folder; give the new file's whole path`;
  throw new KiteError("invalid_argument", sentence);
}

/** The destination may not exist yet; then the nearest folder above it that does tells where it really is. */
async function realDestinationOf(path: string): Promise<string> {
  let [existing, rest] = [path, ""];
  for (;;) {
    const real = await realpath(existing).catch(() => undefined);
    if (real !== undefined) return join(real, rest);
    const above = dirname(existing);
    if (above === existing) return path;
    rest = join(existing.slice(above.length).replace(/^\/+/, ""), rest);
    existing = above;
  }
}
