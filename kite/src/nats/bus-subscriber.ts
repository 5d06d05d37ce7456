import {
  AckPolicy,
  type ConsumerConfig,
  DeliverPolicy,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  type Subscription as NatsSubscription,
  nanos,
  ReplayPolicy,
} from "nats";
import { type BusHandler, type Subscription, settledWithin } from "../bus.ts";
import { KiteError, type WireError } from "../errors.ts";
import type { Logger } from "../log.ts";

/** What a subscriber tells the publisher of an event. */
export interface EventResult {
  readonly subscriber: string;
  readonly error?: WireError;
}

/** The header that says where the publisher waits for results. */
export const RESULT_HEADER = "Kite-Result";

export interface NatsSubscriberOptions {
  readonly connection: NatsConnection;
  readonly manager: () => Promise<JetStreamManager>;
  readonly stream: string;
  /** What stands before the subjects of events in NATS. */
  readonly prefix: string;
  /** The consumer's name, the same for all that share its events. */
  readonly name: string;
  /** Whether events wait for the subscriber while it is away. */
  readonly durable: boolean;
  readonly pattern: string;
  readonly handler: BusHandler;
  readonly maxPending: number;
  readonly drainMs: number;
  readonly log: Logger;
  readonly onClosed: (leaving: Promise<void>) => void;
}

/** One subscription: a JetStream consumer, and what it has in hand. The bus made it; whoever asked for it disposes it. */
export class NatsSubscriber implements Subscription {
  readonly pattern: string;
  readonly name: string;
  readonly #options: NatsSubscriberOptions;
  readonly #deliver: NatsSubscription;
  readonly #config: Partial<ConsumerConfig>;
  readonly #pending = new Map<Promise<unknown>, Msg>();
  #standing: Promise<void>;
  #inProgress: ReturnType<typeof setInterval> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: NatsSubscriberOptions) {
    const { pattern, name, durable, prefix, maxPending, connection } = options;
    this.#options = options;
    this.pattern = pattern;
    this.name = name;
    const deliverTo = `kite-bus.deliver.${options.stream}.${name}`;
    this.#deliver = connection.subscribe(deliverTo, {
      // Those that share a name share where their events go, and one of them gets each.
      ...(durable ? { queue: name } : {}),
      callback: (error, message) => (error === null ? this.#onMessage(message) : this.#onForbidden(error)),
    });
    this.#config = {
      ...(durable ? { durable_name: name, deliver_group: name } : { name }),
      deliver_subject: deliverTo,
      filter_subject: prefix + pattern,
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(ACK_WAIT_MS),
      max_deliver: MAX_TRIES,
      // Beyond the limit, so that a publisher is told of it instead of waiting.
      max_ack_pending: maxPending * 2 + 16,
      deliver_policy: DeliverPolicy.New,
      replay_policy: ReplayPolicy.Instant,
      inactive_threshold: nanos(durable ? DURABLE_AWAY_MS : AWAY_MS),
    };
    this.#standing = this.#enter();
  }

  /** Resolves when events come here; rejects when JetStream refuses. */
  get standing(): Promise<void> {
    return this.#standing;
  }

  /** NATS came back, and may have forgotten who was there. */
  restore(): void {
    if (this.#closed === undefined) this.#standing = this.#enter();
  }

  /** Takes no more events and waits for the handlers. Those of a durable one wait in the stream, if it is `kept`. */
  close(kept: boolean): Promise<void> {
    this.#closed ??= this.#close(kept);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close(false);
  }

  #enter(): Promise<void> {
    const { manager, stream, log } = this.#options;
    const entering = manager().then(async ({ consumers }) => void (await consumers.add(stream, this.#config)));
    entering.catch((err: unknown) => log.error({ err, pattern: this.pattern }, "JetStream did not take a subscription"));
    return entering;
  }

  async #close(kept: boolean): Promise<void> {
    const { connection, onClosed, drainMs } = this.#options;
    if (!connection.isClosed()) this.#deliver.unsubscribe();
    const leaving = kept ? Promise.resolve() : this.#leave();
    onClosed(leaving);
    await leaving;
    await settledWithin(this.#pending.keys(), drainMs);
    clearInterval(this.#inProgress);
  }

  async #leave(): Promise<void> {
    const { manager, stream } = this.#options;
    try {
      await this.#standing;
      await (await manager()).consumers.delete(stream, this.name);
    } catch {
      // It was never there, or JetStream is away: then it forgets the consumer by itself, since nobody listens to it.
    }
  }

  #onMessage(message: Msg): void {
    // What NATS says of the consumer itself has no reply to acknowledge.
    if (this.#closed !== undefined || !message.reply) return;
    const { maxPending, prefix } = this.#options;
    const subject = message.subject.slice(prefix.length);
    if (this.#pending.size >= maxPending) {
      const full = `the subscriber of "${this.pattern}" has ${maxPending} events in hand, its limit; "${subject}" was not given to it`;
      return this.#failed(message, new KiteError("overloaded", full));
    }
    const work = Promise.resolve().then(() => this.#options.handler(JSON.parse(message.string()) as unknown, subject));
    this.#pending.set(work, message);
    this.#inProgress ??= this.#sayInProgress();
    void work
      .then(
        () => this.#handled(message),
        (thrown: unknown) => this.#failed(message, KiteError.from(thrown)),
      )
      .finally(() => this.#pending.delete(work));
  }

  #handled(message: Msg): void {
    this.#answer(message, "+ACK", { subscriber: this.name });
  }

  /** Not delivered again: the publisher is told, and keeps what must not be lost. */
  #failed(message: Msg, error: KiteError): void {
    this.#answer(message, "+TERM", { subscriber: this.name, error: error.toWire() });
  }

  #answer(message: Msg, acknowledgement: "+ACK" | "+TERM", result: EventResult): void {
    const { connection, log } = this.#options;
    try {
      message.respond(acknowledgement);
      const publisher = message.headers?.get(RESULT_HEADER);
      // With this service's rights a stranger could otherwise publish where it may not itself.
      if (publisher?.startsWith(RESULT_PREFIX)) connection.publish(publisher, JSON.stringify(result));
    } catch (err) {
      log.warn({ err, pattern: this.pattern }, "the result of an event could not be told; it may come again");
    }
  }

  /** Work that takes long is not taken for lost. */
  #sayInProgress(): ReturnType<typeof setInterval> {
    const timer = setInterval(() => {
      if (this.#options.connection.isClosed()) return clearInterval(timer);
      try {
        for (const message of this.#pending.values()) message.respond("+WPI");
      } catch {
        // A connection that is being drained takes nothing more; thrown out of a timer, that would end the process.
        clearInterval(timer);
      }
    }, ACK_WAIT_MS / 3);
    timer.unref();
    return timer;
  }

  #onForbidden(err: Error): void {
    this.#options.log.error({ err, pattern: this.pattern }, "NATS does not let this subscriber listen");
  }
}

/** Where publishers wait for results. */
export const RESULT_PREFIX = "kite-bus.result.";

// A process that was killed leaves its events to others, or to itself, after this long.
const ACK_WAIT_MS = 15_000;
// An event that ends its handler's process ends it this many times, and not for ever.
const MAX_TRIES = 5;
// Long enough for a connection that is lost to come back.
const AWAY_MS = 60_000;
// A service that was not started again for an hour is not coming back for its events.
const DURABLE_AWAY_MS = 60 * 60_000;
