import { KiteError, protocolError } from "../errors.ts";
import type { AgreedLimits, Limits } from "../limits.ts";
import type { Caller, CallOptions, CallSession, SessionState } from "../method.ts";
import type { Through } from "../through.ts";
import { CLOSE, connectionLost, type Transport } from "../transport/transport.ts";
import * as MESSAGE from "../wire/message.ts";
import { type RawFrame, readFrame } from "../wire/v1.ts";
import { carriedError } from "../wire/values.ts";
import type { Serve } from "./calls.ts";
import { Conversation, gone } from "./conversation.ts";
import type { SessionCounts } from "./counts.ts";
import type { Explain } from "./failure.ts";
import { Outbox } from "./outbox.ts";
import { sharedController } from "./shared-signal.ts";

export interface SessionOptions {
  readonly id: string;
  readonly limits: Limits;
  /** Answers the peer's calls. */
  readonly serve: Serve;
  /** Who the peer is, as verified. */
  readonly caller: Caller;
  /** Checks a new credential that the peer shows on the live session, and that it is still the same user. */
  readonly authenticate?: ((auth: unknown) => Promise<Caller>) | undefined;
  /** What the peer is told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly onState?: (state: SessionState, why: KiteError | undefined) => void;
  readonly heartbeatMs?: number;
  readonly through?: Through | undefined;
}

// WebSocket's codes for data of the wrong kind, text that is not UTF-8, and a message that is too big (RFC 6455, 7.4.1).
const UNSENDABLE: ReadonlySet<number> = new Set([1003, 1007, 1009]);

// Ten seconds, as kite always had it: two missed ones are noticed before most people give up waiting.
const HEARTBEAT_MS = 10_000;

/**
 * One logical conversation between two kites. It outlives the transports that it is attached to: what was not acknowledged
 * is sent again over the next one. Both sides have the same class; the client or server that made it closes it with `end`.
 */
export class Session implements CallSession {
  readonly id: string;
  readonly #options: SessionOptions;
  readonly #outbox: Outbox;
  readonly #conversation: Conversation;
  #state: SessionState = "suspended";
  #transport: Transport | undefined;
  #closed: AbortController | undefined;
  #ended: KiteError | undefined;
  #listeners: Set<(state: SessionState) => void> | undefined;
  #silentBeats = 0;
  #heartbeat: ReturnType<typeof setInterval> | undefined;

  constructor(options: SessionOptions) {
    const { limits } = options;
    this.id = options.id;
    this.#options = options;
    this.#outbox = new Outbox({
      limits,
      onRoom: () => this.#conversation.resume(),
      onAcknowledged: (frame) => this.#conversation.acknowledged(frame),
      onOverflow: (why) => this.end(why, CLOSE.protocolError),
    });
    this.#conversation = new Conversation({ ...options, outbox: this.#outbox, session: this });
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Calls `listener` on every change of state, until the returned function is called or the state is `closed`. */
  onState(listener: (state: SessionState) => void): () => void {
    this.#listeners ??= new Set();
    const listeners = this.#listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  get remoteAddress(): string | undefined {
    return this.#transport?.remoteAddress;
  }

  get caller(): Caller {
    return this.#conversation.caller;
  }

  get counts(): SessionCounts {
    return this.#conversation.counts;
  }

  /** The last frame that arrived: what the peer need not replay. */
  get received(): number {
    return this.#outbox.received;
  }

  /** How far both sides have come, in frames; for telling a connection that works from one that only opens. */
  get progress(): number {
    return this.#outbox.progress;
  }

  /** Whether the peer can have received this frame; a peer that claims more is not the one we spoke with. */
  canResumeAfter(frame: number): boolean {
    return frame < this.#outbox.nextFrame;
  }

