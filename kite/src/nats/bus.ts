import { createHash } from "node:crypto";
import {
  type ConsumerInfo,
  headers,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  type Subscription as NatsSubscription,
  nanos,
  RetentionPolicy,
  StorageType,
} from "nats";
import {
  allFailures,
  type Bus,
  type BusHandler,
  checkPattern,
  checkSubject,
  type MemoryBusOptions,
  type Subscription,
  settledWithin,
  subjectMatches,
} from "../bus.ts";
import { KiteError } from "../errors.ts";
import { type Logger, silent } from "../log.ts";
import { type EventResult, NatsSubscriber, RESULT_HEADER, RESULT_PREFIX } from "./bus-subscriber.ts";
import { CarrierConnection } from "./connection.ts";

/** How a service takes part in the events of its mesh; every field may be left out. */
export interface NatsBusOptions extends MemoryBusOptions {
  /**
   * What the subscribers of this service are called: its events wait while it is away for up to an hour, and of several
   * processes with one name, one handles each event. Default: none; every process gets its own, and only while it is there.
   */
  name?: string | undefined;
  /** The JetStream stream, made if it is not there. One for each mesh. Default `kite`. */
  stream?: string | undefined;
  /** How long `publish` waits for subscribers, in milliseconds. Default 60,000. */
  publishMs?: number | undefined;
  /** Where events that could not be handled are told of. Default: nowhere. */
  log?: Logger | undefined;
}

const DEFAULTS = {
  maxPending: 1_024,
  maxSubscriptions: 1_000,
  drainMs: 10_000,
  stream: "kite",
  publishMs: 60_000,
  log: silent,
  name: undefined,
};

/**
 * The bus between processes, on JetStream. Events are JSON. `publish` resolves when every subscriber in the mesh has handled
 * the event, and rejects with what failed; an event whose subscriber is killed comes again, a few times at most. The NATS
 * connection stays its owner's, who closes it after the bus.
 *
 * @throws {KiteError} `invalid_argument` when a name has other characters than letters, digits, `-` and `_`.
 * @example
 * await using bus = natsBus(await connect(), { name: "gateway" });
 * await bus.publish("gitlab.main.system.user_create", { user_id: 7 });
 */
export function natsBus(connection: NatsConnection, options: NatsBusOptions = {}): Bus {
  const all = { ...DEFAULTS, ...options };
  for (const name of [all.stream, all.name ?? "none"]) {
    if (!NAME.test(name ?? "")) throw new KiteError("invalid_argument", `a name of letters, digits, - and _ was expected, got ${name}`);
  }
  return new NatsBus(connection, all as Settings);
}

type Settings = Required<MemoryBusOptions> & { stream: string; publishMs: number; log: Logger; name: string | undefined };

class NatsBus implements Bus {
  readonly #connection: NatsConnection;
  readonly #options: Settings;
  readonly #prefix: string;
  readonly #subscribers = new Set<NatsSubscriber>();
  /** Consumers that are being deleted; who publishes now does not wait for them. */
  readonly #leaving = new Set<Promise<void>>();
  readonly #publishing = new Map<string, Publishing>();
  readonly #inbox = `${RESULT_PREFIX}${crypto.randomUUID()}`;
  readonly #results: NatsSubscription;
  readonly #forget: () => void;
  #published = 0;
  #manager: Promise<JetStreamManager> | undefined;
  #closed = false;

