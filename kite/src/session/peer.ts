import { sleep, waitUntil } from "../abortable.ts";
import { KiteError, protocolError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import type { Limits } from "../limits.ts";
import { type Logger, silent } from "../log.ts";
import type { Caller, CallOptions } from "../method.ts";
import type { Watch } from "../observe.ts";
import { REFUSED, type Transport } from "../transport/transport.ts";
import type { DialSocket } from "../transport/websocket.ts";
import { PROTOCOL } from "../wire/v1.ts";
import { ACCESS_LOST, type Serve } from "./calls.ts";
import type { Explain } from "./failure.ts";
import type { Auth, Hello, Welcome } from "./handshake.ts";
import { introduce } from "./introduce.ts";
import { keepRenewed, timerMs } from "./renewal.ts";
import { Session } from "./session.ts";

/** Where a peer is dialled, and as whom. */
export interface Target {
  readonly url: string;
  readonly auth?: Auth | undefined;
  /** When the credential ends, in milliseconds since the epoch; it is renewed before. */
  readonly expiresAt?: number | undefined;
  /** Further WebSocket subprotocols, such as the relay's token. */
  readonly protocols?: readonly string[] | undefined;
  /** Who the peer is to the methods that are served to it; default: a stranger. */
  readonly caller?: Caller | undefined;
}

export interface PeerOptions {
  /** Asked before every dial, so that a kite that moved is found, and a token is fresh. Told how the dial before went. */
  readonly target: (signal: AbortSignal, last: "failed" | "connected" | undefined) => Promise<Target>;
  readonly dial: DialSocket;
  readonly limits: Limits;
  readonly identity?: Identity | undefined;
  /** Answers the peer's calls; left out, it may not call. */
  readonly serve?: Serve | undefined;
  /** What the peer is told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly log?: Logger | undefined;
  readonly watch?: Watch | undefined;
  readonly heartbeatMs?: number | undefined;
  readonly dialTimeoutMs?: number | undefined;
  readonly random?: (() => number) | undefined;
}

/**
 * `connecting`: not been reached yet. `suspended`: the connection was lost, and is dialled again while a session may be resumed
 * or a call waits. `closed`: this side has closed it, for good.
 */
export type PeerState = "connecting" | "open" | "suspended" | "closed";

// A kite that does not answer a dial in ten seconds is down or unreachable; the next try may find another one.
const DIAL_TIMEOUT_MS = 10_000;
// Who was there a moment ago answers at once. If not, a balancer may know another; after that there is patience again.
const REDIAL_TIMEOUT_MS = 3_000;
const FIRST_DELAY_MS = 100;
// Soon enough to notice a restart, seldom enough that a thousand waiting clients are no load.
const LONGEST_DELAY_MS = 5_000;

/**
 * One remote kite: keeps a session to it open, dials again when the connection drops, and opens a new session when the old
 * one is lost. Whoever made it closes it.
 *
 * @example peerOf(math).onState((state) => console.log(state === "open" ? "green" : "yellow"));
 */
export class Peer implements AsyncDisposable {
  readonly #options: PeerOptions;
  readonly #closing = new AbortController();
  readonly #listeners = new Set<(state: PeerState) => void>();
  #state: PeerState = "connecting";
  #session: Session;
  #ticket: { id: string; secret: string; url: string } | undefined;
  #graceMs = 0;
  #identity: Identity | undefined;
  #last: "failed" | "connected" | undefined;
  /** Whether a relay stands between; one that cannot be reached says nothing about the peer. */
  #relayed = false;
  #opened = { at: 0, progress: 0 };
  /** Connections in a row that were lost before anything had come through. */
  #fruitless = 0;
  #dialling: Promise<void> | undefined;
  #attempting: Promise<void> | undefined;
  #stopRenewal: (() => void) | undefined;
  #grace: ReturnType<typeof setTimeout> | undefined;

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#session = this.#newSession();
  }

  /** How the connection is now; {@link onState} tells of changes. */
  get state(): PeerState {
    return this.#state;
  }

  /** Who answered, by its own word and the token's audience; undefined before the first connection. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** The conversation with the peer as it is now: a lost one is replaced by a new one. */
  get session(): Session {
    return this.#session;
  }

  /** Calls `listener` on every change of state, until the returned function is called or the state is `closed`. */
  onState(listener: (state: PeerState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Waits for the connection to stand.
   *
   * @throws {KiteError} what the first attempt failed with, `cancelled` when the signal is aborted first, `disconnected`
   * when this side closes.
   */
  async connect(signal?: AbortSignal): Promise<this> {
    if (this.#closing.signal.aborted) throw closedHere();
    if (this.#state === "open") return this;
    await waitUntil(this.#attempt(), signal);
    return this;
  }

  /**
   * Calls a method, and dials if there is no connection.
   *
   * @throws {KiteError} what the method threw, or what kept it from being called; `outcome` says whether it may have run.
   */
  call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown> {
    const answer = this.#session.call(method, args, options);
    // After the call is there: nothing is dialled unless somebody waits.
    if (this.#state !== "open") this.#wake();
    return answer;
  }

  /**
   * Calls a method without waiting for an answer, or learning whether there was one.
   *
   * @throws {KiteError} `disconnected` when this side has closed.
   */
  notify(method: string, args: readonly unknown[]): void {
    this.#session.notify(method, args);
    if (this.#state !== "open") this.#wake();
  }

  /** Ends the session; calls that wait fail with `disconnected`. */
  close(why: KiteError = new KiteError("disconnected", "this side has closed the connection")): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(why);
    this.#stopRenewal?.();
    clearTimeout(this.#grace);
    this.#session.end(why);
    this.#move("closed");
    this.#listeners.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#dialling?.catch(() => {});
  }

  #newSession(): Session {
    const { limits, serve = refuseCalls, heartbeatMs, watch, explain } = this.#options;
    const session: Session = new Session({
      id: crypto.randomUUID(),
      limits,
      serve,
      caller: DIALLED,
      explain,
      onState: (state) => this.#onSession(session, state),
      through: watch?.through(() => this.#identity),
      ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    });
    return session;
  }

  #onSession(session: Session, state: "open" | "suspended" | "closed"): void {
    if (session !== this.#session || this.#closing.signal.aborted) return;
    if (state === "open") return this.#move("open");
    this.#stopRenewal?.();
    if (state === "closed") {
      this.#replaceSession();
      return this.#move("suspended");
    }
    const { at, progress } = this.#opened;
    this.#fruitless = session.progress > progress || performance.now() - at > LONGEST_DELAY_MS ? 0 : this.#fruitless + 1;
    this.#startGrace(session);
    this.#move("suspended");
    this.#wake();
  }

  /** The peer keeps the session as long as it said; longer is not worth waiting. */
  #startGrace(session: Session): void {
    clearTimeout(this.#grace);
    const message = `the connection was lost and not restored within ${this.#graceMs} ms`;
    this.#grace = setTimeout(() => session.end(new KiteError("disconnected", message)), timerMs(this.#graceMs));
    (this.#grace as { unref?: () => void }).unref?.();
  }

  #replaceSession(): void {
    clearTimeout(this.#grace);
    this.#ticket = undefined;
    this.#session = this.#newSession();
  }

  /** Begins to dial while anybody needs the connection, unless that is going on. */
  #wake(): void {
    if (this.#closing.signal.aborted) return;
    this.#dialling ??= this.#dialLoop();
  }

  async #dialLoop(): Promise<void> {
    const { random = Math.random, log = silent } = this.#options;
    try {
      for (let tries = this.#fruitless; ; tries++) {
        if (tries > 0) {
          const delayMs = Math.min(FIRST_DELAY_MS * 2 ** (tries - 1), LONGEST_DELAY_MS);
          // With jitter: clients that lost the same server at the same moment come back one by one.
          await sleep(delayMs * (0.5 + random() / 2), { signal: this.#closing.signal }).catch(() => {}); // closing ends the loop by its condition
          if (!this.#needed()) return;
        }
        await this.#attempt().catch((thrown: unknown) => {
          const error = KiteError.from(thrown);
          log.debug({ code: error.code, error: error.message }, "could not connect");
          if (error.reason === REFUSED) this.#processIsGone(error);
          if (error.code === "unauthenticated" || error.code === "permission_denied") this.#accessIsGone(error);
          this.#failFresh(error);
        });
        if (!this.#needed()) return;
      }
    } finally {
      // In the same step as the last look at who waits: whoever calls after it must find nothing going on.
      this.#dialling = undefined;
    }
  }

  /** There is a session to come back to, or a call waits; otherwise nothing is dialled, and nothing is retried for nobody. */
  #needed(): boolean {
    if (this.#closing.signal.aborted || this.#state === "open") return false;
    return this.#ticket !== undefined || this.#session.counts.calls > 0;
  }

  /** Nothing listens where the session is: its process has ended, and the session with it. A relay may only be restarting. */
  #processIsGone(error: KiteError): void {
    if (this.#ticket === undefined || this.#relayed) return;
    this.#session.end(new KiteError("disconnected", `the peer's process is gone: ${error.message}`, { cause: error }));
  }

  /** The peer, its relay or kontrol says that this side may not come back: those who wait need not wait for the grace to end. */
  #accessIsGone({ code, message }: KiteError): void {
    if (this.#ticket !== undefined) this.#session.end(new KiteError(code, message, { reason: ACCESS_LOST }));
  }

  /** Calls on a session that never had a connection fail with what the dial failed with; they did not run. */
  #failFresh(error: KiteError): void {
    if (this.#ticket !== undefined || this.#session.counts.calls === 0) return;
    const session = this.#session;
    this.#session = this.#newSession();
    session.end(error);
  }

  /** One dial at a time: two would open two sessions, of which one would be lost. */
  #attempt(): Promise<void> {
    this.#attempting ??= this.#dialInTime();
    return this.#attempting;
  }

  async #dialInTime(): Promise<void> {
    const redials = this.#ticket !== undefined && this.#last === "connected";
    const { dialTimeoutMs = redials ? REDIAL_TIMEOUT_MS : DIAL_TIMEOUT_MS } = this.#options;
    const closing = this.#closing.signal;
    // Not `AbortSignal.any`: on Node 20 every use leaves a trace in its sources, and `closing` lives as long as the peer.
    const limit = new AbortController();
    const late = new KiteError("unavailable", `the kite did not answer within ${dialTimeoutMs} ms`);
    const timer = setTimeout(() => limit.abort(late), dialTimeoutMs);
    const close = () => limit.abort(closing.reason);
    closing.addEventListener("abort", close, { once: true });
    try {
      await this.#dialOnce(limit.signal);
    } catch (thrown) {
      throw limit.signal.aborted ? limit.signal.reason : thrown;
    } finally {
      clearTimeout(timer);
      closing.removeEventListener("abort", close);
      this.#attempting = undefined;
    }
  }

  async #dialOnce(signal: AbortSignal): Promise<void> {
    const { dial, limits, identity } = this.#options;
    const target = await waitUntil(this.#options.target(signal, this.#last), signal);
    this.#last = "failed";
    this.#relayed = (target.protocols?.length ?? 0) > 0;
    const transport = await dial({
      url: target.url,
      protocols: [PROTOCOL, ...(target.protocols ?? [])],
      maxFrameBytes: limits.frameBytes * 2,
      signal,
    });
    const ticket = this.#ticket?.url === target.url ? this.#ticket : undefined;
    const resume = ticket === undefined ? undefined : { id: ticket.id, secret: ticket.secret, received: this.#session.received };
    const hello = { auth: target.auth, kite: identity, resume, limits };
    await introduce({ transport, hello, signal, welcomed: (welcome) => this.#welcomed(transport, target, hello, welcome) });
    this.#last = "connected";
  }

  #welcomed(transport: Transport, target: Target, { resume }: Hello, welcome: Welcome): Session {
    const { id, secret, received } = welcome.session;
    if (welcome.resumed) this.#checkResumed(resume, welcome);
    else if (this.#ticket !== undefined) {
      const lost = this.#session;
      this.#replaceSession();
      lost.end(new KiteError("disconnected", "the peer no longer knows the session"));
    }
    this.#ticket = { id, secret, url: target.url };
    this.#graceMs = welcome.graceMs;
    this.#identity = welcome.kite;
    clearTimeout(this.#grace);
    const session = this.#session;
    session.agree(welcome.limits);
    if (target.caller !== undefined) session.renew(target.caller);
    session.attach(transport, welcome.resumed ? received : 0);
    this.#opened = { at: performance.now(), progress: session.progress };
    this.#startRenewal(target);
    return session;
  }

  #checkResumed(asked: Hello["resume"], { session: { id, received } }: Welcome): void {
    if (asked?.id !== id || !this.#session.canResumeAfter(received)) {
      throw protocolError("the peer resumes a session that it was not asked for, or claims frames that were never sent");
    }
    if (this.#ticket?.id !== id) throw new KiteError("unavailable", "the session's grace period ended while it was being resumed");
  }

  #startRenewal(target: Target): void {
    // Who listens to the state may have cut the connection again; the next one shows a new credential when it is dialled.
    if (this.#state !== "open") return;
    const session = this.#session;
    this.#stopRenewal = keepRenewed(target, {
      obtain: () => this.#options.target(this.#closing.signal, "connected"),
      show: async ({ url, auth }) => {
        const before = this.#ticket?.url;
        if (url !== before) throw new KiteError("not_found", `the kite at ${before} is not to be found any more`);
        if (auth !== undefined) await session.authenticate(auth);
      },
      ended: ({ message }) => session.end(new KiteError("disconnected", message)),
      log: this.#options.log,
    });
  }

  #move(state: PeerState): void {
    if (this.#state === state) return;
    this.#state = state;
    for (const listener of [...this.#listeners]) {
      try {
        listener(state);
      } catch (thrown) {
        (this.#options.log ?? silent).error({ err: thrown }, "a listener of a connection's state failed");
      }
    }
  }
}

/** To a dialler, its peer is whoever it dialled; calls from there are answered only if it serves any. */
const DIALLED: Caller = {
  username: "anonymous",
  role: undefined,
  kite: undefined,
  expiresAt: undefined,
  methods: undefined,
  credential: undefined,
};

const refuseCalls: Serve = (call) => {
  throw new KiteError("permission_denied", `this side serves no methods; ${call.method} was called`);
};

function closedHere(): KiteError {
  return new KiteError("disconnected", "the connection was closed on this side", { outcome: "not_run" }).passOn();
}
