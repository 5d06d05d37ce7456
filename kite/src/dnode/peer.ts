import { sleep, waitUntil } from "../abortable.ts";
import { Backoff } from "../backoff.ts";
import type { Connection } from "../calling/remote.ts";
import { KiteError } from "../errors.ts";
import type { Identity } from "../identity.ts";
import type { Limits } from "../limits.ts";
import { type Logger, silent } from "../log.ts";
import type { CallOptions } from "../method.ts";
import type { Watch } from "../observe.ts";
import type { Serve } from "../session/calls.ts";
import { gone } from "../session/conversation.ts";
import type { Explain } from "../session/failure.ts";
import type { Auth } from "../session/handshake.ts";
import type { CallThrough } from "../through.ts";
import { dialledSockjs, GO_AWAY, sockjsUrl } from "../transport/sockjs.ts";
import type { DialSocket } from "../transport/websocket.ts";
import { DnodeSession } from "./session.ts";

export interface DnodePeerOptions {
  /** A path that ends in `/kite` is dialled with SockJS framing, any other as it is. */
  readonly url: string;
  /** What every call shows; asked again when it is about to expire. */
  readonly auth: () => Promise<(Auth & { expiresAt?: number }) | undefined>;
  readonly dial: DialSocket;
  readonly limits: Limits;
  readonly identity: Identity;
  /** Answers the peer's calls, among them those that a kontrol of the original's makes; left out, it may not call. */
  readonly serve?: Serve | undefined;
  /** What the peer is told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly log?: Logger | undefined;
  readonly watch?: Watch | undefined;
  readonly random?: (() => number) | undefined;
}

// As for kite.v1: a kite that does not answer a dial in ten seconds is down or unreachable.
const DIAL_TIMEOUT_MS = 10_000;
const DEFAULT_TIMEOUT_MS = 60_000;
// The first try after a failure is soon, those after it are no load for a kite that is down.
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 5_000;
const RENEWAL_RETRY_MS = 15_000;

/**
 * A kite that is called in the dnode dialect. It is dialled with the first call, and with the next one after its connection
 * was lost, which fails every call that waited. Whoever made it closes it.
 */
export class DnodePeer implements Connection {
  readonly #options: DnodePeerOptions;
  readonly #through: CallThrough | undefined;
  readonly #closing = new AbortController();
  readonly #backoff: Backoff;
  readonly #closed = new Set<() => void>();
  #session: DnodeSession | undefined;
  #dialling: Promise<DnodeSession> | undefined;
  #auth: (Auth & { expiresAt?: number }) | undefined;
  #asking: Promise<void> | undefined;
  #renewAt = 0;
  #failed = false;

  constructor(options: DnodePeerOptions) {
    this.#options = options;
    // Nobody answers a dial of dnode by name.
    this.#through = options.watch?.through(() => undefined).calling;
    this.#backoff = new Backoff({ firstMs: FIRST_DELAY_MS, maxMs: LONGEST_DELAY_MS, random: options.random ?? Math.random });
  }

  get state(): "open" | "closed" {
    return this.#closing.signal.aborted ? "closed" : "open";
  }

  /** The conversation that is going on; undefined while there is no connection. */
  get session(): DnodeSession | undefined {
    return this.#session;
  }

  /**
   * Calls a method, and dials if there is no connection.
   *
   * @throws {KiteError} what the method threw, or what kept it from being called; `outcome` says whether it may have run.
   */
  call(method: string, args: readonly unknown[], options: CallOptions = {}): Promise<unknown> {
    const through = this.#through;
    // From here, and not from the session: observers also hear of calls that found no connection.
    return through === undefined ? this.#call(method, args, options) : through(method, options, (seen) => this.#call(method, args, seen));
  }

  /** Ends the connection; calls that wait fail with `disconnected`. */
  close(why: KiteError = new KiteError("disconnected", "this side has closed the connection")): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(why);
    this.#session?.end(why);
    for (const listener of this.#closed) listener();
  }

  /** Calls `listener` when this side has closed it. */
  onClosed(listener: () => void): void {
    this.#closed.add(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#dialling?.catch(() => {});
  }

