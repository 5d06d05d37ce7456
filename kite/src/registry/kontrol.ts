import { waitUntil } from "../abortable.ts";
import type { BackoffOptions } from "../backoff.ts";
import { KiteError } from "../errors.ts";
import { formatIdentity, formatQuery, type Identity, plainQuery, type Query } from "../identity.ts";
import { type Logger, silent } from "../log.ts";
import { type DirectoryWatch, watchDirectory } from "./directory-watch.ts";
import { isLasting, type ReachRegistry } from "./registration.ts";
import type { FoundKite, FoundKites, IssuedToken, RegistryContract } from "./registry.ts";
import { TokenCache } from "./token-cache.ts";

export interface RegistryClientOptions {
  /** How kontrol is reached; asked before every call, so that the connection may be a new one each time. */
  reach: ReachRegistry;
  log?: Logger | undefined;
  /** Waits between tries to reach kontrol again. */
  backoff?: Pick<BackoffOptions, "firstMs" | "maxMs"> | undefined;
  /** Milliseconds, as `Date.now`. */
  now?: () => number;
  /** Between 0 and 1, as `Math.random`. */
  random?: () => number;
}

/** A registry that says why a kite is there or is not, to those who may see it. */
interface Explaining extends RegistryContract {
  why(request: { id: string }): Promise<{ found: boolean }>;
}

/** A kite that was found; `staleMs` is set when kontrol could not be asked, and says how old the answer is. */
export type Found = FoundKite & { readonly staleMs?: number };

/**
 * kontrol as who asks sees it. It answers from what it knows while kontrol is away, and comes back without a herd. Whoever
 * made it closes it; the connection it was given stays open.
 */
export class RegistryClient implements AsyncDisposable {
  protected readonly now: () => number;
  protected readonly random: () => number;
  protected readonly log: Logger;
  protected readonly reach: ReachRegistry;
  readonly #closing = new AbortController();
  readonly #backoff: RegistryClientOptions["backoff"];
  readonly #tokens: TokenCache;
  readonly #answers = new Map<string, KeptAnswer>();
  /** What was asked and is not answered yet, each with what ends the wait. */
  readonly #asking = new Map<string, { answer: Promise<unknown>; stop: () => void }>();
  #awaySince: number | undefined;
  #askAgainAt = 0;

  constructor(options: RegistryClientOptions) {
    this.reach = options.reach;
    this.#backoff = options.backoff;
    this.now = options.now ?? Date.now;
    this.random = options.random ?? Math.random;
    this.log = options.log ?? silent;
    this.#tokens = new TokenCache({ now: this.now, random: this.random });
  }

  /** For how long kontrol has not answered, in milliseconds; 0 while it does. */
  get awayMs(): number {
    return this.#awaySince === undefined ? 0 : this.now() - this.#awaySince;
  }

