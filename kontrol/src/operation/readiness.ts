import type { Follower } from "../directory/follower.ts";
import type { Upkeep } from "../presence/upkeep.ts";
import type { SigningKeys } from "../trust/signing-keys.ts";

export interface ReadinessOptions {
  readonly follower: Pick<Follower, "behind" | "connected">;
  readonly keys: Pick<SigningKeys, "currentOf">;
  readonly heartbeatMs: number;
}

// A lag of some changes is the way from here to the database; this many are what a replica reads in one bite.
const LAG = 1_000;
// Two, as for a kite: one write that came late is no database that takes none.
const BEATS = 2;

/** Whether a kontrol can do everything that it is for; it knows without asking the database. */
export class Readiness {
  readonly #options: ReadinessOptions;
  /** Undefined until kontrol is up. */
  #upkeep: Pick<Upkeep, "silentMs"> | undefined;
  #stopping = false;

  constructor(options: ReadinessOptions) {
    this.#options = options;
  }

  started(upkeep: Pick<Upkeep, "silentMs">): void {
    this.#upkeep = upkeep;
  }

  stopping(): void {
    this.#stopping = true;
  }

  /** What is missing, each in a sentence; nothing when all is well. */
  missing(): string[] {
    const { follower, keys, heartbeatMs } = this.#options;
    if (this.#stopping) return ["kontrol is stopping"];
    const missing: string[] = [];
    if (this.#upkeep === undefined) missing.push("kontrol is starting: it has not yet said to the others that it is there");
    if (!follower.connected) missing.push("the database does not answer; queries are answered from memory");
    else if (follower.behind > LAG) missing.push(`the directory is ${follower.behind} changes behind the database`);
    if ((this.#upkeep?.silentMs ?? 0) > (BEATS + 1) * heartbeatMs)
      missing.push("the database takes no changes: kontrol's own beats cannot be written, so nothing can register");
    if (keys.currentOf("EdDSA") === undefined) missing.push("no signing key is active; kontrol key add makes one");
    return missing;
  }
}
