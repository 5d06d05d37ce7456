import { Socket } from "node:net";
import { KiteError } from "@kite-mesh/kite";
import pg from "pg";
import { migrate } from "./migrate.ts";

// A registration batch, a handful of people's requests and the start-up queries run side by side; more would only
// queue at the log's head inside PostgreSQL instead of here.
const CONNECTIONS = 6;
// Answers within milliseconds when it is there; a caller of kontrol waits a minute at most, and is to be told before that.
const CONNECT_LIMIT_MS = 10_000;
const STATEMENT_LIMIT_MS = 10_000;
// The server keeps the limit above by itself. One that stands still, or cannot be reached, keeps none.
const ANSWER_LIMIT_MS = 12_000;
// Between two statements of a transaction there are microseconds. A kontrol that stands still in between would hold the
// head of the log, and with it every other kontrol, for as long as it stands.
const IDLE_IN_TRANSACTION_LIMIT_MS = 10_000;
// What is open by then belongs to a server that does not say goodbye.
const END_LIMIT_MS = 3_000;
// 12 is the oldest that the tests are run against.
const OLDEST_MAJOR = 12;

/**
 * Connects, and brings the schema up to date. Whoever opened the pool ends it.
 *
 * @throws {KiteError} `unavailable` naming the setting when nothing answers there, `failed_precondition` when it is too old.
 */
export async function openDatabase(databaseUrl: string, onError: (cause: Error) => void): Promise<pg.Pool> {
  const pool = new Database(databaseUrl);
  // A connection that dies while idle reports here; the pool replaces it by itself.
  pool.on("error", onError);
  // While one is being lent nobody listens to it, and PostgreSQL may say in the same packet that it is ready and that it is
  // ended: without this, that would end the process. Whoever has it learns of it from the next query.
  pool.on("connect", (client) => client.on("error", () => {}));
  try {
    const { rows } = await pool.query<{ server_version: string }>("show server_version");
    checkVersion(rows[0]?.server_version ?? "");
    await migrate(databaseUrl);
    return pool;
  } catch (cause) {
    await pool.end();
    throw cause instanceof KiteError ? cause : unreachable(databaseUrl, cause as Error);
  }
}

/** A pool with the limits above, which also ends when the server does not take its leave. */
class Database extends pg.Pool {
  readonly #sockets: ReadonlySet<Socket>;

  constructor(databaseUrl: string) {
    const sockets = new Set<Socket>();
    super({
      connectionString: databaseUrl,
      max: CONNECTIONS,
      connectionTimeoutMillis: CONNECT_LIMIT_MS,
      statement_timeout: STATEMENT_LIMIT_MS,
      query_timeout: ANSWER_LIMIT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_LIMIT_MS,
      application_name: "kontrol",
      keepAlive: true,
      stream: () => {
        const socket = new Socket();
        sockets.add(socket);
        return socket.once("close", () => sockets.delete(socket));
      },
    });
    this.#sockets = sockets;
  }

  override async end(): Promise<void> {
    const overdue = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, END_LIMIT_MS);
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

function unreachable(databaseUrl: string, cause: Error): KiteError {
  const why = cause.message || (cause as NodeJS.ErrnoException).code || "no answer";
  return new KiteError("unavailable", `no PostgreSQL at ${withoutPassword(databaseUrl)} (KONTROL_DATABASE_URL): ${why}`, { cause });
}

function withoutPassword(databaseUrl: string): string {
  if (!URL.canParse(databaseUrl)) return "the given url";
  const url = new URL(databaseUrl);
  return `${url.host}${url.pathname}`;
}