  /**
   * The kites that match, each with a token, in random order. While kontrol is away the last answer to the same query is given,
   * marked with its age. What is found is shared with others who ask the same, and not to be changed.
   *
   * @throws {KiteError} `invalid_argument` for a query that cannot be read, `unavailable` when kontrol is away and there is no earlier answer.
   */
  async find(query: Query, options: { signal?: AbortSignal } = {}): Promise<Found[]> {
    this.checkOpen();
    const wanted = plainQuery(query);
    // Not as a path: an expression may contain what stands between two of them there.
    const key = JSON.stringify(wanted);
    const known = this.#answers.get(key);
    if (known !== undefined && this.now() < this.#askAgainAt) return this.#stale(known);
    const timeoutMs = known === undefined ? ASK_TIMEOUT_MS : ASK_TIMEOUT_WITH_ANSWER_MS;
    try {
      return await this.#once(`find ${key}`, options.signal, async () => {
        const registry = await this.reach({ timeoutMs });
        const tag = known?.tag;
        const answer = await registry.getKites(tag === undefined ? { query: wanted } : { query: wanted, known: tag });
        if (known !== undefined && answer.unchanged) return this.#again(key, known);
        this.#remember(key, answer);
        return [...answer.kites];
      });
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (options.signal?.aborted || isLasting(error)) throw error;
      if (known !== undefined) return this.#stale(known);
      throw away(`${formatQuery(wanted)} was not asked for before`, error);
    }
  }

  /**
   * A token for one kite: the kept one until two thirds of its life, then a new one; while kontrol is away, the kept one until it ends.
   * `renew` asks for a new one at once, for a token that the kite did not accept.
   *
   * @throws {KiteError} `unavailable` when kontrol is away and there is no token that is still good.
   */
  async token(kite: Identity, options: { renew?: boolean; signal?: AbortSignal } = {}): Promise<IssuedToken> {
    this.checkOpen();
    const { renew = false } = options;
    if (renew) this.#tokens.forget(kite);
    const kept = this.#tokens.get(kite);
    if (kept?.fresh) return { token: kept.token, expiresAt: kept.expiresAt };
    const path = formatIdentity(kite);
    try {
      // One that is on its way already may be the one that was not accepted.
      return await this.#once(`${renew ? "new " : ""}token ${path}`, options.signal, async () => {
        const registry = await this.reach({ timeoutMs: ASK_TIMEOUT_MS });
        const issued = await registry.getToken(renew ? { query: kite, renew } : { query: kite });
        this.#tokens.keep(kite, issued);
        return issued;
      });
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (options.signal?.aborted) throw error;
      if (isLasting(error)) {
        this.#tokens.forget(kite);
        throw error;
      }
      const good = this.#tokens.get(kite);
      if (good !== undefined) return { token: good.token, expiresAt: good.expiresAt };
      throw away(`there is no valid token for ${path}`, error);
    }
  }

  /** Whether there is or was a kite of this id that the caller may see, as far as kontrol can be asked: if not, true. */
  async knows(id: string): Promise<boolean> {
    try {
      // Of kontrol's own contract; a registry that has no such method cannot tell.
      const registry = (await this.reach({ timeoutMs: ASK_TIMEOUT_MS })) as Explaining;
      return (await registry.why({ id })).found;
    } catch {
      return true;
    }
  }

  /**
   * First what there is, then every change; goes on by itself after a lost connection. Ends when the reader stops,
   * with the signal, or with this client.
   */
  watch(query: Query, options: { signal?: AbortSignal } = {}): DirectoryWatch {
    this.checkOpen();
    const signal = options.signal === undefined ? this.#closing.signal : AbortSignal.any([this.#closing.signal, options.signal]);
    return watchDirectory(plainQuery(query), {
      reach: this.reach,
      log: this.log,
      backoff: this.backoff,
      now: this.now,
      signal,
    });
  }

  /** Ends all watches and everything that waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    for (const { stop } of [...this.#asking.values()]) stop();
  }

  /** Callers who ask for the same at the same time share one question; each can stop waiting by himself. */
  #once<T>(key: string, signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> {
    const asking = (this.#asking.get(key)?.answer as Promise<T> | undefined) ?? this.#ask(key, ask);
    return waitUntil(asking, signal);
  }

  #ask<T>(key: string, ask: () => Promise<T>): Promise<T> {
    let stop = () => {};
    // No signal for each question: making and joining those takes as long as all the rest of asking.
    const answer = new Promise<T>((resolve, reject) => {
      stop = () => reject(new KiteError("cancelled", "the call was cancelled", { cause: this.#closing.signal.reason }));
      ask().then(resolve, reject);
    }).then(
      (answered) => {
        this.#asking.delete(key);
        this.answered();
        this.#askAgainAt = 0;
        return answered;
      },
      (thrown) => {
        this.#asking.delete(key);
        if (!isLasting(KiteError.from(thrown))) this.#markAway();
        throw thrown;
      },
    );
    this.#asking.set(key, { answer, stop });
    return answer;
  }

  /** kontrol is there. */
  protected answered(): void {
    this.#awaySince = undefined;
  }

  #markAway(): void {
    this.#awaySince ??= this.now();
    this.#askAgainAt = this.now() + AWAY_PAUSE_MS * (0.5 + this.random() / 2);
  }

  #remember(key: string, { kites, tag }: FoundKites): void {
    for (const { kite, token, tokenExpiresAt } of kites) this.#tokens.keep(kite, { token, expiresAt: tokenExpiresAt });
    this.#keep(key, { kites, tag, at: this.now() });
  }

  /** kontrol has no other answer than the one that is here. */
  #again(key: string, { kites, tag }: KeptAnswer): Found[] {
    this.#keep(key, { kites, tag, at: this.now() });
    return shuffled(kites, this.random);
  }

  #keep(key: string, answer: KeptAnswer): void {
    this.#answers.delete(key);
    this.#answers.set(key, answer);
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= MAX_ANSWERS) return;
      this.#answers.delete(oldest);
    }
  }

  #stale({ kites, at }: KeptAnswer): Found[] {
    const staleMs = this.now() - at;
    return kites.map((found) => {
      const newer = this.#tokens.get(found.kite);
      return newer === undefined ? { ...found, staleMs } : { ...found, token: newer.token, tokenExpiresAt: newer.expiresAt, staleMs };
    });
  }

  protected get backoff(): BackoffOptions {
    return { ...this.#backoff, now: this.now, random: this.random };
  }

  protected checkOpen(): void {
    if (this.#closing.signal.aborted) throw new KiteError("disconnected", "this kite was closed", { outcome: "not_run" }).passOn();
  }
}

interface KeptAnswer {
  readonly kites: readonly FoundKite[];
  /** By which kontrol knows it; undefined for one that it wants to be asked for in full. */
  readonly tag: string | undefined;
  readonly at: number;
}

/** As kontrol would have put them: callers who take the first spread out. */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const shuffled = [...items];
  for (let last = shuffled.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
  }
  return shuffled;
}

// kontrol answers from memory; this is for the connection to it.
const ASK_TIMEOUT_MS = 10_000;
// With an answer at hand a caller is better served by it than by waiting.
const ASK_TIMEOUT_WITH_ANSWER_MS = 2_000;
// While kontrol is away, questions with a known answer do not wait for it again and again.
const AWAY_PAUSE_MS = 2_000;
const MAX_ANSWERS = 1_000;

/** The `reason` of an `unavailable` of who needs a kontrol that is away. */
export const KONTROL_AWAY = "kontrol_away";

/** The error of who needs a kontrol that is away. */
export function away(consequence: string, cause: KiteError | undefined): KiteError {
  const why = cause === undefined ? "" : ` (${cause.message})`;
  return new KiteError("unavailable", `kontrol cannot be asked${why}, and ${consequence}; is it running?`, { cause, reason: KONTROL_AWAY });
}
