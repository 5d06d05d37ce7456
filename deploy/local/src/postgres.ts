import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readFile, realpath, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { KiteError, type Logger } from "@kite-mesh/kite";
import pg from "pg";
import { type Account, chooseAccount } from "./postgres-account.ts";
import { type Binaries, findBinaries } from "./postgres-binaries.ts";
import { prepareCluster, prepareSocketDir, SUPERUSER, serverSettings } from "./postgres-cluster.ts";
import { explainFailure, explainFileError } from "./postgres-failure.ts";
import { findServer, isAlive } from "./postgres-pid.ts";

export interface PostgresOptions {
  /** Where the cluster lives or will be made. One mesh at a time: whoever holds the home's lock may start it. */
  dataDir: string;
  /** A server that somebody else runs. With it nothing is started, and `close` stops nothing. */
  url?: string | undefined;
  /** Default true. Without it a power cut may damage the cluster: for tests only. */
  fsync?: boolean;
  log?: Logger;
  signal?: AbortSignal;
  /** Folders to look for `postgres` in, after the npm package. Default: PATH, then Debian's version folders. */
  searchPath?: readonly string[];
  /** The folder of the npm package with the binaries. Default: the one installed for this platform; null: none. */
  packageDir?: string | null;
}

export interface Postgres {
  /** For `pg`. A server started here is reached by its socket only: the url holds no password. */
  readonly url: string;
  /** For people: `PostgreSQL 18.4 (from npm)`. */
  readonly describe: string;
  /** Makes the database unless it exists, and answers with its url. */
  createDatabase(name: string): Promise<string>;
  /** False once the server's process has ended. Of a server that was only joined by url nothing is known: always true. */
  isRunning(): boolean;
  /** Fast shutdown, within {@link STOP_LIMIT_MS}. A server that was only joined by url goes on. */
  close(): Promise<void>;
}

/**
 * Starts PostgreSQL on a folder, or takes over the one that a killed mesh left running on it.
 *
 * It listens on a unix socket in a folder of mode 0700 and on no port: nothing can be taken, and no password has to be kept.
 *
 * @throws {KiteError} `unavailable` when there is no PostgreSQL or it does not start, `failed_precondition` when the folder is not fit for it.
 */
export async function startPostgres(given: PostgresOptions): Promise<Postgres> {
  if (given.url !== undefined) return joinPostgres(given.url);
  const options = { ...given, dataDir: await realPlace(given.dataDir) };
  const account = await chooseAccount(options.dataDir);
  const binaries = await findBinaries({ ...options, account });
  await prepareCluster({ dataDir: options.dataDir, fsync: options.fsync ?? true, binaries, account, signal: options.signal });
  const server = (await takeOver(options)) ?? (await launch(options, binaries, account));
  try {
    await untilReady(server, options);
  } catch (cause) {
    await stop(server);
    throw cause;
  }
  options.log?.info({ pid: server.pid, dataDir: options.dataDir, takenOver: server.child === null }, "PostgreSQL is ready");
  return {
    url: server.url,
    describe: `PostgreSQL ${binaries.version} (${binaries.origin})`,
    createDatabase: (name) => createDatabase(server.url, name),
    isRunning: () => !hasEnded(server),
    async close() {
      await stop(server, options.log);
      // The cluster's own folder has other things in it and stays; one that was made for the socket does not.
      await rmdir(server.socketDir).catch(() => {});
    },
  };
}

// Fast shutdown takes tens of milliseconds; a checkpoint on a slow disk may take seconds. After that it is ended the hard way, which costs a recovery.
const STOP_LIMIT_MS = 10_000;
// Recovery after a crash replays at most max_wal_size; a minute is far more than that takes, and far less than for ever.
const START_LIMIT_MS = 60_000;
const POLL_MS = 15;
const PORT = 5432;

interface Server {
  pid: number;
  url: string;
  /** Null when the server was there before us. */
  child: ChildProcess | null;
  socketDir: string;
  /** Where this start's own lines begin in the log. */
  logStart: number;
}

/** One folder, one name: through a symbolic link a server that runs on it would not be recognised. */
async function realPlace(dataDir: string): Promise<string> {
  try {
    await mkdir(dirname(dataDir), { recursive: true });
    return join(await realpath(dirname(dataDir)), basename(dataDir));
  } catch (cause) {
    throw explainFileError(cause, dataDir);
  }
}

/** Somebody else's server: reachable or not is found out now, with a sentence, and not at the first query. */
async function joinPostgres(url: string): Promise<Postgres> {
  const [row] = await query<{ server_version: string }>(url, "show server_version").catch((cause: unknown) => {
    const where = URL.canParse(url) ? new URL(url).host || "its socket" : "an address that cannot be read";
    const why = KiteError.from(cause).message || "no answer";
    throw new KiteError(
      "unavailable",
      `KITE_POSTGRES_URL names a PostgreSQL at ${where} that does not answer: ${why}; correct it or unset it`,
      {
        cause,
      },
    );
  });
  return {
    url,
    describe: `PostgreSQL ${row?.server_version.split(" ")[0]} (by KITE_POSTGRES_URL)`,
    createDatabase: (name) => createDatabase(url, name),
    isRunning: () => true,
    close: async () => {},
  };
}

