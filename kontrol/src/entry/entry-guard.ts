import { createHash } from "node:crypto";
import { KiteError } from "@kite-mesh/kite";
import { canonicalUsername } from "../people/usernames.ts";
import { Attempts, type Rate } from "./attempts.ts";

/** How often somebody may be wrong, or may ask as a stranger, before he has to wait. */
export interface EntryLimits {
  /** kite.keys and tokens that were not good, by source. What a kite shows that was good before is looked at all the same. */
  readonly credentials: Rate;
  readonly joinTokens: Rate;
  readonly deviceCodes: Rate;
  readonly passwordsPerSource: Rate;
  readonly passwordsPerAccount: Rate;
  readonly userCodesPerSource: Rate;
  readonly userCodesPerAccount: Rate;
  /** Machines that ask to be let in, by source: each is a row until its code has ended. */
  readonly logins: Rate;
  /** Connections that have not shown a good credential yet, by source. */
  readonly handshakes: Rate;
  /** Registrations by HTTP that came to nothing, by source. */
  readonly registrations: Rate;
  /** Beats by HTTP that were for no kite of another kontrol, by source. Each is looked for there. */
  readonly beats: Rate;
  /** kite.keys that an account got, by whatever it showed. Each is kept for good, and by every kontrol in memory. */
  readonly kiteKeysPerAccount: Rate;
  /** Join tokens that were made for an account. */
  readonly joinTokensPerAccount: Rate;
  /** Grants that an account gave. What each one ends with is told to every kite it covered, and kept by all kontrols for an hour. */
  readonly grantsPerAccount: Rate;
  /** Members that an account added to teams: what a team was given ends for each who leaves. */
  readonly membersPerAccount: Rate;
}

const MINUTE_MS = 60_000;
const ENTRY_LIMITS: EntryLimits = {
  // Nobody guesses a signature; a source that shows bad ones without end is kept from costing more than a thousandth of a processor.
  credentials: { tries: 300, perMs: MINUTE_MS },
  joinTokens: { tries: 120, perMs: MINUTE_MS },
  deviceCodes: { tries: 120, perMs: MINUTE_MS },
  // A person mistypes a few times; an office behind one address has many persons.
  passwordsPerSource: { tries: 50, perMs: 10 * MINUTE_MS },
  // 1,440 guesses a day. He who is attacked so cannot use his password meanwhile; his kite.key and other machines go on.
  passwordsPerAccount: { tries: 10, perMs: 10 * MINUTE_MS },
  // A code is one of 25,600,000,000, lives ten minutes, and is one of a few.
  userCodesPerSource: { tries: 30, perMs: 10 * MINUTE_MS },
  userCodesPerAccount: { tries: 10, perMs: 10 * MINUTE_MS },
  logins: { tries: 30, perMs: 10 * MINUTE_MS },
  // More kites than one machine holds may start at once; a good credential gives its try back.
  handshakes: { tries: 2_000, perMs: 20_000 },
  registrations: { tries: 300, perMs: MINUTE_MS },
  // A quarter of those that are looked for at once: more sources than one would be needed to keep others' beats out.
  beats: { tries: 60, perMs: 5_000 },
  // A thousand machines of one account may be made at once; more of them is a program that runs in a circle.
  kiteKeysPerAccount: { tries: 1_000, perMs: 60 * MINUTE_MS },
  joinTokensPerAccount: { tries: 1_000, perMs: 60 * MINUTE_MS },
  // All the grants that an account may have, and two full teams, at once. To take back has no limit: what ends was given before.
  grantsPerAccount: { tries: 1_000, perMs: 60 * MINUTE_MS },
  membersPerAccount: { tries: 1_000, perMs: 60 * MINUTE_MS },
};

// A kite.key's 32 bytes and their place in the map: 2 MB. A mesh with more kites has some of them wait with the bad ones.
const MAX_GOOD = 10_000;

type Limit = keyof EntryLimits;

/** What is being looked at for one source: as many as it has tries left. The others wait for how these end. */
interface UnderWay {
  running: number;
  readonly waiting: (() => void)[];
}

// More than the kites of one machine that start together; what is looked at takes milliseconds.
const MAX_WAITING = 2_000;

/**
 * Keeps brute force and floods from kontrol: counts, for each source and each account, what was wrong. In the memory of this
 * process: several kontrols allow as much each. It holds nothing that would have to be closed.
 */
export class EntryGuard {
  readonly #limits: EntryLimits;
  readonly #attempts: Record<Limit, Attempts>;
  /** What was shown and was good, by its digest; the one that was shown last at the end. */
  readonly #good = new Set<string>();
  readonly #underWay = new Map<string, UnderWay>();

