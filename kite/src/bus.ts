import { KiteError } from "./errors.ts";

/**
 * Carries events between services of one mesh. It carries and forgets: whoever must not lose an event keeps it elsewhere
 * until `publish` has resolved, and whoever handles one must not mind to see it twice.
 */
export interface Bus extends AsyncDisposable {
  /** Resolves when every subscriber has handled the event; rejects with what failed, after all of them have ended. */
  publish(subject: string, event: unknown): Promise<void>;
  /**
   * Calls the handler for every event whose subject matches. Subjects are words joined by dots; in a pattern, `*` stands
   * for exactly one word and `>` at the end for one or more.
   */
  subscribe(pattern: string, handler: BusHandler): Subscription;
}

export type BusHandler = (event: unknown, subject: string) => unknown;

/** Ends with its async dispose, which takes no more events and waits for the handlers that are at work. */
export interface Subscription extends AsyncDisposable {
  readonly pattern: string;
}

/** The bounds of a bus within one process; every field may be left out. */
export interface MemoryBusOptions {
  /** How many events one subscriber may have in hand before publishing to it fails with `overloaded`. Default 1,024. */
  maxPending?: number;
  /** How many subscriptions may exist at once. Default 10,000. */
  maxSubscriptions?: number;
  /** How long closing waits for handlers at work, in milliseconds. Default 10 s. */
  drainMs?: number;
}

// Enough for any mesh in one process; what passes them is a leak, and says so instead of growing.
const DEFAULTS = { maxPending: 1_024, maxSubscriptions: 10_000, drainMs: 10_000 } as const satisfies Required<MemoryBusOptions>;

/**
 * The bus within one process: events are handed over as they are, without a copy. Handlers of one event run side by
 * side; a publisher that awaits `publish` before the next one thereby keeps its events in order.
 *
 * @example
 * const bus = memoryBus();
 * await using people = bus.subscribe("gitlab.*.system.>", (event) => console.log(event));
 * await bus.publish("gitlab.main.system.user_create", { user_id: 7 });
 */
export function memoryBus(options: MemoryBusOptions = {}): Bus {
  return new MemoryBus({ ...DEFAULTS, ...options });
}

/** Whether a subject is meant by a pattern, such as `gitlab.*.system.>`. */
export function subjectMatches(pattern: string, subject: string): boolean {
  const wanted = pattern.split(".");
  const words = subject.split(".");
  if (wanted.at(-1) === ">") return words.length >= wanted.length && sameWords(wanted.slice(0, -1), words);
  return words.length === wanted.length && sameWords(wanted, words);
}

class MemoryBus implements Bus {
  readonly #options: Required<MemoryBusOptions>;
  readonly #subscribers = new Set<Subscriber>();
  #closed = false;

  constructor(options: Required<MemoryBusOptions>) {
    this.#options = options;
  }

  async publish(subject: string, event: unknown): Promise<void> {
    checkSubject(subject);
    if (this.#closed) throw new KiteError("unavailable", `the bus is closed; "${subject}" was not published`);
    const meant = [...this.#subscribers].filter((subscriber) => subjectMatches(subscriber.pattern, subject));
    const settled = await Promise.allSettled(meant.map((subscriber) => subscriber.handle(event, subject)));
    const failures = settled.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
    if (failures.length > 0) throw allFailures(subject, failures);
  }

  subscribe(pattern: string, handler: BusHandler): Subscription {
    checkPattern(pattern);
    if (this.#closed) throw new KiteError("unavailable", `the bus is closed; "${pattern}" cannot be subscribed to`);
    const { maxSubscriptions, maxPending, drainMs } = this.#options;
    if (this.#subscribers.size >= maxSubscriptions) {
      throw new KiteError("limit_exceeded", `the bus has ${maxSubscriptions} subscriptions, its limit; dispose those that are over`);
    }
    const subscriber = new Subscriber({ pattern, handler, maxPending, drainMs, onClosed: () => this.#subscribers.delete(subscriber) });
    this.#subscribers.add(subscriber);
    return subscriber;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#subscribers].map((subscriber) => subscriber[Symbol.asyncDispose]()));
  }
}

interface SubscriberOptions {
  pattern: string;
  handler: BusHandler;
  maxPending: number;
  drainMs: number;
  onClosed: () => void;
}

class Subscriber implements Subscription {
  readonly pattern: string;
  readonly #options: SubscriberOptions;
  readonly #pending = new Set<Promise<unknown>>();

  constructor(options: SubscriberOptions) {
    this.pattern = options.pattern;
    this.#options = options;
  }

  async handle(event: unknown, subject: string): Promise<void> {
    const { maxPending, handler } = this.#options;
    if (this.#pending.size >= maxPending) {
      throw new KiteError(
        "overloaded",
        `the subscriber of "${this.pattern}" has ${maxPending} events in hand, its limit; "${subject}" was not given to it`,
      );
    }
    const work = Promise.resolve().then(() => handler(event, subject));
    this.#pending.add(work);
    try {
      await work;
    } finally {
      this.#pending.delete(work);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.onClosed();
    await settledWithin(this.#pending, this.#options.drainMs);
  }
}

/** Waits for work to end, whatever comes of it, but not for ever. */
export async function settledWithin(work: Iterable<Promise<unknown>>, limitMs: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  try {
    await Promise.race([Promise.allSettled(work), limit]);
  } finally {
    clearTimeout(timer);
  }
}

/** What a publisher is told when subscribers failed: the one failure, or all of them in one error. */
export function allFailures(subject: string, failures: readonly unknown[]): unknown {
  if (failures.length === 1) return failures[0];
  const errors = failures.map((failure) => KiteError.from(failure));
  const sentence = errors.map((error) => error.message).join("; ");
  return new KiteError(errors[0]?.code ?? "internal", `${failures.length} subscribers of "${subject}" failed: ${sentence}`, {
    cause: new AggregateError(failures, sentence),
  });
}

function sameWords(wanted: readonly string[], words: readonly string[]): boolean {
  return wanted.every((word, index) => word === "*" || word === words[index]);
}

/** @throws {KiteError} `invalid_argument` when it has wildcards, spaces or empty words. */
export function checkSubject(subject: string): void {
  if (subject.split(".").every((word) => WORD.test(word))) return;
  throw new KiteError("invalid_argument", `a subject is words joined by dots, without wildcards or spaces; got ${JSON.stringify(subject)}`);
}

/** @throws {KiteError} `invalid_argument` when its wildcards stand where they may not. */
export function checkPattern(pattern: string): void {
  const words = pattern.split(".");
  const last = words.length - 1;
  if (words.every((word, index) => word === "*" || (word === ">" && index === last) || WORD.test(word))) return;
  throw new KiteError(
    "invalid_argument",
    `a pattern is words joined by dots, "*" for any one and ">" at the end for the rest; got ${JSON.stringify(pattern)}`,
  );
}

// What NATS also accepts in a word, so that the same subjects work on both.
const WORD = /^[^\s.*>\p{Cc}]+$/u;
