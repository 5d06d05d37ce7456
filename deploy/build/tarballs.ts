import { execFile } from "node:child_process";
import path from "node:path";
import { promisify } from "node:util";
import { ROOT } from "./workspaces.ts";

/** A package as it is published. */
export interface Tarball {
  readonly path: string;
  readonly files: number;
  /** In bytes. */
  readonly size: number;
}

/** Packs one of this repository's packages into a folder, as `npm publish` would. */
export async function pack(packed: string, folder: string): Promise<Tarball> {
  const { stdout } = await promisify(execFile)("npm", ["pack", "--json", "--pack-destination", folder], { cwd: path.join(ROOT, packed) });
  const [{ filename, files, size }] = JSON.parse(stdout) as [{ filename: string; files: unknown[]; size: number }];
  return { path: path.join(folder, filename), files: files.length, size };
}
