import { KiteError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import { type Limits, limitError, strangerLimits } from "../limits.ts";
import { type Logger, silent } from "../log.ts";
import type { Caller } from "../method.ts";
import type { Authenticate } from "../session/acceptor.ts";
import type { Auth } from "../session/handshake.ts";

/** Who calls. A credential that was refused makes a stranger, whom open methods still answer; all others say why. */
export interface Shown {
  readonly caller: Caller;
  readonly refused: KiteError | undefined;
}

/**
 * The credentials of one session of dnode, where every call brings its own. Each is verified when it comes for the first time,
 * and again when it has expired; a session that shows more than a few at a time has the oldest verified again.
 */
export class DnodeCredentials {
  readonly #authenticate: Authenticate;
  readonly #log: Logger;
  readonly #known = new Map<string, Promise<Shown> | Shown>();

  constructor(authenticate: Authenticate, log: Logger = silent) {
    this.#authenticate = authenticate;
    this.#log = log;
  }

  /** Everybody who was verified here, for those who end sessions. */
  get callers(): readonly Caller[] {
    return [...this.#known.values()].flatMap((shown) => ("caller" in shown ? [shown.caller] : []));
  }

  /** At once for a credential that was verified before, so that its calls keep their order without a detour. */
  who(auth: Auth | undefined, claimed: Identity | undefined): Shown | Promise<Shown> {
    const name = auth === undefined ? "" : `${auth.type}\n${auth.key}`;
    const known = this.#known.get(name);
    if (known !== undefined && !("caller" in known && hasExpired(known.caller))) return known;
    const verifying = this.#verify(auth, claimed).then((shown) => {
      // Forgotten meanwhile, or refused: what is refused now may be good in a moment, when kontrol's keys are known.
      if (this.#known.get(name) === verifying) {
        if (shown.refused === undefined) this.#known.set(name, shown);
        else this.#known.delete(name);
      }
      return shown;
    });
    this.#known.delete(name);
    this.#known.set(name, verifying);
    for (const oldest of this.#known.keys()) if (this.#known.size > MAX_KNOWN) this.#known.delete(oldest);
    return verifying;
  }

  async #verify(auth: Auth | undefined, claimed: Identity | undefined): Promise<Shown> {
    try {
      return { caller: await this.#authenticate(auth, claimed), refused: undefined };
    } catch (thrown) {
      return { caller: STRANGER, refused: this.#refusal(thrown) };
    }
  }

  #refusal(thrown: unknown): KiteError {
    if (thrown instanceof KiteError) return thrown;
    // A stranger does not learn what went wrong inside.
    this.#log.error({ err: thrown }, "a credential could not be checked");
    return new KiteError("unauthenticated", "the credential could not be checked; try again later", { cause: thrown });
  }
}

/** Nobody in particular: also the peer at the other end of a connection that this side dialled. */
export const STRANGER: Caller = {
  username: "anonymous",
  role: undefined,
  kite: undefined,
  expiresAt: undefined,
  methods: undefined,
  credential: undefined,
};

/** Whoever this side has dialled. */
export const DIALLED: Shown = { caller: { ...STRANGER, role: "owner" }, refused: undefined };

/**
 * A caller whom nobody knows was asked for a credential: says what was wrong with the one that it showed, in the words that
 * clients of dnode look for.
 */
export function refusal(error: KiteError, { refused }: Shown, auth: Auth | undefined): KiteError {
  if (error.code !== "unauthenticated") return error;
  return refused ?? (auth === undefined ? new KiteError("unauthenticated", NO_CREDENTIAL, { cause: error }) : error);
}

const NO_CREDENTIAL = "No authentication information is provided";

/** What a stranger asks too much of; the dialect has no handshake that would tell its peer what it may. */
export function beyondStranger(limits: Limits, size: number, atWork: number): KiteError | undefined {
  const { strangerBytes } = limits;
  if (size > strangerBytes) return limitError("strangerBytes", limits, `a call of ${size} characters came without a good credential`);
  const allowed = strangerLimits(limits);
  if (atWork >= allowed.pendingCalls) return limitError("pendingCalls", allowed, "one call more came without a good credential");
  return undefined;
}

// A session has one credential, two while it renews it; a proxy that carries several people's still has most of them known.
const MAX_KNOWN = 16;

function hasExpired({ expiresAt }: Caller): boolean {
  return expiresAt !== undefined && expiresAt < Date.now();
}
