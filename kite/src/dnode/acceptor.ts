import { KiteError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import type { Limits } from "../limits.ts";
import type { Logger } from "../log.ts";
import type { Caller } from "../method.ts";
import type { Watch } from "../observe.ts";
import type { Authenticate } from "../session/acceptor.ts";
import type { Serve } from "../session/calls.ts";
import type { Explain } from "../session/failure.ts";
import { StrangerCount } from "../session/stranger-count.ts";
import { GO_AWAY } from "../transport/sockjs.ts";
import { CLOSE, type Transport } from "../transport/transport.ts";
import { STRANGER } from "./credentials.ts";
import { DnodeSession } from "./session.ts";

export interface DnodeAcceptorOptions {
  readonly limits: Limits;
  readonly serve: Serve;
  readonly authenticate: Authenticate;
  readonly identity: Identity;
  /** What callers are told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly log?: Logger | undefined;
  readonly watch?: Watch | undefined;
  /** Counts sessions without a credential, when other dialects have some as well. */
  readonly strangers?: StrangerCount | undefined;
}

/** Turns incoming transports into sessions of the dnode dialect. Whoever made it closes it. */
export class DnodeAcceptor {
  readonly #options: DnodeAcceptorOptions;
  readonly #sessions = new Set<DnodeSession>();
  readonly #strangers: StrangerCount;
  /** Those in which nobody has called yet, with the time since when; oldest first. */
  readonly #silent = new Map<DnodeSession, number>();
  #closed: KiteError | undefined;

  constructor(options: DnodeAcceptorOptions) {
    this.#options = options;
    this.#strangers = options.strangers ?? new StrangerCount(options.limits);
  }

  get sessions(): Iterable<DnodeSession> {
    return [...this.#sessions];
  }

  /** Takes a transport whose peer has said nothing yet. */
  accept(transport: Transport): void {
    if (this.#closed !== undefined) return transport.close(GO_AWAY.code, GO_AWAY.reason);
    if (!this.#makeRoom()) {
      const { unauthenticated } = this.#options.limits;
      return transport.close(CLOSE.unauthenticated, `the limit unauthenticated is ${unauthenticated}; try again in a moment`);
    }
    const { limits, serve, authenticate, identity, explain, log, watch } = this.#options;
    // What it counts for while nobody has shown a credential here.
    let leave = (): void => {};
    const session: DnodeSession = new DnodeSession({
      transport,
      limits,
      serve,
      authenticate,
      identity,
      explain,
      log,
      through: watch?.through(() => session.caller.kite).calling,
      onCaller: (who) => {
        leave();
        leave = who === "stranger" ? this.#strangers.enter(transport.remoteAddress) : () => {};
        this.#silent.delete(session);
      },
      onClosed: () => {
        leave();
        leave = () => {};
        this.#silent.delete(session);
        this.#sessions.delete(session);
      },
    });
    this.#sessions.add(session);
    this.#silent.set(session, performance.now());
    session.start();
  }

  /** Ends every session in which a matching caller has called; the peer is told why. */
  endWhere(matches: (caller: Caller) => boolean, why: KiteError): number {
    const ending = [...this.#sessions].filter(({ callers }) => (callers.length === 0 ? matches(STRANGER) : callers.some(matches)));
    for (const session of ending) session.end(why, CLOSE.unauthenticated);
    return ending.length;
  }

  /** Ends all sessions, and refuses whoever comes from now on. */
  close(why: KiteError): void {
    this.#closed = why;
    for (const session of [...this.#sessions]) session.end(why);
  }

  /**
   * The dialect has no hello: kites that exist connect, and call much later. So one that has said nothing for too long keeps
   * its place until somebody else needs it; were it closed at once, those would dial again and again.
   */
  #makeRoom(): boolean {
    const { limits } = this.#options;
    if (this.#silent.size < limits.unauthenticated) return true;
    const [oldest] = this.#silent;
    if (oldest === undefined || performance.now() - oldest[1] < limits.helloMs) return false;
    oldest[0].end(new KiteError("deadline_exceeded", `a call was expected within ${limits.helloMs} ms`));
    return true;
  }
}
