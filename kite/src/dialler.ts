import type { Connection } from "./calling/connection.ts";
import { type Guard, Guarded } from "./calling/guard.ts";
import { type Remote, remote } from "./calling/remote.ts";
import type { AddressOptions, DiallerOptions, DiallerParts } from "./client-options.ts";
import type { DnodePeer } from "./dnode/peer.ts";
import { KiteError } from "./errors.ts";
import { checkIdentity, formatIdentity, type Identity } from "./identity.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { type Logger, silent } from "./log.ts";
import type { Caller } from "./method.ts";
import type { ObservedSession, Watch } from "./observe.ts";
import type { Serve } from "./session/calls.ts";
import { type Explain, explaining } from "./session/failure.ts";
import { Peer, type PeerOptions } from "./session/peer.ts";
import { sharedController } from "./session/shared-signal.ts";

/** The least that a kite is: it calls others whose addresses are known. {@link KiteClient} finds them, too. */
export class KiteDialler implements AsyncDisposable {
  readonly identity: Identity;
  protected readonly limits: Limits;
  protected readonly log: Logger;
  protected readonly observed: Watch | undefined;
  protected readonly explain: Explain;
  /** Aborted when the kite begins to close; it opens nothing more. */
  protected readonly closing = sharedController();
  readonly #dial: DiallerParts["dial"];
  readonly #peers = new Set<Peer | DnodePeer>();

  constructor(options: DiallerOptions, { dial, watch }: DiallerParts) {
    const { name, version, environment = "local", region = "local", hostname = "unknown", id = crypto.randomUUID() } = options;
    const { username = "anonymous", observers = [] } = options;
    this.identity = checkIdentity({ username, environment, name, version, region, hostname, id });
    this.limits = { ...LIMITS, ...options.limits };
    this.log = options.log ?? silent;
    this.explain = explaining({ exposeErrors: options.exposeErrors, log: this.log });
    this.#dial = dial;
    this.observed = watch?.({ identity: this.identity, sessions: () => this.openSessions() }, observers, this.log);
  }

  /**
   * A kite at a known address; nothing is looked up. It is dialled with the first call.
   *
   * @example const clock = kite.dial<ClockContract>({ url: location.origin });
   */
  dial<C>(options: AddressOptions): Remote<C> {
    const peer = this.open(dialled(options));
    return remote<C>(guarded(peer, options.guard, () => pathOf(peer) ?? options.url));
  }

  /** Ends every session that this kite opened; it opens no more. */
  async close(): Promise<void> {
    this.closing.abort();
    const why = new KiteError("disconnected", `${this.identity.name} has closed`);
    for (const peer of [...this.#peers]) peer.close(why);
    this.#peers.clear();
    this.observed?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Every session that there is, for observers. */
  protected *openSessions(): Iterable<ObservedSession> {
    for (const peer of this.#peers) {
      const { session } = peer;
      if (session !== undefined)
        yield { direction: "dialled", state: peer instanceof Peer ? peer.state : session.state, counts: session.counts };
    }
  }

  protected checkOpen(): void {
    if (!this.closing.signal.aborted) return;
    throw new KiteError("failed_precondition", `${this.identity.name} has closed; make another kite to call from`);
  }

  /** A connection that this kite closes with itself; it is dialled when somebody calls. */
  protected open(target: PeerOptions["target"], serve?: Serve): Peer {
    this.checkOpen();
    const { limits, identity, log, explain, observed: watch } = this;
    const peer = new Peer({ target, dial: this.#dial, limits, identity, log, watch, explain, serve });
    const forget = this.own(peer);
    peer.onState((state) => {
      if (state === "closed") forget();
    });
    return peer;
  }

  /** Closes `peer` with this kite, unless the returned function is called before. */
  protected own(peer: Peer | DnodePeer): () => void {
    this.#peers.add(peer);
    return () => void this.#peers.delete(peer);
  }
}

export function dialled({ url, auth }: AddressOptions, caller?: Caller): PeerOptions["target"] {
  const show = typeof auth === "function" ? auth : async () => auth;
  return async () => {
    const shown = await show();
    return { url, auth: shown, expiresAt: (shown as { expiresAt?: number } | undefined)?.expiresAt, caller };
  };
}

export function guarded(connection: Connection, guard: Guard | undefined, peer: () => string): Connection {
  return guard === undefined ? connection : new Guarded(connection, guard, peer);
}

/** Who answered, as people write it; undefined before the first connection. */
export function pathOf({ identity }: Peer): string | undefined {
  return identity === undefined ? undefined : formatIdentity(identity);
}
