import { itemsUntil, sleep, waitUntil } from "../abortable.ts";
import { Backoff, type BackoffOptions } from "../backoff.ts";
import { KiteError, type KiteErrorCode } from "../errors.ts";
import { changeLabels, type LabelChange, labelDifference } from "../labels.ts";
import type { Logger } from "../log.ts";
import type { Register, Registered, RegistryContract, Revocation } from "./registry.ts";

/** Hands out the registry for one call; the call has to end within the time, and when the signal says so. */
export type ReachRegistry = (options: {
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}) => RegistryContract | Promise<RegistryContract>;

export type RegistrationState =
  | {
      readonly state: "registering" /** Failures since it was last registered. */;
      readonly tries: number;
      readonly error: KiteError | undefined;
    }
  | { readonly state: "registered"; readonly registered: Registered; readonly since: number }
  | { readonly state: "closed" };

/** Beats that do not need this thread's event loop. */
export interface OwnBeats extends Disposable {
  /** Whether kontrol answers them. While it does not, the session has to beat. */
  readonly answered: boolean;
  /** Waits this long, or until kontrol ceases to answer. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

export interface RegistrationOptions {
  readonly reach: ReachRegistry;
  readonly register: Register;
  readonly onState: (state: RegistrationState) => void;
  readonly onKey: (kiteKey: string) => unknown;
  readonly onRevoked: (revocation: Revocation) => unknown;
  /** Begins to beat for a registration from elsewhere; left out or undefined, its session beats alone. */
  readonly beats?: ((registered: Registered) => OwnBeats | undefined) | undefined;
  /** Called when kontrol does not answer beats: has the connection to it dialled again unless a sign of life comes within the time. */
  readonly doubt?: ((waitMs: number, signal: AbortSignal) => Promise<void>) | undefined;
  readonly log: Logger;
  readonly backoff: BackoffOptions;
  readonly now: () => number;
  readonly random: () => number;
}

/**
 * One kite's place in the directory, from `start` to `close`: beats while it stands, and takes it again whenever it was
 * lost, after a jittered wait. Whoever made it closes it.
 */
export class Registration {
  readonly #options: RegistrationOptions;
  readonly #closing = new AbortController();
  readonly #backoff: Backoff;
  readonly #instance = crypto.randomUUID();
  /** kontrol repeats the recent ones whenever the kite registers again. By revision and time: revisions begin again with a backup. */
  readonly #heard = new Set<string>();
  /** What kontrol is told, and whether it stands there now. */
  #register: Register;
  #stands = false;
  #kept: Promise<void> | undefined;
  /** Labels whose change kontrol did not take, and the work of telling it again. */
  #owed: LabelChange | undefined;
  #telling: Promise<void> | undefined;

  constructor(options: RegistrationOptions) {
    this.#options = options;
    this.#register = options.register;
    this.#backoff = new Backoff(options.backoff);
  }

  /**
   * Resolves with the first registration, and stays registered from then on.
   *
   * @throws {KiteError} what kontrol refused it with; a kontrol that is merely away is waited for, until `close`.
   */
  start(): Promise<Registered> {
    return new Promise((resolve, reject) => {
      this.#kept = this.#keep(resolve, reject);
    });
  }

