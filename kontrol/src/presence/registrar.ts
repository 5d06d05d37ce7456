import {
  type Call,
  changeLabels,
  checkIdentity,
  type Identity,
  KiteError,
  type LabelChange,
  type Logger,
  type Register,
  type Registered,
  type Revocation,
} from "@kite-mesh/kite";
import type { KiteRecord } from "../database/record.ts";
import { type Applied, type Directory, revokedBy } from "../directory/directory.ts";
import { Feed } from "../directory/feed.ts";
import type { RenewedKiteKey } from "../trust/kite-keys.ts";
import type { Leases } from "./leases.ts";
import { type Loop, Pulse, seconds } from "./pulse.ts";
import type { Slots } from "./slots.ts";
import type { NewLease } from "./standing.ts";
import { displaced } from "./standing.ts";

export interface RegistrarOptions {
  readonly directory: Directory;
  readonly leases: Leases;
  /** Tells kites when to come back, when many come at once. */
  readonly slots: Slots;
  /** This process, as the `holder` of its leases. */
  readonly holder: string;
  /** Where kites that cannot be dialled are reached: `<relayUrl>/<id>`. */
  readonly relayUrl: () => string;
  readonly heartbeatMs: number;
  /** For how long an event loop may be blocked before its process counts as dead. Default 30 s, and at least three beats. */
  readonly hungMs?: number | undefined;
  /** Signs a caller's kite.key anew when the key that signed it was retired. */
  readonly renewKey: (caller: Call["caller"]) => Promise<RenewedKiteKey | undefined>;
  readonly logger: Logger;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
}

/** A registration that this process looks after. */
export interface Held {
  readonly record: KiteRecord;
  /** Undefined for one that came by HTTP: its beats are all that tells of its end. */
  readonly sessionId: string | undefined;
  readonly session: Call["session"] | undefined;
  readonly onLink: Register["onLink"];
  readonly revocations: Feed<Revocation>;
  /** The kite.key that the kite should use from now on. */
  readonly renewed: RenewedKiteKey | undefined;
  /** How long it may be silent. */
  readonly silenceMs: number;
  readonly pulse: Pulse;
  /** What the labels will be when every change that is on its way is written. */
  labels: KiteRecord["labels"];
  /** Stops listening for the end of the session. */
  release: () => void;
}

/** Who registers, and in which session; an older kite may register by HTTP, without any. */
export interface Registrant {
  readonly caller: Call["caller"];
  readonly session?: Call["session"];
}

// A kite that is this far behind is not reading; it registers again and then hears what it missed.
const REVOCATIONS_QUEUED = 1_000;
// Each is kept in memory by every kontrol, and sent to every watcher with every change.
export const MAX_LABELS = 32;
// Two: one lost packet must not make a healthy kite disappear.
const BEATS = 2;
// A process that collects garbage, compiles or computes stands still for seconds, and comes back. After three of a session's
// heartbeats its own sessions have given it up, so whoever found it could not call it: it is as good as dead.
const HUNG_MS = 30_000;
const HUNG_BEATS = 3;
// A kite that asks before its session with a kontrol that stops has ended registers there once more, for nothing.
const STOPPING_MS = 100;

/**
 * Keeps the kites whose sessions are here in the directory, and no longer than they live: a session that closes takes
 * its kite out at once, a silent one after two missed beats. Beats are counted here and cost the database nothing.
 */
export class Registrar {
  readonly #options: RegistrarOptions;
  readonly #held = new Map<string, Held>();
  readonly #bySession = new Map<string, Held>();
  readonly #timer: NodeJS.Timeout;
  readonly #stopListening: () => void;
  #lastSweepMs = performance.now();
  #registrations = 0;
  #closed = false;

  constructor(options: RegistrarOptions) {
    this.#options = options;
    this.#stopListening = options.directory.listen((applied) => this.#hear(applied));
    // Four looks in a beat find a silent kite at most a quarter of a beat late.
    this.#timer = setInterval(() => this.#sweep(), options.heartbeatMs / 4);
  }

  /** How many kites have their sessions here. */
  get size(): number {
    return this.#held.size;
  }

