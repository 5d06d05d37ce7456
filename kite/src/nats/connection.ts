import type { NatsConnection } from "nats";
import { KiteError } from "../errors.ts";

/** What a NATS connection carries for kite, and tells when it is lost. */
export interface Carried {
  /** Called every second. */
  tick(): void;
  /** Everything that was on its way is lost. */
  lost(why: string): void;
  /** NATS does not allow to publish there. */
  forbidden(subject: string): void;
}

/**
 * One NATS connection as kite's links see it: whether it stands, and what it carries. It lives as long as the connection,
 * which belongs to whoever opened it.
 */
export class CarrierConnection {
  readonly connection: NatsConnection;
  readonly #carried = new Set<Carried>();
  readonly #waiting = new Set<() => void>();
  readonly #listeners = new Set<() => void>();
  #connected = true;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** The one of this NATS connection: its states are followed once, however many dial and listen over it. */
  static of(connection: NatsConnection): CarrierConnection {
    let carrier = carriers.get(connection);
    if (carrier === undefined) {
      carrier = new CarrierConnection(connection);
      carriers.set(connection, carrier);
    }
    return carrier;
  }

  private constructor(connection: NatsConnection) {
    this.connection = connection;
    void this.#follow();
    void connection.closed().then(() => this.#onLost("the connection to NATS was closed"));
  }

  get connected(): boolean {
    return this.#connected && !this.connection.isClosed();
  }

  /** The largest message, header and all, that is sent in one piece. */
  get pieceBytes(): number {
    return Math.min(this.connection.info?.max_payload ?? PIECE_BYTES, PIECE_BYTES);
  }

  add(carried: Carried): void {
    this.#carried.add(carried);
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => {
      for (const each of [...this.#carried]) each.tick();
    }, TICK_MS);
    this.#timer.unref();
  }

  delete(carried: Carried): void {
    this.#carried.delete(carried);
    if (this.#carried.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Calls `listener` whenever the connection stands again, until the returned function is called. */
  onStanding(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Waits until the connection stands; answers at once while it does. */
  async standing(signal: AbortSignal): Promise<void> {
    while (!this.connected) {
      if (this.connection.isClosed()) throw new KiteError("unavailable", "the connection to NATS has closed; open another one");
      await new Promise<void>((resolve, reject) => {
        const wake = () => {
          this.#waiting.delete(wake);
          signal.removeEventListener("abort", abort);
          resolve();
        };
        const abort = () => {
          this.#waiting.delete(wake);
          reject(signal.reason);
        };
        if (signal.aborted) return abort();
        this.#waiting.add(wake);
        signal.addEventListener("abort", abort, { once: true });
      });
    }
  }

  /** Waits until NATS has taken in everything that was sent, but not for ever. */
  async flushed(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new KiteError("unavailable", `NATS did not answer within ${FLUSH_MS} ms`)), FLUSH_MS);
    });
    try {
      await Promise.race([this.connection.flush(), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === "disconnect") this.#onLost("the connection to NATS was lost");
      else if (status.type === "reconnect") this.#onStanding();
      else if (status.type === "error" && status.permissionContext?.operation === "publish") {
        for (const each of [...this.#carried]) each.forbidden(status.permissionContext.subject);
      }
    }
  }

  #onLost(why: string): void {
    this.#connected = false;
    for (const each of [...this.#carried]) each.lost(why);
    this.#wake();
  }

  #onStanding(): void {
    this.#connected = true;
    this.#wake();
    for (const listener of [...this.#listeners]) listener();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

const carriers = new WeakMap<NatsConnection, CarrierConnection>();

// A server on another continent answers in a fraction of this.
const FLUSH_MS = 5_000;
/** How often links look after themselves. */
const TICK_MS = 1_000;
// Larger messages make others on the same connection wait; smaller ones only cost more headers.
const PIECE_BYTES = 256 * 1024;