/** A server that outlived its mesh goes on serving: its clients' work is committed, and a restart would only cost time. */
async function takeOver({ dataDir, log }: PostgresOptions): Promise<Server | null> {
  const found = await findServer(dataDir);
  if (found === null) return null;
  log?.info({ pid: found.pid }, "PostgreSQL from an earlier run is still there; taking it over");
  return { pid: found.pid, url: socketUrl(found.socketDir), child: null, socketDir: found.socketDir, logStart: 0 };
}

async function launch(options: PostgresOptions, binaries: Binaries, account: Account): Promise<Server> {
  const { dataDir, fsync = true } = options;
  const socketDir = await prepareSocketDir(dataDir, account);
  const settings = serverSettings({ socketDir, fsync, major: binaries.major, port: PORT });
  const command = account.wrap(binaries.postgres, ["-D", dataDir, ...settings]);
  const log = await openLog(dataDir);
  const { size: logStart } = await log.stat();
  try {
    // A session of its own: Ctrl-C in the terminal reaches us alone, and we stop it last. Output to a file: it must outlive our pipes.
    const child = spawn(command.file, command.args, {
      ...account.spawn,
      env: binaries.env,
      cwd: dataDir,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    await started(child);
    child.unref();
    return { pid: child.pid as number, url: socketUrl(socketDir), child, socketDir, logStart };
  } finally {
    await log.close();
  }
}

function started(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) => reject(new KiteError("unavailable", `postgres could not be started: ${cause.message}`, { cause })));
  });
}

async function untilReady(server: Server, { dataDir, signal }: PostgresOptions): Promise<void> {
  const deadline = Date.now() + START_LIMIT_MS;
  for (;;) {
    if (signal?.aborted) throw new KiteError("cancelled", "PostgreSQL's start was cancelled", { cause: signal.reason });
    const problem = await query(server.url, "select 1").then(
      () => null,
      (cause: unknown) => cause,
    );
    if (problem === null) return;
    if (hasEnded(server)) throw explainFailure("postgres", dataDir, await logSince(dataDir, server.logStart));
    if (Date.now() > deadline) {
      const why = KiteError.from(problem).message;
      throw new KiteError(
        "unavailable",
        `PostgreSQL on ${dataDir} gave no answer in ${START_LIMIT_MS / 1000} s: ${why}; see ${logFile(dataDir)}`,
      );
    }
    await delay(POLL_MS);
  }
}

async function stop(server: Server, log?: Logger): Promise<void> {
  for (const [signal, limitMs] of [
    ["SIGINT", STOP_LIMIT_MS],
    ["SIGQUIT", STOP_LIMIT_MS / 2],
    ["SIGKILL", STOP_LIMIT_MS / 2],
  ] as const) {
    if (hasEnded(server)) return;
    signalServer(server.pid, signal);
    const deadline = Date.now() + limitMs;
    while (!hasEnded(server) && Date.now() < deadline) await delay(POLL_MS);
    if (!hasEnded(server)) log?.warn({ pid: server.pid, signal }, `PostgreSQL did not stop in ${limitMs} ms`);
  }
}

/** It may end between the look and the signal. */
function signalServer(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ESRCH") throw cause;
  }
}

function hasEnded({ child, pid }: Server): boolean {
  return child === null ? !isAlive(pid) : child.exitCode !== null || child.signalCode !== null;
}

async function createDatabase(url: string, name: string): Promise<string> {
  try {
    await query(url, `create database ${pg.escapeIdentifier(name)}`);
  } catch (cause) {
    // 42P04: it exists. 23505: another connection is making it at this moment.
    const code = (cause as { code?: string }).code;
    if (code !== "42P04" && code !== "23505") throw cause;
  }
  const own = new URL(url);
  own.pathname = `/${encodeURIComponent(name)}`;
  return own.href;
}

async function query<Row extends pg.QueryResultRow>(url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  // A server that goes down between two packets must not take the process with it.
  client.on("error", () => {});
  try {
    await client.connect();
    return (await client.query<Row>(text)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

function socketUrl(dir: string): string {
  return `postgresql://${SUPERUSER}@localhost:${PORT}/postgres?host=${encodeURIComponent(dir)}`;
}

const logFile = (dataDir: string) => join(dataDir, "server.log");
// Older output is of no use once the server has started again; without a bound the file would grow for ever.
const LOG_LIMIT_BYTES = 4 * 1024 * 1024;

async function openLog(dataDir: string) {
  const path = logFile(dataDir);
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_LIMIT_BYTES) await rm(path);
  return open(path, "a", 0o600);
}

async function logSince(dataDir: string, start: number): Promise<string> {
  const text = await readFile(logFile(dataDir)).catch(() => Buffer.alloc(0));
  return text.subarray(start).toString("utf8");
}
