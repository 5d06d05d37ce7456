import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, chown, lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { KiteError } from "@kite-mesh/kite";
import type { Account } from "./postgres-account.ts";
import type { Binaries } from "./postgres-binaries.ts";
import { explainFailure, explainFileError } from "./postgres-failure.ts";
import { isAlive } from "./postgres-pid.ts";

export const SUPERUSER = "postgres";

export interface PrepareCluster {
  dataDir: string;
  fsync: boolean;
  binaries: Binaries;
  account: Account;
  signal?: AbortSignal | undefined;
}

/**
 * Makes the cluster unless it is there. It is made beside its place and then renamed: an initdb that was killed half-way
 * leaves a folder that the next start removes, and never one that looks like a cluster.
 */
export async function prepareCluster(options: PrepareCluster): Promise<void> {
  const { dataDir, account } = options;
  try {
    await removeHalfMade(dataDir);
    if (await isCluster(dataDir)) return;
    if (account.spawn.uid !== undefined) await letThrough(dirname(dataDir));
    const draft = `${dataDir}.new-${process.pid}`;
    await mkdir(draft, { mode: 0o700 });
    if (account.owner !== undefined) await chown(draft, account.owner.uid, account.owner.gid);
    try {
      await initdb(draft, options);
      await rename(draft, dataDir);
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  } catch (cause) {
    throw explainFileError(cause, dataDir);
  }
}

/** Settings for a server that shares a laptop: little memory, few processes, one socket, no port. */
export function serverSettings({
  socketDir,
  fsync,
  major,
  port,
}: {
  socketDir: string;
  fsync: boolean;
  major: number;
  port: number;
}): string[] {
  const settings: Record<string, string | number> = {
    listen_addresses: "",
    port,
    unix_socket_directories: `"${socketDir.replaceAll('"', '""')}"`,
    unix_socket_permissions: "0700",
    // The tables of one person's mesh fit into a few megabytes; every megabyte here counts against the mesh's 250.
    shared_buffers: "16MB",
    max_wal_size: "256MB",
    // Nobody replicates from the embedded server, and parallel query needs processes that it would keep ready.
    max_logical_replication_workers: 0,
    max_parallel_workers_per_gather: 0,
    autovacuum_max_workers: 1,
    jit: "off",
    log_timezone: "UTC",
    timezone: "UTC",
  };
  // 18 starts three processes for reading ahead, which a database of this size never does.
  if (major >= 18) settings.io_method = "sync";
  if (!fsync) Object.assign(settings, { fsync: "off", synchronous_commit: "off", full_page_writes: "off" });
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

/**
 * A folder of mode 0700 for the socket: the cluster's own, unless its path is too long for the kernel's 107 bytes (103 on
 * macOS); then one below the temporary folder whose name follows from the cluster's, so that the next start finds it.
 */
export async function prepareSocketDir(dataDir: string, account: Account): Promise<string> {
  if (Buffer.byteLength(join(dataDir, SOCKET_NAME)) <= SOCKET_PATH_LIMIT) return dataDir;
  const name = createHash("sha256").update(dataDir).digest("hex").slice(0, 16);
  const dir = join(tmpdir(), `kite-postgres-${name}`);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const found = await lstat(dir);
  const expected = account.owner?.uid ?? process.getuid?.() ?? found.uid;
  if (!found.isDirectory() || (found.uid !== expected && found.uid !== process.getuid?.())) {
    throw new KiteError(
      "failed_precondition",
      `PostgreSQL's socket would be made in ${dir}, which belongs to somebody else; remove it or set TMPDIR`,
    );
  }
  await chmod(dir, 0o700);
  if (account.owner !== undefined) await chown(dir, account.owner.uid, account.owner.gid);
  return dir;
}

const SOCKET_NAME = ".s.PGSQL.5432";
const SOCKET_PATH_LIMIT = process.platform === "darwin" ? 103 : 107;
// It takes half a second; a minute is for a disk that is very busy.
const INITDB_LIMIT_MS = 60_000;

async function initdb(draft: string, { dataDir, binaries, account, fsync, signal }: PrepareCluster): Promise<void> {
  const access = ["--auth-local=trust", "--auth-host=reject", `--username=${SUPERUSER}`];
  // 4 MB instead of 16: a small mesh never fills the first segment, and each start of a new cluster writes one to its end.
  const size = ["--wal-segsize=4"];
  // Without a locale the order of texts is the same on every machine, and a cluster can be copied between them.
  const command = account.wrap(binaries.initdb, [
    "-D",
    draft,
    "--no-locale",
    "--encoding=UTF8",
    ...size,
    ...access,
    ...(fsync ? [] : ["--no-sync"]),
  ]);
  try {
    await promisify(execFile)(command.file, command.args, {
      ...account.spawn,
      env: binaries.env,
      cwd: draft,
      timeout: INITDB_LIMIT_MS,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (cause) {
    if (signal?.aborted) throw new KiteError("cancelled", "PostgreSQL's start was cancelled", { cause });
    const { stderr = "", message } = cause as { stderr?: string; message: string };
    throw explainFailure("initdb", dataDir, stderr || message);
  }
}

/** Another uid has to get to its own folder. What else lies there is not for it to read, nor to list. */
async function letThrough(folder: string): Promise<void> {
  const { mode, uid } = await lstat(folder);
  if (uid === process.getuid?.() && (mode & 0o001) === 0) await chmod(folder, (mode & 0o777) | 0o011);
}

async function isCluster(dataDir: string): Promise<boolean> {
  const entries = await readdir(dataDir).catch((cause: NodeJS.ErrnoException): string[] => {
    if (cause.code === "ENOENT") return [];
    throw cause;
  });
  if (entries.length === 0) return false;
  if (entries.includes("PG_VERSION")) return true;
  throw new KiteError(
    "failed_precondition",
    `${dataDir} should hold a PostgreSQL cluster or be empty, and holds ${entries.slice(0, 3).join(", ")}; move it away or choose another folder`,
  );
}

/** Removes what a killed start left; one that is being made by a living process stays. */
async function removeHalfMade(dataDir: string): Promise<void> {
  const prefix = `${basename(dataDir)}.new-`;
  for (const name of await readdir(dirname(dataDir))) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length)))) continue;
    await rm(join(dirname(dataDir), name), { recursive: true, force: true });
  }
}