  constructor(limits: Partial<EntryLimits> = {}) {
    this.#limits = { ...ENTRY_LIMITS, ...limits };
    const counters = Object.entries(this.#limits).map(([limit, rate]) => [limit, new Attempts(rate)]);
    this.#attempts = Object.fromEntries(counters) as Record<Limit, Attempts>;
  }

  /**
   * Counts a try for what can be guessed; whoever was right gives it back with the answer. It counts before it is known to be
   * wrong: a thousand tries at the same time are a thousand.
   *
   * @throws {KiteError} `overloaded` with `details.retryAfterMs`.
   */
  attempt(tries: Partial<Record<Limit, string>>): () => void {
    const all = Object.entries(tries) as [Limit, string][];
    for (const [limit, name] of all) this.check(limit, name);
    for (const [limit, name] of all) this.#attempts[limit].take(name);
    return () => {
      for (const [limit, name] of all) this.#attempts[limit].giveBack(name);
    };
  }

  /**
   * Does what only a flood makes dear, such as looking for a secret that nobody guesses; only what fails with
   * `unauthenticated` counts. Each counts until it is known to be right, so no more than the limit are tried at once; what is
   * over it waits for those instead of being refused, since good ones come in numbers. `work` calls `right` when it knows early;
   * where an answer may be wrong, too, `isRight` tells.
   *
   * @throws {KiteError} what `work` throws, or `overloaded` with `details.retryAfterMs`.
   */
  async unlessFailing<T>(
    limit: Limit,
    source: string,
    work: (right: () => void) => Promise<T>,
    isRight: (done: T) => boolean = () => true,
  ): Promise<T> {
    const line = `${limit} ${source}`;
    await this.#turn(limit, source, line);
    let known = false;
    const right = () => {
      if (known) return;
      known = true;
      this.#attempts[limit].giveBack(source);
      this.#end(line);
    };
    try {
      const done = await work(right);
      if (isRight(done)) right();
      return done;
    } catch (thrown) {
      if (KiteError.from(thrown).code !== "unauthenticated") right();
      throw thrown;
    } finally {
      if (!known) this.#end(line);
    }
  }

  async #turn(limit: Limit, source: string, line: string): Promise<void> {
    while (this.#attempts[limit].waitMs(source) > 0) {
      const waiting = this.#underWay.get(line)?.waiting;
      if (waiting === undefined || waiting.length >= MAX_WAITING) this.check(limit, source);
      else await new Promise<void>((resolve) => waiting.push(resolve));
    }
    this.#attempts[limit].take(source);
    const underWay = this.#underWay.get(line) ?? { running: 0, waiting: [] };
    this.#underWay.set(line, underWay);
    underWay.running++;
  }

  #end(line: string): void {
    const underWay = this.#underWay.get(line);
    if (underWay === undefined) return;
    underWay.running--;
    if (underWay.running === 0) this.#underWay.delete(line);
    // Whoever finds no room waits again, or is refused when nothing is under way any more.
    const woken = underWay.running === 0 ? underWay.waiting.splice(0) : underWay.waiting.splice(0, 1);
    for (const wake of woken) wake();
  }

  /** As {@link unlessFailing}, for a credential: one that was good before does not wait for its neighbours' bad ones. */
  async credential<T>(key: string, source: string, verify: () => Promise<T>): Promise<T> {
    const digest = createHash("sha256").update(key).digest("base64");
    const verifying = this.#good.has(digest)
      ? this.#counting("credentials", source, verify)
      : this.unlessFailing("credentials", source, verify);
    // Not taken out meanwhile: kites that share a kite.key come back together.
    const verified = await verifying.catch((thrown: unknown) => {
      if (KiteError.from(thrown).code === "unauthenticated") this.#good.delete(digest);
      throw thrown;
    });
    this.#good.delete(digest);
    for (const oldest of this.#good) {
      if (this.#good.size < MAX_GOOD) break;
      this.#good.delete(oldest);
    }
    this.#good.add(digest);
    this.admitted(source);
    return verified;
  }

  /** A connection from there has shown what opens it, and is no stranger's. */
  admitted(source: string): void {
    this.#attempts.handshakes.giveBack(source);
  }

  async #counting<T>(limit: Limit, source: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (thrown) {
      if (KiteError.from(thrown).code === "unauthenticated") this.#attempts[limit].take(source);
      throw thrown;
    }
  }

  /**
   * Counts something that an account gets, and that is never given back.
   *
   * @throws {KiteError} `overloaded` with `details.retryAfterMs`.
   */
  spend(limit: Extract<Limit, `${string}PerAccount`>, username: string): void {
    this.attempt({ [limit]: canonicalUsername(username) });
  }

  /** @throws {KiteError} `overloaded` with `details.retryAfterMs`. */
  check(limit: Limit, name: string): void {
    const retryAfterMs = this.#attempts[limit].waitMs(name);
    if (retryAfterMs === 0) return;
    const { tries, perMs } = this.#limits[limit];
    throw new KiteError(
      "overloaded",
      `the limit ${limit} is ${tries} in ${Math.round(perMs / 1000)} s, and was reached; try again in ${Math.ceil(retryAfterMs / 1000)} s`,
      { outcome: "not_run", details: { limit, retryAfterMs } },
    );
  }
}
