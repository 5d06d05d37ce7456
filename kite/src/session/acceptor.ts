import { KiteError, protocolError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import { type Limits, limitError, strangerLimits } from "../limits.ts";
import { type Logger, silent } from "../log.ts";
import type { Caller } from "../method.ts";
import type { Watch } from "../observe.ts";
import { sourceOfAddress } from "../source.ts";
import { CLOSE, type Transport } from "../transport/transport.ts";
import type { RawFrame } from "../wire/v1.ts";
import { carriedError } from "../wire/values.ts";
import type { Serve } from "./calls.ts";
import type { Explain } from "./failure.ts";
import { type Auth, type Hello, readAuth, readHello, writeRefusal, writeWelcome } from "./handshake.ts";
import { Session } from "./session.ts";
import { StrangerCount } from "./stranger-count.ts";

/**
 * Decides who a peer is. It gets the credential that was shown, if any, what the peer says of itself, which is only a claim, and
 * where it dials from.
 *
 * @throws {KiteError} `unauthenticated` or `token_expired`.
 */
export type Authenticate = (auth: Auth | undefined, claimed: Identity | undefined, origin?: Origin) => Promise<Caller>;

/** Where a credential comes from. */
export interface Origin {
  /** As {@link CallSession.remoteAddress}. */
  readonly remoteAddress: string | undefined;
}

export interface AcceptorOptions {
  readonly limits: Limits;
  readonly serve: Serve;
  readonly authenticate: Authenticate;
  /** What peers are told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly identity?: Identity | undefined;
  /** How long a session waits for its peer to come back, in milliseconds. */
  readonly graceMs?: number | undefined;
  readonly log?: Logger | undefined;
  readonly watch?: Watch | undefined;
  readonly heartbeatMs?: number | undefined;
  /** Counts sessions without a credential, when other dialects have some as well. */
  readonly strangers?: StrangerCount | undefined;
}

// Half a minute: a laptop that changes networks is back by then, and what waits for it has not grown large.
const GRACE_MS = 30_000;

/** Turns incoming transports into sessions, and keeps the sessions whose transport was lost until their grace is over. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #sessions = new Map<string, Held>();
  readonly #greeting = new Set<Greeting>();
  /** Sessions without a transport whose peer never showed a credential, oldest first. */
  readonly #strangers = new Set<Session>();
  readonly #strangerCount: StrangerCount;
  #closed: KiteError | undefined;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#strangerCount = options.strangers ?? new StrangerCount(options.limits);
  }

  get sessions(): Iterable<Session> {
    return [...this.#sessions.values()].map(({ session }) => session);
  }

  /** Takes a transport whose peer has said nothing yet. */
  accept(transport: Transport): void {
    const { limits } = this.#options;
    if (this.#closed !== undefined) return refuse(transport, this.#closed);
    if (this.#greeting.size >= limits.unauthenticated && !this.#makeRoom(transport)) {
      return refuse(
        transport,
        new KiteError("overloaded", `the limit unauthenticated is ${limits.unauthenticated}; try again in a moment`),
      );
    }
    const greeting: Greeting = { transport, said: false, over: false, session: undefined };
    this.#greeting.add(greeting);
    const late = setTimeout(() => {
      this.#refuse(greeting, new KiteError("deadline_exceeded", `a hello was expected within ${limits.helloMs} ms`));
    }, limits.helloMs);
    transport.start({
      frame: (raw) => {
        if (greeting.session !== undefined) return greeting.session.receive(transport, raw);
        if (greeting.over) return;
        // Until it is known who speaks, the hello is everything that is listened to.
        if (greeting.said) return this.#refuse(greeting, protocolError("nothing is sent before the welcome but one hello"));
        greeting.said = true;
        void this.#greet(greeting, raw).finally(() => {
          clearTimeout(late);
          this.#greeting.delete(greeting);
        });
      },
      closed: (why) => {
        clearTimeout(late);
        greeting.over = true;
        this.#greeting.delete(greeting);
        greeting.session?.detach(transport, why);
      },
    });
  }

  /** Ends every session whose caller matches; the peer is told why. */
  endWhere(matches: (caller: Caller) => boolean, why: KiteError): number {
    const ending = [...this.#sessions.values()].filter(({ session }) => matches(session.caller));
    for (const { session } of ending) session.end(why, CLOSE.unauthenticated);
    return ending.length;
  }

  /** Ends all sessions, and refuses whoever comes from now on, those that are being greeted included. */
  close(why: KiteError): void {
    this.#closed = why;
    for (const greeting of [...this.#greeting]) this.#refuse(greeting, why);
    for (const { session } of [...this.#sessions.values()]) session.end(why);
  }

  async #greet(greeting: Greeting, raw: RawFrame): Promise<void> {
    try {
      const hello = readHello(raw);
      const caller = await this.#authenticate(hello, greeting.transport);
      // Whoever left meanwhile, or was refused, gets no session: it would wait for a peer that knows nothing of it.
      if (!greeting.over && !this.#resume(greeting, hello, caller)) this.#open(greeting, hello, caller);
    } catch (thrown) {
      this.#refuse(greeting, KiteError.from(thrown));
    }
  }

  async #authenticate({ auth, kite }: Hello, { remoteAddress }: Transport): Promise<Caller> {
    const { authenticate, log = silent } = this.#options;
    try {
      return await authenticate(auth, kite, { remoteAddress });
    } catch (thrown) {
      if (thrown instanceof KiteError) throw thrown;
      // A stranger does not learn what went wrong inside.
      log.error({ err: thrown }, "a credential could not be checked");
      throw new KiteError("internal", "the credential could not be checked; try again later", { cause: thrown });
    }
  }

  /** One source must not take all the places: whoever has more of them than the newcomer loses the oldest. */
  #makeRoom({ remoteAddress }: Transport): boolean {
    const bySource = new Map<string, Greeting[]>();
    for (const greeting of this.#greeting) {
      const source = sourceOfAddress(greeting.transport.remoteAddress);
      const same = bySource.get(source);
      if (same === undefined) bySource.set(source, [greeting]);
      else same.push(greeting);
    }
    const own = bySource.get(sourceOfAddress(remoteAddress))?.length ?? 0;
    const crowd = [...bySource.values()].reduce((one, other) => (other.length > one.length ? other : one), []);
    const [oldest] = crowd;
    if (oldest === undefined || crowd.length <= own + 1) return false;
    const { unauthenticated } = this.#options.limits;
    this.#refuse(oldest, new KiteError("overloaded", `the limit unauthenticated is ${unauthenticated}, and your address has most of them`));
    return true;
  }

  #refuse(greeting: Greeting, error: KiteError): void {
    if (greeting.over) return;
    greeting.over = true;
    this.#greeting.delete(greeting);
    refuse(greeting.transport, error);
  }

  #resume(greeting: Greeting, { resume }: Hello, caller: Caller): boolean {
    const held = resume === undefined ? undefined : this.#sessions.get(resume.id);
    // The secret alone is not enough: a session goes on only for the one it was opened for.
    if (resume === undefined || held === undefined || !sameText(held.secret, resume.secret)) return false;
    if (held.session.caller.username !== caller.username || !held.session.canResumeAfter(resume.received)) return false;
    // What the peer may do is what it shows now: the credential that opened the session may have ended, or have allowed more.
    held.session.renew(caller);
    this.#attach(greeting, held, { resumed: true, peerReceived: resume.received });
    return true;
  }

  #open(greeting: Greeting, { kite, limits: theirs }: Hello, caller: Caller): void {
    const { serve, heartbeatMs, authenticate, watch, explain } = this.#options;
    const stranger = caller.role === undefined;
    const leave = stranger ? this.#strangerCount.enter(greeting.transport.remoteAddress) : () => {};
    const limits = stranger ? strangerLimits(this.#options.limits) : this.#options.limits;
    const id = crypto.randomUUID();
    const session: Session = new Session({
      id,
      limits,
      serve,
      caller,
      explain,
      authenticate: async (auth) => {
        const { remoteAddress } = session;
        return sameUser(await authenticate(readAuth(auth), kite, { remoteAddress }), session.caller);
      },
      onState: (state) => this.#onState(id, state),
      through: watch?.through(() => session.caller.kite),
      ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    });
    session.agree(theirs);
    const held: Held = { session, secret: randomSecret(), limits, leave, grace: undefined };
    this.#sessions.set(id, held);
    this.#attach(greeting, held, { resumed: false, peerReceived: 0 });
  }

  #attach(greeting: Greeting, held: Held, { resumed, peerReceived }: { resumed: boolean; peerReceived: number }): void {
    const { session } = held;
    clearTimeout(held.grace);
    greeting.session = session;
    if (session.caller.role !== undefined) greeting.transport.admit?.();
    greeting.transport.send(this.#welcome(held, resumed));
    session.attach(greeting.transport, peerReceived);
  }

  #welcome({ session, secret, limits }: Held, resumed: boolean): string {
    const { identity, graceMs = GRACE_MS } = this.#options;
    return writeWelcome({ session: { id: session.id, secret, received: session.received }, resumed, graceMs, kite: identity, limits });
  }

  #onState(id: string, state: string): void {
    const held = this.#sessions.get(id);
    if (held === undefined) return;
    clearTimeout(held.grace);
    this.#strangers.delete(held.session);
    if (state === "closed" && this.#sessions.delete(id)) held.leave();
    if (state !== "suspended") return;
    const { graceMs = GRACE_MS, log = silent } = this.#options;
    held.grace = setTimeout(() => {
      log.debug({ session: id, caller: held.session.caller.username }, "the session's peer did not come back");
      held.session.end(new KiteError("disconnected", `the connection was lost and not restored within ${graceMs} ms`));
    }, graceMs);
    held.grace.unref();
    if (held.session.caller.role === undefined) this.#holdStranger(held.session);
  }

  /** Sessions that anybody may open without a credential must not gather while they wait for nobody. */
  #holdStranger(session: Session): void {
    const { limits } = this.#options;
    this.#strangers.add(session);
    const [oldest] = this.#strangers;
    if (this.#strangers.size <= limits.unauthenticated || oldest === undefined) return;
    oldest.end(limitError("unauthenticated", limits, "as many sessions without a credential wait for their peer"));
  }
}

/** A transport on its way to a session. */
interface Greeting {
  readonly transport: Transport;
  said: boolean;
  /** It has closed, or was refused; nothing more becomes of it. */
  over: boolean;
  session: Session | undefined;
}

interface Held {
  readonly session: Session;
  readonly secret: string;
  /** What its peer was told in the first welcome. */
  readonly limits: Limits;
  /** It is over. */
  readonly leave: () => void;
  grace: ReturnType<typeof setTimeout> | undefined;
}

function refuse(transport: Transport, error: KiteError): void {
  transport.send(writeRefusal(carriedError(error)));
  transport.close(error.code === "protocol_error" ? CLOSE.protocolError : CLOSE.unauthenticated, error.message);
}

/** 128 random bits: not to be guessed within a session's life. */
function randomSecret(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Compares without telling by its time where the difference is. */
function sameText(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= a.charCodeAt(index) ^ b.charCodeAt(index);
  return difference === 0;
}

/** A session never changes hands: what was opened for one person must not go on as another's. */
function sameUser(caller: Caller, { username }: Caller): Caller {
  if (caller.username === username) return caller;
  throw new KiteError("permission_denied", `this session belongs to ${username}; open another one`);
}
