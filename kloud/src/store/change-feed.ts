import pg from "pg";
import type { Change } from "./store.ts";

export interface ChangeFeedOptions {
  databaseUrl: string;
  log: { warn(fields: object, message: string): void };
}

/**
 * Hears of every write through one LISTEN connection. When that connection breaks it makes a new one and says `resync`,
 * because notifications of the meantime are lost. Close it with `close()`.
 */
export class ChangeFeed {
  readonly #options: ChangeFeedOptions;
  readonly #listeners = new Set<(change: Change) => void>();
  #client: pg.Client | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: ChangeFeedOptions) {
    this.#options = options;
  }

  /** Resolves once it listens; from then on it stays connected by itself. */
  async start(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#options.databaseUrl,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
    });
    this.#client = client;
    client.on("notification", ({ payload }) => payload !== undefined && this.#tell(JSON.parse(payload) as Change));
    client.on("error", () => this.#lost(client));
    client.on("end", () => this.#lost(client));
    await client.connect();
    await client.query("listen kloud");
  }

  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#listeners.clear();
    const client = this.#client;
    this.#client = undefined;
    // A client that never connected or has already broken has nothing to say goodbye to.
    await client?.end().catch(() => undefined);
  }

  #lost(client: pg.Client): void {
    if (this.#closed || this.#client !== client) return;
    this.#client = undefined;
    this.#options.log.warn({}, "the database connection that brings changes was lost; connecting again");
    // A connection whose end was not clean still holds its socket.
    void client.end().catch(() => undefined);
    this.#reconnectSoon();
  }

  #reconnectSoon(): void {
    this.#retry = setTimeout(() => {
      this.start().then(
        () => this.#tell({ type: "resync" }),
        () => {
          // The client's own "end" may have been first, and has then planned the next try already.
          if (this.#closed || this.#client === undefined) return;
          this.#client = undefined;
          this.#reconnectSoon();
        },
      );
    }, RETRY_MS);
  }

  #tell(change: Change): void {
    for (const listener of this.#listeners) listener(change);
  }
}

const CONNECT_TIMEOUT_MS = 5_000;
// One process reconnects, not a herd; half a second keeps the gap small and the log short.
const RETRY_MS = 500;
