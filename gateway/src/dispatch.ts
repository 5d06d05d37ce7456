import { type Bus, KiteError, type Logger } from "@kite-mesh/kite";
import type { Database } from "./database.ts";
import { parseBody } from "./events.ts";
import { failDelivery, finishDelivery, type Leased, renewLeases, takeDeliveries } from "./queue.ts";

/** What subscribers of `gitlab.>` get. They may get the same one twice, and must then do nothing new. */
export interface GitlabEvent {
  readonly deliveryId: string;
  readonly instance: string;
  readonly webhookId: string;
  readonly scope: string;
  readonly kind: string;
  readonly action: string | null;
  readonly receivedAt: string;
  /** True when an administrator put it back into the queue. */
  readonly replayed: boolean;
  /** GitLab's words, unchanged: parse what you need, and expect more and fewer fields than the documentation says. */
  readonly body: unknown;
}

export interface DispatcherOptions {
  database: Database;
  bus: Bus;
  log: Logger;
  /** How many objects are worked on at once. Default 16. */
  concurrency?: number;
  /** After so many failed tries a delivery is dead. Default 12, about twenty minutes. */
  maxTries?: number;
  /** How long a delivery stays with a gateway that shows no sign of life. Default 15 s. */
  leaseMs?: number;
  /** How long the subscribers may take. Default 60 s. */
  handlingMs?: number;
  /** The longest time without a look into the ledger, for what another gateway left behind. Default 30 s. */
  safetyMs?: number;
  /** Milliseconds until the next try, after so many that failed. */
  backoff?: (tries: number) => number;
}

const DEFAULTS = { concurrency: 16, maxTries: 12, leaseMs: 15_000, handlingMs: 60_000, safetyMs: 30_000, backoff: doubling } as const;
const MAX_BACKOFF_MS = 300_000;
// Closing must not hang on a subscriber that hangs; its lease then runs out, and another gateway goes on.
const CLOSING_MS = 10_000;
const MAX_REASON = 500;

/**
 * Moves deliveries from the ledger to the bus: those about one object one after the other, everything else side by side.
 * It is woken when one was recorded, and otherwise sleeps until a retry or a foreign lease is due. A gateway that dies
 * in between leaves its deliveries leased; they are handled again once the lease has run out.
 */
export class Dispatcher implements AsyncDisposable {
  readonly #options: Required<DispatcherOptions>;
  readonly #inHand = new Map<string, Promise<void>>();
  readonly #leases = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #taking: Promise<void> | undefined;
  #wanted = false;
  /** Where the last look ended; the next goes on from there. */
  #cursor = "";
  #closed = false;

  constructor(options: DispatcherOptions) {
    this.#options = { ...DEFAULTS, ...options };
    this.wake();
  }

  /** There may be something to do: call it whenever a delivery was recorded or put back. */
  wake(): void {
    this.#wanted = true;
    if (this.#closed || this.#taking !== undefined) return;
    this.#taking = this.#take().finally(() => {
      this.#taking = undefined;
      if (this.#wanted && this.#free > 0) this.wake();
    });
  }

