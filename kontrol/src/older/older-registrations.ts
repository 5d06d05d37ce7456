import { setTimeout as delay } from "node:timers/promises";
import {
  type Authenticate,
  type Call,
  type Caller,
  callerOf,
  callWith,
  type Identity,
  KiteError,
  type Logger,
  type Origin,
  type Register,
} from "@kite-mesh/kite";
import type { Directory } from "../directory/directory.ts";
import type { Held, Registrant, Registrar } from "../presence/registrar.ts";

export interface OlderRegistrationsOptions {
  readonly directory: Directory;
  readonly registrar: Registrar;
  readonly authenticate: Authenticate;
  /** Takes a beat from `source` to the replica that has the kite; undefined when there is none that answers. */
  readonly beatElsewhere: (id: string, source: string) => Promise<"pong" | "registeragain" | undefined>;
  readonly heartbeatMs: number;
  readonly logger: Logger;
}

/** What an older kite reads after it has registered. */
export interface OlderRegistered {
  readonly url: string;
  /** How often kontrol expects a beat, in seconds. */
  readonly heartbeatInterval: number;
  /** A new kite.key, and the key that signed it as PEM, after a rotation. */
  readonly kiteKey?: string;
  readonly publicKey?: string;
}

export interface HttpRegister {
  readonly url: string;
  readonly kite: Identity;
  readonly auth?: { readonly type: string; readonly key: string } | undefined;
}

// What their own kontrol allowed: ten seconds, and twenty of delay. They beat by a timer that starts when we ask for it.
const BEATS = 3;
// Longer than a question to the database and one to another replica take together. Whoever hears it has to register anyway.
const SAME_FOR_ALL_MS = 50;
// An older kite that does not answer by then is not going to; whether it beats is what counts.
const HEARTBEAT_TIMEOUT_MS = 4_000;

/** What an older kite serves to the kontrol that it registers with. */
interface OlderKite {
  kite: { heartbeat(seconds: number, beat: () => void): Promise<unknown> };
}

/**
 * The registrations of kites in Go and of kite.js. They say only where they are dialled; who they are comes from their
 * session, or stands beside it when they come by HTTP. kontrol asks for their beats instead of waiting for them.
 */
export class OlderRegistrations {
  readonly #options: OlderRegistrationsOptions;

  constructor(options: OlderRegistrationsOptions) {
    this.#options = options;
  }

  /** Enters the kite of this session, and asks it to beat. */
  async register({ url }: { url: string }, call: Call): Promise<OlderRegistered> {
    const { kite } = call.caller;
    if (kite === undefined) {
      throw new KiteError("invalid_argument", "register is for kites that say who they are; this session came without a kite's identity");
    }
    const asked = this.#asked(url, kite, call.caller);
    const held = await this.#enter(asked, call);
    this.#askForBeats(held, asked, call);
    return this.#answer(held);
  }

  /**
   * Enters a kite that has no session. It lives as long as it beats.
   *
   * @throws {KiteError} `unauthenticated` without a kite.key that this kontrol trusts.
   */
  async registerByHttp({ url, kite, auth }: HttpRegister, origin: Origin): Promise<OlderRegistered> {
    if (auth === undefined) throw new KiteError("unauthenticated", "no auth was sent; a kite registers with its kite.key");
    if (auth.type !== "kiteKey") throw new KiteError("invalid_argument", `unexpected authentication type: ${auth.type.slice(0, 40)}`);
    const caller = await this.#options.authenticate(auth, kite, origin);
    return this.#answer(await this.#enter(this.#asked(url, kite, caller), { caller }));
  }

  /**
   * Takes the beat of a kite that came by HTTP. One with a session beats there, and is not told from one that is unknown, also not by
   * how long it takes: this address is open to everybody, and who may not see a kite must not learn here that it is there. A beat for
   * the kite of another replica goes there, unless it comes from one, and so from no `source`; when that one does not answer, the
   * kite registers here.
   *
   * @throws {KiteError} `overloaded` when too many came from there for kites that no replica has: not one to register again for.
   */
  async heartbeat(id: string, source: string | undefined): Promise<"pong" | "registeragain"> {
    const { registrar, beatElsewhere } = this.#options;
    const held = registrar.held(id);
    if (held !== undefined && held.sessionId === undefined) {
      registrar.beat(held);
      return "pong";
    }
    if (source === undefined) return "registeragain";
    // The same is done for all of them; what is left, such as the way to another replica, disappears in the wait.
    const [answer] = await Promise.all([beatElsewhere(id, source), delay(SAME_FOR_ALL_MS)]);
    return answer ?? "registeragain";
  }

  /** They cannot say who may see them. A service that nobody finds is of no use; a person's kite is the person's. */
  #asked(url: string, kite: Identity, { username, credential }: Caller): Register {
    const { directory } = this.#options;
    const service = directory.account(username)?.kind === "service" && !directory.key(credential?.jti ?? "")?.machine;
    return { kite, url, visibility: service ? "mesh" : "private" };
  }

  #enter(asked: Register, registrant: Registrant): Promise<Held> {
    return this.#options.registrar.enter(asked, registrant, this.#interval * 1000 * BEATS);
  }

  #answer({ record, renewed }: Held): OlderRegistered {
    const answer = { url: record.url, heartbeatInterval: this.#interval };
    return renewed === undefined ? answer : { ...answer, kiteKey: renewed.kiteKey, publicKey: renewed.signingKey.publicPem };
  }

  /** Whole seconds: kites in Go cut off the rest, and cannot wait for nothing. */
  get #interval(): number {
    return Math.max(1, Math.round(this.#options.heartbeatMs / 1000));
  }

  #askForBeats(first: Held, asked: Register, call: Call): void {
    const { registrar, logger } = this.#options;
    let held = first;
    let entering = false;
    const beat = () => {
      if (registrar.beat(held) || entering || !this.#mayComeBack(held, call)) return;
      // It was silent, and is not any more.
      entering = true;
      void this.#enter(asked, call)
        .then(
          (again) => {
            held = again;
          },
          (cause: unknown) => logger.debug({ kite: asked.kite.id, err: cause }, "a kite that beats again could not be entered again"),
        )
        .finally(() => {
          entering = false;
        });
    };
    const older = callWith(callerOf<OlderKite>(call), { timeoutMs: HEARTBEAT_TIMEOUT_MS });
    // Some answer in a form of their own, or never, and beat all the same. Those that do not beat leave by that.
    older.kite.heartbeat(this.#interval, beat).catch((cause: unknown) => {
      logger.debug({ kite: asked.kite.id, err: cause }, "a kite gave no answer to kite.heartbeat");
    });
  }

  #mayComeBack({ record: { kite } }: Held, { session }: Call): boolean {
    return !session.closed.aborted && this.#options.directory.kite(kite.id) === undefined;
  }
}