  /**
   * Changes labels, now and in every registration to come. While there is no registration, the next one says it; while kontrol
   * cannot write it, it is told again until it can.
   *
   * @throws {KiteError} what kontrol refused the change with; the labels stay as they were then.
   */
  async updateLabels(change: LabelChange): Promise<void> {
    const before = this.#register;
    const changed = { ...before, labels: changeLabels(before.labels ?? {}, change) };
    this.#register = changed;
    if (!this.#stands) return;
    try {
      const registry = await this.#options.reach({ timeoutMs: REGISTER_TIMEOUT_MS, signal: this.#closing.signal });
      await registry.updateLabels({ labels: change });
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (!isLasting(error) && error.code !== "limit_exceeded") return this.#tellAgain(change);
      if (this.#register === changed) this.#register = before;
      throw error;
    }
  }

  /** Stops beating and registering. The entry itself ends with the session that carries it. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#kept;
    await this.#telling;
  }

  /** Lost with the connection, a change is in the registration that follows. One that still stands, as when kontrol alone lost its database, has to hear it. */
  #tellAgain(change: LabelChange): void {
    this.#owed = { ...this.#owed, ...change };
    this.#telling ??= this.#tellOwed().finally(() => {
      this.#telling = undefined;
    });
  }

  async #tellOwed(): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff(this.#options.backoff);
    while (this.#owed !== undefined) {
      await sleep(backoff.next() ?? REFUSED_PAUSE_MS, { signal }).catch(() => {}); // ends the loop by the next line
      if (signal.aborted || !this.#stands) break;
      const owed = this.#owed;
      // As they are now: what was changed since must not be turned back.
      const labels = Object.fromEntries(Object.keys(owed).map((name) => [name, this.#register.labels?.[name] ?? null]));
      try {
        const registry = await this.#options.reach({ timeoutMs: REGISTER_TIMEOUT_MS, signal });
        await waitUntil(registry.updateLabels({ labels }), signal);
        if (this.#owed === owed) this.#owed = undefined;
      } catch (thrown) {
        const { code, message } = KiteError.from(thrown);
        this.#options.log.warn({ code, error: message }, "kontrol does not take the labels; telling it again");
      }
    }
    this.#owed = undefined;
  }

  async #keep(onFirst: (registered: Registered) => void, onRefused: (error: KiteError) => void): Promise<void> {
    const { onState, log } = this.#options;
    let before = false;
    let error: KiteError | undefined;
    let refused: KiteErrorCode | undefined;
    while (!this.#closing.signal.aborted) {
      onState({ state: "registering", tries: this.#backoff.tries, error });
      try {
        const registered = await this.#enter(before);
        before = true;
        refused = undefined;
        onFirst(registered);
        const since = this.#options.now();
        // Whoever was there for a while and lost its kontrol finds another at once: kontrols are restarted one after the other.
        await this.#stay(registered).finally(() => {
          if (this.#options.now() - since >= STOOD_MS) this.#backoff.reset();
        });
        error = new KiteError("disconnected", "kontrol ended the registration");
      } catch (thrown) {
        error = KiteError.from(thrown);
        if (!before && isLasting(error)) return this.#end(onRefused, error);
      }
      if (this.#closing.signal.aborted) break;
      // A refusal that lasts is said once.
      log[error.code === refused ? "debug" : "warn"](
        { code: error.code, error: error.message },
        before ? "not registered any more; registering again" : "not registered yet; trying again",
      );
      refused = isLasting(error) ? error.code : undefined;
      await sleep(this.#pauseMs(error), { signal: this.#closing.signal }).catch(() => {}); // ends the loop by its condition
    }
    this.#end(onRefused, error ?? new KiteError("cancelled", "the registration was ended on this side"));
  }

  async #enter(again: boolean): Promise<Registered> {
    const { reach, onState, onKey, log, now } = this.#options;
    const register = this.#register;
    this.#stands = false;
    const { signal } = this.#closing;
    const registry = await waitUntil(Promise.resolve(reach({ timeoutMs: REGISTER_TIMEOUT_MS, signal })), signal);
    const registered = await waitUntil(registry.register({ ...register, instance: this.#instance, again }), signal);
    this.#stands = true;
    const missed = labelDifference(register.labels ?? {}, this.#register.labels ?? {});
    try {
      if (missed !== undefined) await waitUntil(registry.updateLabels({ labels: missed }), signal);
    } catch (thrown) {
      this.#stands = false;
      release(registered);
      throw thrown;
    }
    onState({ state: "registered", registered, since: now() });
    log.info({ url: registered.url, generation: registered.generation }, "registered");
    if (registered.kiteKey !== undefined) await this.#tell("the new kite.key", () => onKey(registered.kiteKey as string));
    return registered;
  }

  /** Ends when the registration does, whichever of the two notices first. */
  async #stay(registered: Registered): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([this.#closing.signal, over.signal]);
    try {
      await Promise.race([this.#beat(registered, signal), this.#hear(registered, signal)]);
    } finally {
      this.#stands = false;
      over.abort();
      release(registered);
    }
  }

  async #beat(registered: Registered, signal: AbortSignal): Promise<void> {
    const { heartbeatMs } = registered;
    using own = this.#options.beats?.(registered);
    for (;;) {
      // A little early, by chance: kites that registered together do not beat together, and none comes late.
      const pauseMs = heartbeatMs * (1 - this.#options.random() * BEAT_SPREAD);
      const answeredBefore = own?.answered === true;
      await (own === undefined ? sleep(pauseMs, { signal }) : own.wait(pauseMs, signal));
      // Those that have just ceased to be answered have waited for it.
      if (!own?.answered) await this.#beatOver(registered, answeredBefore ? 0 : heartbeatMs / 2, signal);
    }
  }

  /** Two missed beats end a registration, so an answer that takes longer than two is none. */
  async #beatOver({ beat, heartbeatMs }: Registered, doubtAfterMs: number, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const until = AbortSignal.any([signal, over.signal]);
    const limitMs = heartbeatMs * 2;
    const late = sleep(limitMs, { signal: until }).then(() => {
      throw new KiteError("disconnected", `kontrol did not answer a heartbeat within ${limitMs} ms`);
    });
    void this.#doubt(heartbeatMs, doubtAfterMs, until).catch(() => {}); // an answer ends it
    try {
      await Promise.race([beat(), late]);
    } finally {
      over.abort();
    }
  }

  /** A kontrol that stands still keeps its connections. Another one is looked for while there is time: soon this one's kites are given up. */
  async #doubt(heartbeatMs: number, afterMs: number, signal: AbortSignal): Promise<void> {
    await sleep(afterMs, { signal });
    await this.#options.doubt?.(Math.max(heartbeatMs / 4, SHORTEST_DOUBT_MS), signal);
  }

  async #hear({ revocations }: Registered, signal: AbortSignal): Promise<void> {
    for await (const revocation of itemsUntil(revocations, signal)) {
      const which = `${revocation.revision} ${revocation.at}`;
      if (this.#heard.has(which)) continue;
      this.#heard.add(which);
      for (const oldest of this.#heard) if (this.#heard.size > MAX_HEARD) this.#heard.delete(oldest);
      await this.#tell("a revocation", () => this.#options.onRevoked(revocation));
    }
  }

  async #tell(what: string, listener: () => unknown): Promise<void> {
    try {
      await listener();
    } catch (thrown) {
      this.#options.log.error({ error: KiteError.from(thrown).message }, `${what} could not be handled`);
    }
  }

  /**
   * When kontrol gave this kite a time of its own, it comes then, and not before its own patience says if it was sent away
   * before. A refusal is not cured by asking often, but may be by kontrol's administrator; so it is asked seldom, not never.
   */
  #pauseMs(error: KiteError): number {
    const again = this.#backoff.tries > 0;
    const pauseMs = this.#backoff.next() ?? REFUSED_PAUSE_MS;
    if (isLasting(error)) return REFUSED_PAUSE_MS * (1 - this.#options.random() / 2);
    const slotMs = Number(error.details?.retryAfterMs ?? Number.NaN);
    if (!(slotMs >= 0)) return pauseMs;
    return Math.min(again ? Math.max(slotMs, pauseMs) : slotMs, LONGEST_SLOT_MS);
  }

  #end(onRefused: (error: KiteError) => void, error: KiteError): void {
    this.#closing.abort();
    this.#options.onState({ state: "closed" });
    onRefused(error);
  }
}

/** Whether asking again will get the same answer, as opposed to a registry that is away or busy. */
export function isLasting(error: KiteError): boolean {
  return LASTING.has(error.code);
}

const LASTING: ReadonlySet<KiteErrorCode> = new Set<KiteErrorCode>([
  "invalid_argument",
  "method_not_found",
  "unauthenticated",
  "permission_denied",
  "not_found",
  "already_exists",
  "failed_precondition",
]);

// kontrol writes one row; a database that is slower than this is down.
const REGISTER_TIMEOUT_MS = 10_000;
const BEAT_SPREAD = 0.1;
// A kontrol that collects garbage or verifies a herd's keys is not one that stands still.
const SHORTEST_DOUBT_MS = 500;
// Longer than whatever ends a registration that should not have begun, shorter than a kontrol takes to start.
const STOOD_MS = 1_000;
// As many as a kite remembers.
const MAX_HEARD = 10_000;
const REFUSED_PAUSE_MS = 60_000;
// A registry that has 100,000 kites come back one after the other needs less.
const LONGEST_SLOT_MS = 120_000;

/** What came with a registration is held until it is released: a function, and a stream that is not read yet. */
function release({ beat, revocations }: Registered): void {
  (beat as Partial<Disposable>)[Symbol.dispose]?.();
  void Promise.resolve(revocations[Symbol.asyncIterator]().return?.()).catch(() => {}); // its session may be gone
}
