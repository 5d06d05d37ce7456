import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { KiteError } from "../errors.ts";
import { type KiteKey, parseKiteKey } from "./kite-key.ts";

/**
 * Where the kite.key is, below a home such as `~/.kite`. It looks at no file.
 *
 * @example kiteKeyPath("/home/alice/.kite") // "/home/alice/.kite/kite.key"
 */
export function kiteKeyPath(home: string): string {
  return join(home, "kite.key");
}

/**
 * Reads the kite.key of a home. A file that others could have read is refused, as ssh does: whoever has the key is the user.
 *
 * @throws {KiteError} `not_found` when there is none, `failed_precondition` for a file that others may use, `unauthenticated` for one that is broken.
 * @example const { username, kontrolUrl } = await readKiteKey(readEnvironment().home);
 */
export async function readKiteKey(home: string): Promise<KiteKey> {
  const path = kiteKeyPath(home);
  const file = await open(path, constants.O_RDONLY).catch((cause) => {
    if (isErrno(cause, "ENOENT"))
      throw new KiteError("not_found", `there is no kite.key at ${path}; start a mesh or set KITE_HOME to where the key is`, { cause });
    throw notUsable("read", path, cause);
  });
  try {
    await checkPrivate(file, path);
    return await parseKiteKey(await readBounded(file, path));
  } catch (thrown) {
    const error = KiteError.from(thrown);
    if (error.code !== "unauthenticated") throw error;
    throw new KiteError("unauthenticated", `${path}: ${error.message}; ask kontrol's administrator for a new one`, { cause: error });
  } finally {
    await file.close();
  }
}

/**
 * Writes the kite.key of a home, readable by its owner only. The file is there as a whole or not at all, also after a crash.
 *
 * @throws {KiteError} `unauthenticated` for a key that is broken, `failed_precondition` when the home cannot be written or others may write to it.
 * @example const kite = new Kite({ ...options, onKey: async (jwt) => void (await writeKiteKey(home, jwt)) });
 */
export async function writeKiteKey(home: string, jwt: string): Promise<KiteKey> {
  const kiteKey = await parseKiteKey(jwt);
  const path = kiteKeyPath(home);
  const fresh = `${path}.${randomUUID()}`;
  try {
    await mkdir(home, { recursive: true, mode: 0o700 });
    await checkHome(home);
    await writeSynced(fresh, `${kiteKey.jwt}\n`);
    await rename(fresh, path);
    await syncDirectory(home);
  } catch (thrown) {
    throw thrown instanceof KiteError ? thrown : notUsable("write", path, thrown);
  } finally {
    await rm(fresh, { force: true }).catch(() => {}); // what went wrong before is what matters
  }
  return kiteKey;
}

/**
 * Writes the kite.key that `make` answers with to a new file that its owner alone can read. The file is made first, so that no
 * credential comes into being that then has no place; it is taken away again when nothing comes. Answers with its full path.
 *
 * @throws {KiteError} `already_exists` when there is such a file, `failed_precondition` when it cannot be written, and what `make` throws.
 * @example const path = await writeNewKiteKey("bob.kite.key", async () => (await kontrol.keys.issue({ username: "bob" })).kiteKey);
 */
export async function writeNewKiteKey(path: string, make: () => Promise<string>): Promise<string> {
  const full = resolve(path);
  const file = await open(full, "wx", 0o400).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "EEXIST")
      throw new KiteError("already_exists", `there is a file ${full} already; move it away first, or choose another name`, { cause });
    throw new KiteError("failed_precondition", `${full} cannot be written: ${cause.message}`, { cause });
  });
  try {
    await file.writeFile(`${await make()}\n`);
    await file.sync();
  } catch (thrown) {
    await rm(full, { force: true });
    throw thrown;
  } finally {
    await file.close();
  }
  return full;
}

const MAX_FILE_BYTES = 16 * 1024;
const READABLE_BY_OTHERS = 0o077;
const WRITABLE_BY_OTHERS = 0o022;

async function checkPrivate(file: FileHandle, path: string): Promise<void> {
  const { mode, uid } = await file.stat();
  const self = process.geteuid?.();
  // Windows has neither owners nor modes of this kind.
  if (self === undefined) return;
  if ((mode & READABLE_BY_OTHERS) !== 0) {
    throw new KiteError(
      "failed_precondition",
      `${path} has mode ${octal(mode)}: others may read it, so it is not used; run: chmod 400 ${path}`,
    );
  }
  if (self !== 0 && uid !== self && uid !== 0) {
    throw new KiteError("failed_precondition", `${path} belongs to user ${uid}, and this is user ${self}; only one's own kite.key is used`);
  }
}

/** Who can write to the home can replace the key. A home that exists is only looked at: it may be more than ours. */
async function checkHome(home: string): Promise<void> {
  const { mode } = await stat(home);
  if (process.geteuid === undefined || (mode & WRITABLE_BY_OTHERS) === 0) return;
  throw new KiteError(
    "failed_precondition",
    `${home} has mode ${octal(mode)}: others may write to it, so no kite.key is put there; run: chmod 700 ${home}`,
  );
}

async function readBounded(file: FileHandle, path: string): Promise<string> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_FILE_BYTES + 1), 0, MAX_FILE_BYTES + 1, 0);
  if (bytesRead > MAX_FILE_BYTES) throw new KiteError("unauthenticated", `a kite.key has at most ${MAX_FILE_BYTES} bytes`, { cause: path });
  return buffer.toString("utf8", 0, bytesRead);
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", 0o400);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Without this the new name could be lost with the power, and the old key with it. */
async function syncDirectory(home: string): Promise<void> {
  if (process.platform === "win32") return;
  const directory = await open(home, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function notUsable(action: string, path: string, cause: unknown): KiteError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new KiteError("failed_precondition", `cannot ${action} ${path}: ${why}; set KITE_HOME to a directory of yours`, { cause });
}

function isErrno(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === code;
}

function octal(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, "0");
}
