import { createHash, randomBytes } from "node:crypto";
import { constants, createReadStream, type Stats } from "node:fs";
import { type FileHandle, open, realpath, rename, stat, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { KiteError } from "@kite-mesh/kite";
import { isMissing, onPath } from "./file-error.ts";

export interface WriteOptions {
  doNotOverwrite: boolean;
  append: boolean;
  /** The sha256, in hex, of what the caller believes to be there. */
  lastContentHash: string | undefined;
  /** Where in the file to write, leaving the rest as it is. */
  offset: number;
}

/** Writes bytes and answers with their number. A whole file is replaced at once: no reader sees half of it, no crash leaves it. */
export async function writeContent(path: string, content: Uint8Array, options: WriteOptions): Promise<number> {
  const { doNotOverwrite, append, lastContentHash, offset } = options;
  if (append && offset > 0) throw new KiteError("invalid_argument", "append writes at the end and offset at a place; give one of them");
  if (lastContentHash !== undefined && !doNotOverwrite) await mustHaveHash(path, lastContentHash);
  await onPath("write", path, async () => {
    if (doNotOverwrite) await withFile(path, "wx", (file) => writeAll(file, content, null));
    else if (append) await withFile(path, "a", (file) => writeAll(file, content, null));
    else if (offset > 0) await withFile(path, constants.O_RDWR | constants.O_CREAT, (file) => writeAll(file, content, offset));
    else await replaceContent(path, content);
  });
  return content.length;
}

/** Reads a range, or all. Less comes when the file ends. */
export function readRange(path: string, offset: number, length: number): Promise<Uint8Array> {
  return onPath("read", path, () =>
    withFile(path, "r", async (file) => {
      const content = Buffer.alloc(length);
      let bytes = 0;
      while (bytes < length) {
        const { bytesRead } = await file.read(content, bytes, length - bytes, offset + bytes);
        if (bytesRead === 0) break;
        bytes += bytesRead;
      }
      return content.subarray(0, bytes);
    }),
  );
}

async function mustHaveHash(path: string, expected: string): Promise<void> {
  const hash = createHash("sha256");
  await onPath("compare", path, async () => {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  });
  const actual = hash.digest("hex");
  if (actual === expected.toLowerCase()) return;
  throw new KiteError("conflict", `${path} was changed by somebody else; read it again before writing`, { details: { expected, actual } });
}

async function replaceContent(path: string, content: Uint8Array): Promise<void> {
  const target = await realpath(path).catch((cause) => (isMissing(cause) ? path : Promise.reject(cause)));
  const existing = await stat(target).catch((cause) => (isMissing(cause) ? undefined : Promise.reject(cause)));
  if (existing !== undefined && !canBeReplaced(existing)) return overwrite(path, content);
  const beside = join(dirname(target), `.${basename(target).slice(0, 100)}.${randomBytes(6).toString("hex")}.tmp`);
  let file: FileHandle;
  try {
    file = await open(beside, "wx", existing === undefined ? 0o666 : 0o600);
  } catch (cause) {
    // The file may be written though its folder may not.
    if (existing !== undefined && (cause as NodeJS.ErrnoException).code === "EACCES") return overwrite(path, content);
    throw cause;
  }
  try {
    await finish(file, content, existing);
    await rename(beside, target);
  } catch (cause) {
    await unlink(beside).catch(() => {});
    throw cause;
  }
}

/** A device, a pipe, or a file with several names is written in place: a new file would not be it any more. */
function canBeReplaced(existing: Stats): boolean {
  return existing.isFile() && existing.nlink === 1;
}

async function finish(file: FileHandle, content: Uint8Array, existing: Stats | undefined): Promise<void> {
  try {
    await writeAll(file, content, null);
    if (existing !== undefined) {
      // Owner first: changing it takes some permission bits away. Only root may, and only for root can it differ.
      await file.chown(existing.uid, existing.gid).catch(() => {});
      await file.chmod(existing.mode & 0o7777);
    }
    await file.datasync();
  } finally {
    await file.close();
  }
}

function overwrite(path: string, content: Uint8Array): Promise<void> {
  return withFile(path, "w", (file) => writeAll(file, content, null));
}

async function withFile<T>(path: string, flags: string | number, use: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags, 0o666);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, content: Uint8Array, position: number | null): Promise<void> {
  for (let written = 0; written < content.length; ) {
    const at = position === null ? null : position + written;
    written += (await file.write(content, written, content.length - written, at)).bytesWritten;
  }
}
