import { Socket } from "node:net";
import { KiteError } from "@kite-mesh/kite";
import pg from "pg";
import { migrate } from "./migrate.ts";

// A registration batch, a handful of people's requests and the start-up queries run side by side; more would only
// queue at the log's head inside PostgreSQL instead of here.
const CONNECTIONS = 6;
/** How long is waited for what, in milliseconds. */
export interface DatabaseLimits {
  /** For a connection, a free one of the pool too. */
  readonly connectMs: number;
  /** A statement, by the server's clock. */
  readonly statementMs: number;
  /** An answer, by ours: a server that stands still, or cannot be reached, keeps no limits. */
  readonly answerMs: number;
  /** Between two statements of a transaction, by the server's clock. */
  readonly idleInTransactionMs: number;
  /** After the pool was ended, for the server to take its leave. */
  readonly endMs: number;
}

// PostgreSQL answers within milliseconds when it is there; a caller of kontrol waits a minute at most, and is to be told
// before that. A kontrol that stands still in the middle of a transaction holds the head of the log, and with it all others.
const LIMITS: DatabaseLimits = { connectMs: 10_000, statementMs: 10_000, answerMs: 12_000, idleInTransactionMs: 10_000, endMs: 3_000 };
// 12 is the oldest that the tests are run against.
const OLDEST_MAJOR = 12;

/** Who only looks, or changes a row, must not make a mesh in whatever database he named by mistake. */
export type MeshUse = "make" | "must-exist";

/**
 * Connects, and brings the schema up to date, of a mesh that is made or has to be there. Whoever opened the pool ends it.
 *
 * @throws {KiteError} `unavailable` naming the setting when nothing answers there, `failed_precondition` when it is too old, or
 * when there is no mesh.
 */
export async function openDatabase(
  databaseUrl: string,
  onError: (cause: Error) => void,
  { mesh = "make", ...limits }: { mesh?: MeshUse | undefined } & Partial<DatabaseLimits> = {},
): Promise<pg.Pool> {
  const pool = new Database(databaseUrl, { ...LIMITS, ...limits });
  // A connection that dies while idle reports here; the pool replaces it by itself.
  pool.on("error", onError);
  // While one is being lent nobody listens to it, and PostgreSQL may say in the same packet that it is ready and that it is
  // ended: without this, that would end the process. Whoever has it learns of it from the next query.
  pool.on("connect", (client) => client.on("error", () => {}));
  try {
    const { rows } = await pool.query<{ server_version: string }>("show server_version");
    checkVersion(rows[0]?.server_version ?? "");
    if (mesh === "must-exist") await checkMesh(pool);
    await migrate(databaseUrl);
    return pool;
  } catch (cause) {
    await pool.end();
    throw cause instanceof KiteError ? cause : unreachable(databaseUrl, cause as Error);
  }
}

async function checkMesh(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ there: boolean }>("select to_regclass('kontrol.migrations') is not null as there");
  if (rows[0]?.there) return;
  throw new KiteError("failed_precondition", "there is no mesh in this database; kontrol init makes one, with its first administrator");
}

/** A pool with the limits above, which also ends when the server does not take its leave. */
class Database extends pg.Pool {
  readonly #sockets: ReadonlySet<Socket>;
  readonly #endMs: number;

  constructor(databaseUrl: string, { connectMs, statementMs, answerMs, idleInTransactionMs, endMs }: DatabaseLimits) {
    const sockets = new Set<Socket>();
    super({
      connectionString: databaseUrl,
      max: CONNECTIONS,
      connectionTimeoutMillis: connectMs,
      statement_timeout: statementMs,
      query_timeout: answerMs,
      idle_in_transaction_session_timeout: idleInTransactionMs,
      application_name: "kontrol",
      keepAlive: true,
      // Statements that are given one after the other are sent so, without waiting for each answer; transactions of the log use it.
      pipeline: true,
      stream: () => {
        const socket = new Socket();
        sockets.add(socket);
        return socket.once("close", () => sockets.delete(socket));
      },
    });
    this.#sockets = sockets;
    this.#endMs = endMs;
  }

  override async end(): Promise<void> {
    const overdue = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, this.#endMs);
    await super.end();
    clearTimeout(overdue);
  }
}

/** @throws {KiteError} `failed_precondition` for a PostgreSQL that kontrol is not made for. */
export function checkVersion(version: string): void {
  if (Number.parseInt(version, 10) >= OLDEST_MAJOR) return;
  throw new KiteError(
    "failed_precondition",
    `kontrol needs PostgreSQL ${OLDEST_MAJOR} or later, and KONTROL_DATABASE_URL names a ${version}`,
  );
}

/** By this reason whoever started kontrol is told that it is not kontrol that has to be mended. */
export const NO_DATABASE = "database";

function unreachable(databaseUrl: string, cause: Error): KiteError {
  const why = cause.message || (cause as NodeJS.ErrnoException).code || "no answer";
  return new KiteError("unavailable", `no PostgreSQL at ${withoutPassword(databaseUrl)} (KONTROL_DATABASE_URL): ${why}`, {
    cause,
    reason: NO_DATABASE,
  });
}

function withoutPassword(databaseUrl: string): string {
  if (!URL.canParse(databaseUrl)) return "the given url";
  const url = new URL(databaseUrl);
  return `${url.host}${url.pathname}`;
}