  constructor(connection: NatsConnection, options: Settings) {
    this.#connection = connection;
    this.#options = options;
    this.#prefix = `kite-bus.event.${options.stream}.`;
    this.#results = connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => (error === null ? this.#onResult(message) : undefined),
    });
    this.#forget = CarrierConnection.of(connection).onStanding(() => {
      // A server that came back without its disk has neither the stream nor the consumers.
      this.#manager = undefined;
      for (const subscriber of this.#subscribers) subscriber.restore();
    });
  }

  async publish(subject: string, event: unknown): Promise<void> {
    checkSubject(subject);
    if (this.#closed) throw new KiteError("unavailable", `the bus is closed; "${subject}" was not published`);
    const id = `${++this.#published}`;
    const { publishMs } = this.#options;
    const publishing = new Publishing(subject);
    this.#publishing.set(id, publishing);
    const timers = [
      setTimeout(() => publishing.giveUp(new KiteError("deadline_exceeded", late(subject, publishMs), { outcome: "unknown" })), publishMs),
      // Who has been killed or has left meanwhile is not waited for.
      setInterval(
        () =>
          void this.#roster(subject).then(
            (there) => publishing.expect(there),
            () => {},
          ),
        LOOK_AGAIN_MS,
      ),
    ];
    try {
      await this.#send(id, subject, event, publishing);
      await publishing.done;
    } finally {
      for (const timer of timers) clearTimeout(timer);
      this.#publishing.delete(id);
    }
  }

  subscribe(pattern: string, handler: BusHandler): Subscription {
    checkPattern(pattern);
    if (this.#closed) throw new KiteError("unavailable", `the bus is closed; "${pattern}" cannot be subscribed to`);
    if (this.#connection.isClosed()) throw new KiteError("unavailable", `the connection to NATS has closed; "${pattern}" gets no events`);
    const { maxSubscriptions, maxPending, drainMs, stream, name, log } = this.#options;
    if (this.#subscribers.size >= maxSubscriptions) {
      throw new KiteError("limit_exceeded", `the bus has ${maxSubscriptions} subscriptions, its limit; dispose those that are over`);
    }
    const subscriber = new NatsSubscriber({
      connection: this.#connection,
      manager: () => this.#stream(),
      stream,
      prefix: this.#prefix,
      name: name === undefined ? `once-${crypto.randomUUID()}` : this.#durableName(name, pattern),
      durable: name !== undefined,
      pattern,
      handler,
      maxPending,
      drainMs,
      log,
      onClosed: (leaving) => {
        this.#subscribers.delete(subscriber);
        this.#leaving.add(leaving);
        void leaving.finally(() => this.#leaving.delete(leaving));
      },
    });
    this.#subscribers.add(subscriber);
    return subscriber;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    const kept = this.#options.name !== undefined;
    await Promise.all([...this.#subscribers].map((subscriber) => subscriber.close(kept)));
    const waiting = [...this.#publishing.values()];
    await settledWithin(
      waiting.map(({ done }) => done),
      waiting.length === 0 ? 0 : this.#options.drainMs,
    );
    for (const publishing of waiting) publishing.giveUp(new KiteError("unavailable", "the bus was closed", { outcome: "unknown" }));
    if (!this.#connection.isClosed()) this.#results.unsubscribe();
  }

  async #send(id: string, subject: string, event: unknown, publishing: Publishing): Promise<void> {
    const text = JSON.stringify(event) ?? "null";
    const room = (this.#connection.info?.max_payload ?? MAX_PAYLOAD) - HEADER_ROOM;
    if (Buffer.byteLength(text) > room)
      throw new KiteError("limit_exceeded", `NATS carries events of ${room} bytes; "${subject}" has more`);
    try {
      await Promise.all([...this.#leaving, ...[...this.#subscribers].map(({ standing }) => standing)]);
      publishing.begin(await this.#roster(subject));
      const told = headers();
      told.set(RESULT_HEADER, `${this.#inbox}.${id}`);
      await this.#connection.jetstream().publish(this.#prefix + subject, text, { headers: told });
    } catch (cause) {
      throw new KiteError("unavailable", `JetStream did not take "${subject}": ${cause instanceof Error ? cause.message : "unknown"}`, {
        cause,
      });
    }
  }

  /** Every subscriber in the mesh that the subject is meant for. */
  async #roster(subject: string): Promise<Expected[]> {
    const { consumers } = await this.#stream();
    const list = consumers.list(this.#options.stream);
    const expected: Expected[] = [];
    for (let page = await list.next(); page.length > 0; page = await list.next()) {
      expected.push(...page.filter((info) => this.#isMeant(info, subject)).map(toExpected));
    }
    return expected.filter(({ away, durable }) => durable || !away);
  }

  #isMeant({ config }: ConsumerInfo, subject: string): boolean {
    return config.filter_subject !== undefined && subjectMatches(config.filter_subject, this.#prefix + subject);
  }

  #onResult(message: Msg): void {
    const id = message.subject.slice(this.#inbox.length + 1);
    try {
      this.#publishing.get(id)?.result(message.json<EventResult>());
    } catch (err) {
      this.#options.log.warn({ err }, "the result of an event could not be read");
    }
  }

  #stream(): Promise<JetStreamManager> {
    this.#manager ??= this.#openStream().catch((thrown: unknown) => {
      this.#manager = undefined;
      throw thrown;
    });
    return this.#manager;
  }

  async #openStream(): Promise<JetStreamManager> {
    const manager = await this.#connection.jetstreamManager();
    await manager.streams.add({
      name: this.#options.stream,
      subjects: [`${this.#prefix}>`],
      // An event is kept until everybody whom it is meant for has handled it.
      retention: RetentionPolicy.Interest,
      storage: StorageType.File,
      max_age: nanos(MAX_AGE_MS),
      max_bytes: MAX_BYTES,
    });
    return manager;
  }

  /** The same after a restart. A pattern that is subscribed to twice has two consumers, in the order of subscribing. */
  #durableName(name: string, pattern: string): string {
    const digest = createHash("sha256").update(pattern).digest("hex").slice(0, 16);
    const taken = new Set([...this.#subscribers].map((subscriber) => subscriber.name));
    for (let n = 0; ; n++) if (!taken.has(`${name}-${digest}-${n}`)) return `${name}-${digest}-${n}`;
  }
}

interface Expected {
  readonly name: string;
  readonly durable: boolean;
  /** Its process is not there; the event waits for it. */
  readonly away: boolean;
}

function toExpected({ name, config, push_bound }: ConsumerInfo): Expected {
  return { name, durable: config.durable_name !== undefined, away: push_bound !== true };
}

/** One event on its way: who has yet to say what became of it, and what was said. */
class Publishing {
  readonly done: Promise<void>;
  readonly #subject: string;
  readonly #failures: unknown[] = [];
  readonly #said = new Set<string>();
  #waiting: Set<string> | undefined;
  #resolve = () => {};
  #reject = (_: unknown) => {};

  constructor(subject: string) {
    this.#subject = subject;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Nobody listens yet when it fails before the event was sent.
    this.done.catch(() => {});
  }

  /** These are waited for. */
  begin(roster: readonly Expected[]): void {
    this.#waiting = new Set(roster.map(({ name }) => name).filter((name) => !this.#said.has(name)));
    this.expect(roster);
  }

  /** Of those that are waited for, only these are still there. */
  expect(roster: readonly Expected[]): void {
    if (this.#waiting === undefined) return;
    const there = new Map(roster.map((each) => [each.name, each]));
    for (const name of [...this.#waiting]) {
      const found = there.get(name);
      if (found !== undefined && !found.away) continue;
      this.#waiting.delete(name);
      if (found !== undefined) this.#failures.push(new KiteError("unavailable", `${name} is away; "${this.#subject}" waits for it`));
    }
    this.#settle();
  }

  result({ subscriber, error }: EventResult): void {
    if (this.#said.has(subscriber)) return;
    this.#said.add(subscriber);
    if (error !== undefined) this.#failures.push(KiteError.fromWire(error));
    this.#waiting?.delete(subscriber);
    this.#settle();
  }

  giveUp(why: KiteError): void {
    this.#reject(why);
  }

  #settle(): void {
    if (this.#waiting === undefined || this.#waiting.size > 0) return;
    if (this.#failures.length > 0) this.#reject(allFailures(this.#subject, this.#failures));
    else this.#resolve();
  }
}

function late(subject: string, publishMs: number): string {
  return `not every subscriber has handled "${subject}" within ${publishMs} ms`;
}

const NAME = /^[\w-]{1,64}$/;
const LOOK_AGAIN_MS = 1_000;
const MAX_PAYLOAD = 1024 * 1024;
// For the header with the publisher's address, and what NATS puts around it.
const HEADER_ROOM = 512;
// A bus carries; what nobody took within a day is kept by its publisher.
const MAX_AGE_MS = 24 * 60 * 60_000;
const MAX_BYTES = 256 * 1024 * 1024;