  /** Takes nothing new, and waits for what is being handled. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#taking;
    await within(CLOSING_MS, Promise.all(this.#inHand.values()), "closing").catch((error: unknown) => {
      this.#options.log.warn(
        { error: KiteError.from(error).message, inHand: this.#inHand.size },
        "deliveries were still being handled at the end",
      );
    });
    clearInterval(this.#renewal);
  }

  get #free(): number {
    return this.#options.concurrency - this.#inHand.size;
  }

  async #take(): Promise<void> {
    const { database, leaseMs, safetyMs, log } = this.#options;
    let waitMs = safetyMs;
    try {
      while (this.#wanted && this.#free > 0 && !this.#closed) {
        this.#wanted = false;
        const { deliveries, nextInMs, cursor } = await takeDeliveries(database, { limit: this.#free, leaseMs, cursor: this.#cursor });
        this.#cursor = cursor;
        for (const leased of deliveries) this.#start(leased);
        waitMs = Math.min(safetyMs, nextInMs ?? safetyMs);
      }
    } catch (error) {
      waitMs = Math.min(safetyMs, RETRY_LEDGER_MS);
      log.warn({ error: KiteError.from(error).message }, "the ledger could not be read; the dispatcher tries again");
    }
    this.#wakeIn(waitMs);
  }

  #wakeIn(waitMs: number): void {
    clearTimeout(this.#timer);
    // A few milliseconds late is better than a few early, which would be a look for nothing.
    if (!this.#closed) this.#timer = setTimeout(() => this.wake(), waitMs + 5);
  }

  #start(leased: Leased): void {
    this.#renewal ??= setInterval(() => this.#renew(), this.#options.leaseMs / 3);
    const work = this.#work(leased).finally(() => {
      this.#inHand.delete(leased.id);
      if (this.#inHand.size === 0) {
        clearInterval(this.#renewal);
        this.#renewal = undefined;
      }
      this.wake();
    });
    this.#inHand.set(leased.id, work);
  }

  /** Handles a delivery and those that wait behind it, about the same object. */
  async #work(first: Leased): Promise<void> {
    for (let current: Leased | undefined = first; current !== undefined; ) {
      this.#leases.add(current.lease);
      const next: Leased | undefined = await this.#handle(current);
      this.#leases.delete(current.lease);
      current = next;
    }
  }

  async #handle(leased: Leased): Promise<Leased | undefined> {
    const { database, leaseMs, log } = this.#options;
    try {
      const failure = await this.#publish(leased);
      if (failure === undefined) return await finishDelivery(database, leased, this.#closed ? undefined : leaseMs);
      await this.#fail(leased, failure);
    } catch (error) {
      // The ledger is away: the lease runs out, and the delivery is handled again.
      log.warn({ delivery: leased.id, error: KiteError.from(error).message }, "the end of a delivery could not be recorded");
    }
    return undefined;
  }

  async #publish(leased: Leased): Promise<KiteError | undefined> {
    const { bus, handlingMs, maxTries } = this.#options;
    if (leased.tries > maxTries) return new KiteError("internal", `the gateway ended ${maxTries} times while it handled this delivery`);
    const body = parseBody(leased.body);
    if (!body.ok) return new KiteError("invalid_argument", body.sentence);
    try {
      await within(handlingMs, bus.publish(leased.subject, eventOf(leased, body.value)), leased.subject);
      return undefined;
    } catch (error) {
      return KiteError.from(error);
    }
  }

  async #fail(leased: Leased, failure: KiteError): Promise<void> {
    const { database, maxTries, backoff, log } = this.#options;
    // What cannot be read today cannot be read tomorrow either.
    const last = leased.tries >= maxTries || failure.code === "invalid_argument";
    const retryInMs = last ? undefined : backoff(leased.tries);
    await failDelivery(database, leased, failure.message.slice(0, MAX_REASON), retryInMs);
    const facts = { delivery: leased.id, kind: leased.kind, tries: leased.tries, retryInMs, error: failure.message };
    log.warn(facts, last ? "a delivery is dead; replay it when its cause is gone" : "a delivery failed and is tried again");
  }

  #renew(): void {
    const { database, leaseMs, log } = this.#options;
    renewLeases(database, [...this.#leases], leaseMs).catch((error: unknown) => {
      log.warn({ error: KiteError.from(error).message }, "leases of deliveries could not be renewed");
    });
  }
}

const RETRY_LEDGER_MS = 1_000;

function eventOf(leased: Leased, body: unknown): GitlabEvent {
  const { id: deliveryId, instance, webhookId, scope, kind, action, receivedAt, replays } = leased;
  return { deliveryId, instance, webhookId, scope, kind, action, receivedAt: receivedAt.toISOString(), replayed: replays > 0, body };
}

/** 1 s, 2 s, 4 s … up to five minutes, a quarter more or less, so that many that failed together come back apart. */
function doubling(tries: number): number {
  return Math.min(MAX_BACKOFF_MS, 1_000 * 2 ** (tries - 1)) * (0.75 + Math.random() / 2);
}

async function within<T>(limitMs: number, work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new KiteError("deadline_exceeded", `${what} took longer than ${limitMs} ms`, { outcome: "unknown" })),
      limitMs,
    );
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
