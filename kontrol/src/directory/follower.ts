import { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { KiteError, type Logger } from "@kite-mesh/kite";
import pg from "pg";
import type { Entry } from "../database/log.ts";
import { Outage } from "../database/outage.ts";
import type { Change } from "../database/record.ts";
import type { Directory } from "./directory.ts";
import { readSnapshot } from "./snapshot.ts";

export interface FollowerOptions {
  readonly databaseUrl: string;
  readonly directory: Directory;
  readonly revocationsMs: number;
  readonly log: Logger;
}

const CATCH_UP = "select revision::float8 as revision, kind, data from kontrol.log where revision > $1 order by revision limit $2";
const HEAD = "select revision::float8 as revision from kontrol.head";
// A thousand entries are half a MB: a replica that was away for long takes them in several bites.
const BITE = 1_000;
// A query that reads the log is answered in milliseconds; one that is not tells of a connection that is dead.
const QUERY_LIMIT_MS = 5_000;
const RETRY_FIRST_MS = 50;
const RETRY_MOST_MS = 2_000;

/**
 * Keeps the directory as new as the log. It LISTENs on a connection of its own; when that is lost it connects again and
 * reads what it missed by revision, or all tables if the log no longer reaches back that far. Reads of the directory
 * never wait for any of this.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #closing = new AbortController();
  readonly #waiting = new Set<{ revision: number; wake: () => void }>();
  #client: pg.Client | undefined;
  #socket: Socket | undefined;
  #wanted = 0;
  #catching = false;
  #caughtUp: Promise<void> = Promise.resolve();
  /** The last look at the head of the log: when it was begun, and what was there. */
  #looked = { at: moment(), revision: Number.POSITIVE_INFINITY };
  #current = moment();
  #running: Promise<void> = Promise.resolve();

  private constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Loads the directory, and follows from then on until `close`. */
  static async start(options: FollowerOptions): Promise<Follower> {
    const follower = new Follower(options);
    const { lost } = await follower.#connect(true);
    follower.#running = follower.#stayConnected(lost);
    return follower;
  }

  /** Whether changes that other processes make are heard at once. */
  get connected(): boolean {
    return this.#client !== undefined;
  }

  /** How many changes the database has, as far as is known here, that the directory has not. */
  get behind(): number {
    return Math.max(0, this.#wanted - this.#options.directory.revision);
  }

  /** For how long there may have been changes that the directory has not, in milliseconds; a beat or less while all is well. */
  get behindMs(): number {
    const now = moment();
    return Math.max(now.upMs - this.#current.upMs, now.timeMs - this.#current.timeMs);
  }

  /** Entries that this process wrote: when they are the next ones, nothing needs to be read. */
  offer(entries: readonly Entry[]): void {
    for (const entry of entries) if (!this.#options.directory.apply(entry)) this.expect(entry.revision);
    this.#wake();
  }

  /** Says that the log goes on at least to this revision. */
  expect(revision: number): void {
    if (!Number.isSafeInteger(revision)) return;
    this.#wanted = Math.max(this.#wanted, revision);
    if (!this.#catching) this.#caughtUp = this.#catchUp();
  }

  /**
   * Waits until the directory contains a revision that has been committed.
   *
   * @throws {KiteError} `unavailable` when it does not within the limit.
   */
  async reached(revision: number): Promise<void> {
    if (this.#options.directory.revision >= revision) return;
    this.expect(revision);
    let late: NodeJS.Timeout | undefined;
    const waiting = { revision, wake: () => {} };
    try {
      await new Promise<void>((resolve, reject) => {
        waiting.wake = resolve;
        this.#waiting.add(waiting);
        const error = new KiteError(
          "unavailable",
          "the change is stored, but kontrol's directory does not have it yet; ask again in a moment",
        );
        late = setTimeout(() => reject(error), QUERY_LIMIT_MS);
      });
    } finally {
      clearTimeout(late);
      this.#waiting.delete(waiting);
    }
  }

  /** Asks whether the server still answers here: one that stands still keeps the connection, and would not be missed. */
  async check(): Promise<void> {
    if (!this.#catching) this.#caughtUp = this.#catchUp({ ask: true });
    await this.#caughtUp;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    // Ending the connection ends a query that it waits for, too.
    this.#drop();
    await this.#running;
    await this.#caughtUp;
  }

  /** Without a goodbye: a server that stands still would not answer it. */
  #drop(): void {
    this.#socket?.destroy();
  }

  /** Connects and catches up; answers with what settles when the connection is lost. */
  async #connect(first: boolean): Promise<{ lost: Promise<void> }> {
    const { databaseUrl, directory, revocationsMs } = this.#options;
    const socket = new Socket();
    const client = new pg.Client({
      stream: () => socket,
      connectionString: databaseUrl,
      application_name: "kontrol follower",
      keepAlive: true,
      connectionTimeoutMillis: QUERY_LIMIT_MS,
      query_timeout: QUERY_LIMIT_MS,
    });
    const lost = new Promise<void>((resolve) => {
      client.once("end", resolve);
      client.on("error", () => resolve());
    });
    client.on("notification", ({ payload }) => this.expect(Number(payload)));
    try {
      await client.connect();
      // Listen first: what is committed while the tables are read is then announced, and comes after them.
      await client.query("listen kontrol");
      if (first) directory.reset(await readSnapshot(client, revocationsMs));
      const at = moment();
      const head = await client.query<{ revision: number }>(HEAD);
      if (this.#closing.signal.aborted) throw new KiteError("cancelled", "kontrol was closed while it connected");
      this.#client = client;
      this.#socket = socket;
      this.#looked = { at, revision: head.rows[0]?.revision ?? 0 };
      this.expect(this.#looked.revision);
      const forgotten = lost.then(() => {
        this.#client = undefined;
      });
      return { lost: forgotten };
    } catch (cause) {
      socket.destroy();
      throw cause;
    }
  }

  async #stayConnected(first: Promise<void>): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#closing;
    let lost = first;
    let waitMs = RETRY_FIRST_MS;
    const outage = new Outage(log);
    for (;;) {
      await lost;
      if (signal.aborted) return;
      log.warn({}, "the connection that follows the log was lost; connecting again");
      for (let connected = false; !connected; ) {
        await delay(waitMs, undefined, { signal }).catch(() => {});
        if (signal.aborted) return;
        waitMs = Math.min(waitMs * 2, RETRY_MOST_MS);
        try {
          ({ lost } = await this.#connect(false));
          connected = true;
          outage.over("the database answers again, and the log is followed");
        } catch (cause) {
          outage.failed(cause, "the database does not answer; the directory stays as it was, and it is tried again");
        }
      }
      waitMs = RETRY_FIRST_MS;
    }
  }

  async #catchUp({ ask = false } = {}): Promise<void> {
    const { directory, log } = this.#options;
    this.#catching = true;
    try {
      const at = moment();
      const head = ask ? await this.#client?.query<{ revision: number }>(HEAD) : undefined;
      if (head !== undefined) this.#looked = { at, revision: head.rows[0]?.revision ?? 0 };
      this.#wanted = Math.max(this.#wanted, head?.rows[0]?.revision ?? 0);
      while (directory.revision < this.#wanted && this.#client !== undefined && !this.#closing.signal.aborted)
        await this.#bite(this.#client);
    } catch (cause) {
      if (this.#closing.signal.aborted) return;
      log.warn({ err: cause }, "the log could not be read; connecting again");
      this.#drop();
    } finally {
      this.#catching = false;
      this.#wake();
    }
  }

  async #bite(client: pg.Client): Promise<void> {
    const { directory, revocationsMs, log } = this.#options;
    const from = directory.revision;
    const wanted = this.#wanted;
    const { rows } = await client.query<{ revision: number; kind: string; data: object }>({
      name: "bite",
      text: CATCH_UP,
      values: [from, BITE],
    });
    for (const { revision, kind, data } of rows) {
      // The log is written by kontrol alone, from the same type.
      if (directory.apply({ revision, change: { kind, ...data } as Change })) continue;
      log.info({ from, to: revision }, "the log no longer reaches back that far; reading the tables");
      return directory.reset(await readSnapshot(client, revocationsMs));
    }
    if (directory.revision > from) return;
    directory.reset(await readSnapshot(client, revocationsMs));
    // Whoever announced more than there is was wrong, and asking again would not change that. What was announced while
    // the tables were read is another matter: it may be newer than they were, and the next bite brings it.
    if (this.#wanted === wanted) this.#wanted = directory.revision;
  }

  #wake(): void {
    const { at, revision } = this.#looked;
    if (this.#options.directory.revision >= revision && at.upMs > this.#current.upMs) this.#current = at;
    for (const waiting of this.#waiting) if (waiting.revision <= this.#options.directory.revision) waiting.wake();
  }
}

/** By both clocks: one stands still while the machine sleeps, the other may be set back. */
function moment(): { readonly upMs: number; readonly timeMs: number } {
  return { upMs: performance.now(), timeMs: Date.now() };
}