  /** How many registered here since the start. */
  get registrations(): number {
    return this.#registrations;
  }

  /** The registration of a kite whose session is here. */
  held(id: string): Held | undefined {
    return this.#held.get(id);
  }

  /**
   * Enters the calling kite, under the name of the account whose kite.key it showed.
   *
   * @throws {KiteError} `permission_denied` without a kite.key, or for `mesh` by an account that may not; `already_exists`.
   */
  async register(register: Register, call: Call): Promise<Registered> {
    const { heartbeatMs, directory, now, slots } = this.#options;
    const held = await slots.take(register.kite.id, () => this.enter(register, call, BEATS * heartbeatMs));
    const { record } = held;
    for (const { revision, at, ...revocation } of directory.recentRevocations(now())) {
      if (revocation.kite !== undefined && revocation.kite !== record.kite.id) continue;
      held.revocations.push(forKite({ ...revocation, revision: String(revision), at }, record.kite.id));
    }
    return {
      kite: record.kite,
      url: record.url,
      generation: String(record.generation),
      heartbeatMs,
      beat: () => this.#beat(held),
      ticket: held.pulse.makeTicket(),
      ...(held.renewed === undefined ? {} : { kiteKey: held.renewed.kiteKey }),
      revocations: held.revocations,
    };
  }