  /** Aborted when the session has ended for good. */
  get closed(): AbortSignal {
    if (this.#closed === undefined) {
      this.#closed = sharedController();
      if (this.#ended !== undefined) this.#closed.abort(this.#ended);
    }
    return this.#closed.signal;
  }

  /**
   * Calls a method of the peer.
   *
   * @throws {KiteError} what the method threw, or `deadline_exceeded`, `cancelled`, `disconnected`, `limit_exceeded`.
   */
  call(method: string, args: readonly unknown[], options: CallOptions = {}): Promise<unknown> {
    const calling = this.#options.through?.calling;
    return calling === undefined ? this.#call(method, args, options) : calling(method, options, (seen) => this.#call(method, args, seen));
  }

  /**
   * Calls a method without waiting for an answer, or learning whether there was one.
   *
   * @throws {KiteError} `disconnected` when the session has ended, `limit_exceeded` when the peer takes in nothing.
   */
  notify(method: string, args: readonly unknown[]): void {
    if (this.#ended !== undefined) throw gone(method, this.#ended);
    this.#conversation.notify(method, args);
  }

  /** Shows a new credential on the live session, before the old one ends. */
  async authenticate(auth: unknown): Promise<void> {
    await this.#conversation.authenticate(auth);
  }

  /** The peer came back with a newer credential of the same user; from now on that is what it may do. */
  renew(caller: Caller): void {
    this.#conversation.caller = caller;
  }

  /** What the peer takes in, as it said in its handshake; known before the first transport is attached. */
  agree(peer: AgreedLimits): void {
    this.#conversation.agree(peer);
  }

  /**
   * Goes on over a transport; the peer has every frame up to `peerReceived`, as {@link canResumeAfter} has said. An older
   * transport is let go.
   */
  attach(transport: Transport, peerReceived: number): void {
    const previous = this.#transport;
    this.#transport = transport;
    previous?.close(CLOSE.replaced, "the session goes on over a newer connection");
    if (this.#state !== "open") this.#move("open", undefined);
    this.#beat();
    this.#outbox.attach(transport, peerReceived);
  }

  /** A frame came in over `transport`. Whatever is wrong with it ends this session, and nothing else. */
  receive(transport: Transport, raw: RawFrame): void {
    if (transport !== this.#transport) return;
    this.#silentBeats = 0;
    try {
      this.#read(raw);
    } catch (thrown) {
      this.end(KiteError.from(thrown, "protocol_error"), CLOSE.protocolError);
    }
  }

  /** The transport has closed. The session waits for another one, and keeps everything meanwhile. */
  detach(transport: Transport, { code, reason }: { code: number; reason: string }): void {
    if (transport !== this.#transport) return;
    this.#letGo();
    const why = connectionLost(code, reason);
    // What one side cannot send or the other not take in would be sent again, and fail again, over every transport.
    if (UNSENDABLE.has(code)) this.end(protocolError(why.message));
    // A relay says so in place of the peer: the credential was revoked, and the session with it.
    else if (code === CLOSE.unauthenticated) this.end(new KiteError("unauthenticated", reason || why.message));
    else this.#move("suspended", why);
  }

  /** For how many heartbeats nothing has come from the peer. */
  get silentBeats(): number {
    return this.#silentBeats;
  }

  /**
   * Says that this side is there. A peer that was silent since the heartbeat before is asked for a sign, and the connection to one
   * that gave none is let go. A timer does it; whoever has reason to doubt the peer may do it sooner.
   */
  heartbeat(): void {
    this.#silentBeats++;
    const transport = this.#transport;
    if (transport === undefined) return;
    if (this.#silentBeats <= 1) return this.#outbox.acknowledge();
    if (this.#silentBeats === 2) return this.#outbox.control(`[${MESSAGE.ping}]`);
    // Half-open: the network lost the peer without a word. The close may never be answered, so do not wait for it.
    const reason = "the peer was silent for too long";
    transport.close(CLOSE.silent, reason);
    this.detach(transport, { code: CLOSE.silent, reason });
  }

  /** Ends the session for good, on both sides if the peer can be reached. */
  end(why: KiteError, code: number = CLOSE.goodbye): void {
    if (this.#state === "closed") return;
    this.#ended = why;
    const transport = this.#transport;
    if (transport !== undefined) {
      this.#outbox.flush();
      this.#outbox.control(`[${MESSAGE.goodbye},${JSON.stringify(carriedError(why))}]`);
    }
    this.#letGo();
    transport?.close(code, why.message);
    this.#move("closed", why);
    this.#conversation.close(why);
    this.#closed?.abort(why);
  }

  #call(method: string, args: readonly unknown[], options: CallOptions): Promise<unknown> {
    return this.#ended === undefined ? this.#conversation.call(method, args, options) : Promise.reject(gone(method, this.#ended));
  }

  #read(raw: RawFrame): void {
    const frame = readFrame(raw, this.#options.limits.depth);
    if (!this.#outbox.accept(frame.sequence, frame.ack, raw.length)) return;
    if (frame.sequence > 0) this.#conversation.read(frame);
    else for (const message of frame.messages) this.#control(message);
  }

  #control([type, detail]: readonly unknown[]): void {
    if (type === MESSAGE.ping) this.#outbox.pong();
    else if (type === MESSAGE.goodbye) this.end(KiteError.fromWire(detail));
    else throw protocolError("only ping and goodbye are sent without a number");
  }

  #beat(): void {
    clearInterval(this.#heartbeat);
    this.#silentBeats = 0;
    this.#heartbeat = setInterval(() => this.heartbeat(), this.#options.heartbeatMs ?? HEARTBEAT_MS);
    // Browsers have numbers here, and no unref.
    (this.#heartbeat as { unref?: () => void }).unref?.();
  }

  #letGo(): void {
    this.#transport = undefined;
    this.#outbox.detach();
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
  }

  /** Between open and suspended as often as it may be, and to closed for good. */
  #move(to: SessionState, why: KiteError | undefined): void {
    if (this.#state === to || this.#state === "closed") {
      throw new KiteError("internal", `a session cannot go from ${this.#state} to ${to}`);
    }
    this.#state = to;
    this.#options.onState?.(to, why);
    if (this.#listeners === undefined) return;
    for (const listener of [...this.#listeners]) {
      try {
        listener(to);
      } catch (thrown) {
        // As with any event: a listener that fails is heard of, but keeps neither the session nor the others from going on.
        queueMicrotask(() => {
          throw thrown;
        });
      }
    }
    if (to === "closed") this.#listeners = undefined;
  }
}