  async #call(method: string, args: readonly unknown[], options: CallOptions): Promise<unknown> {
    if (this.#closing.signal.aborted) throw gone(method, KiteError.from(this.#closing.signal.reason));
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    let session = this.#session;
    let left = timeoutMs;
    if (session === undefined || Date.now() >= this.#renewAt) {
      const end = performance.now() + timeoutMs;
      await this.#inTime(method, this.#credential(), signal, timeoutMs);
      session = this.#session ?? (await this.#inTime(method, this.#open(), signal, end - performance.now()));
      left = Math.max(end - performance.now(), 0);
    }
    try {
      return await session.send(method, args, { ...options, timeoutMs: left, auth: this.#auth });
    } catch (thrown) {
      // The next call shows a new one. This one is not made again: part of it may have run before something in it was refused.
      if (thrown instanceof KiteError && thrown.code === "token_expired") this.#renewAt = 0;
      throw thrown;
    }
  }

  /** What comes before a call is sent; nothing of it has run over there when the caller gives up. */
  async #inTime<T>(method: string, work: Promise<T>, signal: AbortSignal | undefined, ms: number): Promise<T> {
    const limit = new AbortController();
    const abort = (): void => limit.abort(signal?.reason);
    const timer = Number.isFinite(ms) ? setTimeout(() => limit.abort(LATE), Math.min(ms, MAX_TIMEOUT_MS)) : undefined;
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    try {
      return await waitUntil(work, limit.signal);
    } catch (thrown) {
      const error = KiteError.from(thrown);
      const code = limit.signal.reason === LATE ? "deadline_exceeded" : error.code;
      const message = code === "deadline_exceeded" ? "there was no connection in time" : error.message;
      throw new KiteError(code, `${method}: ${message}; it did not run`, { outcome: "not_run", cause: thrown }).passOn();
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Asks for the credential to show, after two thirds of the last one's life; all calls that come meanwhile wait for one answer. */
  #credential(): Promise<void> {
    if (Date.now() < this.#renewAt) return Promise.resolve();
    this.#asking ??= this.#renew().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #renew(): Promise<void> {
    const { expiresAt: end = 0 } = this.#auth ?? {};
    try {
      this.#auth = await this.#options.auth();
    } catch (thrown) {
      if (Date.now() >= end) throw thrown;
      // What is there is still good; whoever gives new ones may be back before it ends.
      this.#renewAt = Date.now() + RENEWAL_RETRY_MS;
      return;
    }
    const now = Date.now();
    const { expiresAt = Number.POSITIVE_INFINITY } = this.#auth ?? {};
    this.#renewAt = now + ((expiresAt - now) * 2) / 3;
  }

  /** One dial at a time, for all calls that wait for it. */
  #open(): Promise<DnodeSession> {
    this.#dialling ??= this.#dial().finally(() => {
      this.#dialling = undefined;
    });
    return this.#dialling;
  }

  async #dial(): Promise<DnodeSession> {
    const { log = silent } = this.#options;
    const closing = this.#closing.signal;
    // After a failure only: a connection that worked is dialled again at once.
    if (this.#failed) await sleep(this.#backoff.next() ?? LONGEST_DELAY_MS, { signal: closing }).catch(() => {}); // closing ends the dial below
    const limit = new AbortController();
    const timer = setTimeout(
      () => limit.abort(new KiteError("unavailable", `the kite did not answer within ${DIAL_TIMEOUT_MS} ms`)),
      DIAL_TIMEOUT_MS,
    );
    const close = (): void => limit.abort(closing.reason);
    closing.addEventListener("abort", close, { once: true });
    if (closing.aborted) close();
    try {
      const session = await this.#dialOnce(limit.signal);
      this.#failed = false;
      return session;
    } catch (thrown) {
      this.#failed = true;
      const error = KiteError.from(limit.signal.aborted ? limit.signal.reason : thrown, "unavailable");
      log.debug({ code: error.code, error: error.message }, "could not connect");
      throw error;
    } finally {
      clearTimeout(timer);
      closing.removeEventListener("abort", close);
    }
  }

  async #dialOnce(signal: AbortSignal): Promise<DnodeSession> {
    const { url, dial, limits, identity, serve = refuseCalls, explain, log } = this.#options;
    if (!URL.canParse(url)) {
      throw new KiteError("invalid_argument", `an address of a kite was expected, such as http://127.0.0.1:3636/kite; got ${url}`);
    }
    const framed = /\/kite\/?$/.test(new URL(url).pathname);
    const socket = await dial({ url: framed ? sockjsUrl(url) : url, protocols: [], maxFrameBytes: limits.frameBytes * 2, signal });
    if (signal.aborted) {
      socket.close(GO_AWAY.code, GO_AWAY.reason);
      throw signal.reason;
    }
    let spoken = false;
    const session: DnodeSession = new DnodeSession({
      transport: framed ? dialledSockjs(socket) : socket,
      limits,
      identity,
      serve,
      explain,
      log,
      through: this.#through,
      onSpoken: () => {
        spoken = true;
        this.#backoff.reset();
      },
      onClosed: () => {
        // Whoever opens and closes at once is not dialled in a loop, however often it is called.
        if (!spoken) this.#failed = true;
        if (this.#session === session) this.#session = undefined;
      },
    });
    this.#session = session;
    session.start();
    return session;
  }
}

const LATE = new KiteError("deadline_exceeded", "there was no connection in time");
// setTimeout holds a signed 32-bit number of milliseconds; more would fire at once.
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

const refuseCalls: Serve = (call) => {
  throw new KiteError("method_not_found", `Method not found: ${call.method.slice(0, 100)}`);
};
