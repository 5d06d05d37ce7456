import { chmod, lstat, mkdir, readdir, rm, rmdir, stat, statfs, unlink } from "node:fs/promises";
import { extname, join } from "node:path";
import { KiteError, LIMITS } from "@kite-mesh/kite";
import type { DiskInfo, FileEntry, FsWriteFile } from "./contract.ts";
import { refuseCredentials } from "./credential-file.ts";
import { copyPath, movePath } from "./file-copy.ts";
import { entryAt, listFolder, sizeOf } from "./file-entry.ts";
import { onPath } from "./file-error.ts";
import { expandPath } from "./file-path.ts";
import { readRange, writeContent } from "./file-write.ts";
import { globPaths } from "./glob.ts";

/** Something that has to be told when the caller gave up; a kite's `Call` is one. */
interface Scope {
  signal: AbortSignal;
}

/** The machine's files, as its user sees them. Paths that are not absolute are below `home`. */
export class Files {
  readonly #home: string;
  readonly #stateFolder: string | undefined;

  /** `stateFolder` is klient's KITE_HOME. */
  constructor({ home, stateFolder }: { home: string; stateFolder?: string | undefined }) {
    this.#home = home;
    this.#stateFolder = stateFolder;
  }

  async readDirectory(
    {
      path,
      recursive = false,
      ignoreFolders = [],
    }: { path: string; recursive?: boolean | undefined; ignoreFolders?: string[] | undefined },
    { signal }: Scope,
  ): Promise<{ files: FileEntry[] }> {
    return { files: await listFolder(this.#path(path), { recursive, ignoreFolders, signal }) };
  }

  glob({ pattern }: { pattern: string }, { signal }: Scope): Promise<string[]> {
    return globPaths(this.#path(pattern), signal);
  }

  async readFile(
    { path, offset = 0, blockSize }: { path: string; offset?: number | undefined; blockSize?: number | undefined },
    { mayReadCredentials = true }: { mayReadCredentials?: boolean } = {},
  ): Promise<{ content: Uint8Array }> {
    const file = this.#path(path);
    if (!mayReadCredentials) await refuseCredentials(file, this.#stateFolder);
    if (blockSize !== undefined && blockSize > 0) {
      if (blockSize > MAX_READ_BYTES)
        throw new KiteError("limit_exceeded", `blockSize may be ${MAX_READ_BYTES} bytes, got ${blockSize}; read in several blocks`);
      return { content: await readRange(file, offset, blockSize) };
    }
    const { size } = await onPath("read", file, () => stat(file));
    const length = Math.max(0, size - offset);
    if (length > MAX_READ_BYTES) {
      throw new KiteError(
        "limit_exceeded",
        `${file} has ${size} bytes, and at most ${MAX_READ_BYTES} are read at once; use offset and blockSize`,
      );
    }
    // Files of /proc say that they are empty, and are not.
    return { content: await readRange(file, offset, size === 0 ? UNKNOWN_SIZE_BYTES : length) };
  }

  writeFile({ path, content, doNotOverwrite = false, append = false, lastContentHash, offset = 0 }: FsWriteFile): Promise<number> {
    const bytes = typeof content === "string" ? Buffer.from(content) : content;
    return writeContent(this.#path(path), bytes, { doNotOverwrite, append, lastContentHash, offset });
  }

  /** The path itself when it is free, or else the first free one of `name_1.ext`, `name_2.ext`, … */
  async uniquePath({ path }: { path: string }): Promise<string> {
    const wanted = this.#path(path);
    const extension = extname(wanted);
    const stem = wanted.slice(0, wanted.length - extension.length);
    for (let number = 0; number <= MAX_NUMBER; number++) {
      const candidate = number === 0 ? wanted : `${stem}_${number}${extension}`;
      if (!(await onPath("look at", candidate, () => entryAt(candidate))).exists) return candidate;
    }
    throw new KiteError("limit_exceeded", `${wanted} and ${MAX_NUMBER} numbered names after it are taken; choose another name`);
  }

  getInfo({ path }: { path: string }): Promise<FileEntry> {
    const file = this.#path(path);
    return onPath("look at", file, () => entryAt(file));
  }

  async setPermissions(
    { path, mode, recursive = false }: { path: string; mode: number; recursive?: boolean | undefined },
    { signal }: Scope,
  ): Promise<true> {
    const waiting = [this.#path(path)];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      signal.throwIfAborted();
      const file = next;
      const below = await onPath("change the permissions of", file, async () => {
        const info = await lstat(file);
        // The names first: with the new mode the folder may not be readable any more.
        const names = recursive && info.isDirectory() ? await readdir(file) : [];
        if (!info.isSymbolicLink() || !recursive) await chmod(file, mode);
        return names;
      });
      waiting.push(...below.map((name) => join(file, name)));
    }
    return true;
  }

  async remove({ path, recursive = false }: { path: string; recursive?: boolean | undefined }): Promise<true> {
    const file = this.#path(path);
    if (recursive && (file === "/" || file === this.#home)) {
      throw new KiteError("invalid_argument", `${file} itself is not removed with all that is in it; name what is below it`);
    }
    await onPath("remove", file, async () => {
      const info = await lstat(file);
      if (recursive) await rm(file, { recursive: true });
      else if (info.isDirectory()) await rmdir(file);
      else await unlink(file);
    });
    return true;
  }

  async move({ oldPath, newPath }: { oldPath: string; newPath: string }): Promise<true> {
    await movePath(this.#path(oldPath), this.#path(newPath));
    return true;
  }

  async createDirectory({ path, recursive = false }: { path: string; recursive?: boolean | undefined }): Promise<true> {
    const folder = this.#path(path);
    await onPath("create", folder, () => mkdir(folder, { recursive, mode: 0o755 }));
    return true;
  }

  async copy({ srcPath, dstPath }: { srcPath: string; dstPath: string }): Promise<true> {
    await copyPath(this.#path(srcPath), this.#path(dstPath));
    return true;
  }

  async getDiskInfo({ path }: { path: string }): Promise<DiskInfo> {
    const file = this.#path(path);
    const { bsize, blocks, bfree } = await onPath("measure the disk of", file, () => statfs(file));
    return { blockSize: bsize, blocksTotal: blocks, blocksFree: bfree, blocksUsed: blocks - bfree, ioSize: bsize };
  }

  getPathSize({ path }: { path: string }, { signal }: Scope): Promise<number> {
    return sizeOf(this.#path(path), signal);
  }

  async abs({ path }: { path: string }): Promise<{ absPath: string; isDir: boolean; exist: boolean }> {
    const absPath = this.#path(path);
    const { isDir, exists } = await onPath("look at", absPath, () => entryAt(absPath));
    return { absPath, isDir, exist: exists };
  }

  #path(path: string): string {
    return expandPath(path, this.#home);
  }
}

// What one answer of kite's can hold, less a mebibyte for what stands around it.
const MAX_READ_BYTES = LIMITS.frameBytes - 1024 * 1024;
const UNKNOWN_SIZE_BYTES = 1024 * 1024;
const MAX_NUMBER = 10_000;