  /** As `register`, for whoever looks after the beats himself: a registration that is silent for this long ends. */
  async enter(register: Register, registrant: Registrant, silenceMs: number): Promise<Held> {
    const { leases, renewKey, directory } = this.#options;
    const lease = { ...this.#leaseFor(register, registrant.caller), known: directory.revision };
    const renewed = await renewKey(registrant.caller);
    const record = await leases.enter(renewed === undefined ? lease : { ...lease, kid: renewed.signingKey.kid });
    const held: Held = {
      record,
      sessionId: registrant.session?.id,
      session: registrant.session,
      onLink: register.onLink,
      revocations: new Feed<Revocation>(),
      renewed,
      silenceMs,
      pulse: new Pulse(this.#options.heartbeatMs, performance.now()),
      labels: record.labels,
      release: () => {},
    };
    this.#hold(held, registrant.session);
    this.#registrations++;
    return held;
  }

  /**
   * Changes labels of the kite that this session registered. Changes are written in their order, together with those of
   * other kites.
   *
   * @throws {KiteError} `failed_precondition` when the session has no registration, `limit_exceeded` for too many labels.
   */
  async updateLabels(change: LabelChange, { session }: Call): Promise<void> {
    const held = this.#bySession.get(session.id);
    if (held === undefined) throw new KiteError("failed_precondition", "this session has no registration whose labels could change");
    const before = held.labels;
    const labels = changeLabels(before, change);
    if (Object.keys(labels).length > MAX_LABELS) {
      throw new KiteError("limit_exceeded", `a kite has at most ${MAX_LABELS} labels, and would have ${Object.keys(labels).length}`);
    }
    held.labels = labels;
    const { record } = held;
    try {
      await this.#options.leases.label({ id: record.kite.id, generation: record.generation, labels });
    } catch (thrown) {
      // What came later was made from these; it stands when it is written.
      if (held.labels === labels) held.labels = before;
      throw thrown;
    }
  }

  /**
   * Has kites register again whose kite.key was signed by one of these keys, so that they get a new one while the old is
   * still believed. They stay in the directory meanwhile. Older kites cannot be asked; they get theirs when they come back.
   */
  renew(retired: ReadonlySet<string>): void {
    const meant = [...this.#held.values()].filter(({ record }) => retired.has(record.kid ?? ""));
    const sentence = "the key that signed this kite's kite.key was retired; register again for a new one";
    for (const [held, why] of this.#sendAway(meant, sentence)) held.revocations.end(why);
  }

  /** Takes a beat; false when the registration has ended, as it does when the beat says that nobody is at home. */
  beat(held: Held, loop?: Loop): boolean {
    if (this.#held.get(held.record.kite.id) !== held) return false;
    const { heartbeatMs, hungMs = Math.max(HUNG_MS, HUNG_BEATS * heartbeatMs) } = this.#options;
    held.pulse.lastBeatMs = performance.now();
    held.pulse.loop = loop;
    // Over the session, which therefore lives.
    if (loop === undefined) held.pulse.sign = undefined;
    if (loop === undefined || loop.blockedMs < hungMs) return true;
    this.#end(held, `its event loop was blocked for ${seconds(loop.blockedMs)}, so it could not answer`);
    return false;
  }

  /**
   * Stops looking after registrations. They stay in the directory: a kontrol that restarts must not empty it. Each kite is
   * told when to come back.
   */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#stopListening();
    for (const [held, why] of this.#sendAway([...this.#held.values()], "kontrol is stopping", STOPPING_MS)) this.#forget(held, why);
  }

  /** Gives each a time of its own to register again, within a beat at most: they have two. */
  *#sendAway(all: readonly Held[], sentence: string, firstMs = 0): Generator<[Held, KiteError], void, undefined> {
    const { slots, heartbeatMs } = this.#options;
    const times = slots.spread(all.length, heartbeatMs);
    for (const held of all) {
      const details = { retryAfterMs: firstMs + (times.next().value ?? 0) };
      yield [held, new KiteError("disconnected", sentence, { details })];
    }
  }

  #leaseFor(register: Register, caller: Call["caller"]): NewLease {
    const { kite: claimed, url, onLink, visibility = "private", labels = {}, instance, again = false } = register;
    const { holder, relayUrl, directory, now } = this.#options;
    if (caller.credential?.type !== "kiteKey") {
      throw new KiteError("permission_denied", "a kite registers with its kite.key; a token only lets it call others");
    }
    const kite: Identity = checkIdentity({ ...claimed, username: caller.username });
    if (url === undefined && onLink === undefined) {
      throw new KiteError(
        "invalid_argument",
        "a kite registers with the url where it is dialled, or with onLink, through which the relay reaches it",
      );
    }
    const account = directory.account(caller.username);
    const machine = directory.key(caller.credential.jti ?? "")?.machine ?? false;
    if (visibility === "mesh" && (machine || (!account?.admin && account?.kind !== "service"))) {
      throw new KiteError(
        "permission_denied",
        `only kites of administrators and services, not those of their machines, are visible to the whole mesh; register ${kite.name} as private and give grants`,
      );
    }
    const { jti, kid } = caller.credential;
    const reached = url ?? `${relayUrl()}/${encodeURIComponent(kite.id)}`;
    const which = instance === undefined ? {} : { instance, again };
    return { kite, url: reached, visibility, labels, jti: jti ?? null, kid: kid ?? null, machine, holder, registeredAt: now(), ...which };
  }

  #hold(held: Held, session: Call["session"] | undefined): void {
    const { id } = held.record.kite;
    const newest = this.#options.directory.kite(id);
    // While this one was written another session took its place, or its account was removed.
    if (newest?.generation !== held.record.generation) throw replaced();
    const [previous, other] = [this.#held.get(id), this.#bySession.get(held.sessionId ?? "")];
    if (previous !== undefined) this.#forget(previous, this.#whyReplaced(previous, held.record) ?? replaced());
    if (other !== undefined) this.#end(other, "its session registered as another kite");
    this.#held.set(id, held);
    if (session === undefined) return;
    this.#bySession.set(session.id, held);
    const { closed } = session;
    const leave = () => this.#end(held, "its session closed");
    if (closed.aborted) return leave();
    closed.addEventListener("abort", leave, { once: true });
    held.release = () => closed.removeEventListener("abort", leave);
  }

  #beat(held: Held): void {
    if (!this.beat(held)) throw replaced();
  }

  /** Takes a registration out, unless another took its place before. */
  #end(held: Held, reason: string): void {
    const { kite, generation } = held.record;
    if (this.#closed || this.#held.get(kite.id) !== held) return;
    this.#forget(held, new KiteError("disconnected", `the registration ended: ${reason}`));
    this.#options.leases.leave({ id: kite.id, generation, reason });
  }

  #sweep(): void {
    const { heartbeatMs, directory, holder, logger, leases, now } = this.#options;
    const at = performance.now();
    // If this process itself stood still, the beats of that time wait in its sockets: nobody is blamed for them.
    const stalledMs = at - this.#lastSweepMs - heartbeatMs / 2;
    this.#lastSweepMs = at;
    for (const held of this.#held.values()) {
      if (stalledMs > 0) held.pulse.lastBeatMs += stalledMs;
      if (at - held.pulse.lastBeatMs <= held.silenceMs) continue;
      const missed = Math.round(held.silenceMs / heartbeatMs);
      logger.info({ kite: held.record.kite.id, username: held.record.kite.username, missed }, "a kite missed its heartbeats");
      this.#end(held, `it missed ${missed} heartbeats`);
    }
    for (const { kite, generation, holder: by, registeredAt, jti } of directory.kites()) {
      // Written, but its registrant never got the answer. kontrol's own entry has no key and no session.
      if (by !== holder || jti === null || this.#held.has(kite.id) || now() - registeredAt < BEATS * heartbeatMs) continue;
      leases.leave({ id: kite.id, generation, reason: "its registration was not completed" });
    }
  }

  #hear(applied: Applied | "reset"): void {
    const { directory, holder, now } = this.#options;
    for (const { revision, ...revocation } of revokedBy(applied, directory, now()))
      this.#passOn({ ...revocation, revision: String(revision) });
    if (applied === "reset") return this.#compare();
    const { change } = applied;
    if (change.kind === "kite.gone") this.#drop(change.id, change.generation, ended(`the registration ended: ${change.reason}`));
    if (change.kind === "kite.registered" && change.record.holder !== holder) {
      const { record } = change;
      const held = this.#held.get(record.kite.id);
      const other = held && this.#whyReplaced(held, record);
      this.#drop(record.kite.id, record.generation - 1, other ?? ended("the kite registered at another kontrol"));
    }
  }

  /** After the directory was read anew: what it does not have any more was taken out meanwhile. */
  #compare(): void {
    for (const { record } of [...this.#held.values()]) {
      const { id } = record.kite;
      if (this.#options.directory.kite(id)?.generation !== record.generation)
        this.#drop(id, record.generation, ended("the registration ended"));
    }
  }

  /** Forgets what somebody else took out of the directory. */
  #drop(id: string, upTo: number, why: KiteError): void {
    const held = this.#held.get(id);
    if (held === undefined || held.record.generation > upTo) return;
    this.#forget(held, why);
  }

  /**
   * What a process is told whose place another one took; undefined when it is the same that came back. It comes back itself only
   * when the other is gone, so the two do not take turns.
   */
  #whyReplaced({ record: before }: Held, after: KiteRecord): KiteError | undefined {
    if (!before.instance || !after.instance || before.instance === after.instance) return undefined;
    const [from, to] = [before, after].map(({ kite, url }) => ({ hostname: kite.hostname, url }));
    this.#options.logger.info(
      { kite: before.kite.id, username: before.kite.username, from, to },
      "a process took the place of another with its id, which had not left",
    );
    return displaced(after);
  }

  #forget(held: Held, why: KiteError): void {
    const { id } = held.record.kite;
    if (this.#held.get(id) === held) this.#held.delete(id);
    if (held.sessionId !== undefined && this.#bySession.get(held.sessionId) === held) this.#bySession.delete(held.sessionId);
    held.release();
    held.pulse.link?.end("ended");
    held.revocations.end(why);
  }

  #passOn(revocation: Revocation): void {
    const one = this.#held.get(revocation.kite ?? "");
    const meant = revocation.kite === undefined ? this.#held.values() : one === undefined ? [] : [one];
    for (const { revocations, record } of meant) {
      if (revocations.size >= REVOCATIONS_QUEUED)
        revocations.end(new KiteError("overloaded", "too many revocations wait to be read; register again"));
      else revocations.push(forKite(revocation, record.kite.id));
    }
  }
}

/** To a kite of a version that knows nothing of signing keys this says at least that what was given out before is over. */
function forKite(revocation: Revocation, kite: string): Revocation {
  return revocation.kid === undefined ? revocation : { ...revocation, kite };
}

function replaced(): KiteError {
  return ended("this registration was replaced by a later one, or ended");
}

function ended(why: string): KiteError {
  return new KiteError("disconnected", why);
}
