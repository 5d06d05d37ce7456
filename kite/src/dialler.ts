import type { Connection } from "./calling/connection.ts";
import { type Guard, Guarded } from "./calling/guard.ts";
import { type Remote, remote } from "./calling/remote.ts";
import type { AddressOptions, DiallerOptions } from "./client-options.ts";
import type { DnodePeer } from "./dnode/peer.ts";
import { KiteError } from "./errors.ts";
import { checkIdentity, formatIdentity, type Identity } from "./identity.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { type Logger, silent } from "./log.ts";
import type { Caller } from "./method.ts";
import type { Watch } from "./observe.ts";
import type { Serve } from "./session/calls.ts";
import { type Explain, explaining } from "./session/failure.ts";
import { Peer, type PeerOptions } from "./session/peer.ts";
import { sharedController } from "./session/shared-signal.ts";
import type { DialSocket } from "./transport/websocket.ts";

/** The least that a kite is: it calls others whose addresses are known. {@link KiteClient} finds them, too. */
export class KiteDialler implements AsyncDisposable {
  readonly identity: Identity;
  protected readonly limits: Limits;
  protected readonly log: Logger;
  protected readonly explain: Explain;
  /** Aborted when the kite begins to close; it opens nothing more. */
  protected readonly closing = sharedController();
  /** Closed with this kite. */
  protected readonly peers = new Set<Peer | DnodePeer>();
  readonly #dial: DialSocket;

  constructor(options: DiallerOptions, dial: DialSocket) {
    const { username = "anonymous", environment = "local", name, version, region = "local", hostname = "unknown" } = options;
    const { id = crypto.randomUUID() } = options;
    this.identity = checkIdentity({ username, environment, name, version, region, hostname, id });
    this.limits = { ...LIMITS, ...options.limits };
    this.log = options.log ?? silent;
    this.explain = explaining({ exposeErrors: options.exposeErrors, log: this.log });
    this.#dial = dial;
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
    for (const peer of [...this.peers]) peer.close(why);
    this.peers.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected checkOpen(): void {
    if (!this.closing.signal.aborted) return;
    throw new KiteError("failed_precondition", `${this.identity.name} has closed; make another kite to call from`);
  }

  /** A connection that ends with this kite; it is dialled when somebody calls. */
  protected open(target: PeerOptions["target"], serve?: Serve, watch?: Watch): Peer {
    this.checkOpen();
    const { limits, identity, log, explain, peers } = this;
    const peer = new Peer({ target, serve, watch, dial: this.#dial, limits, identity, log, explain });
    peers.add(peer);
    peer.onState((state) => {
      if (state === "closed") peers.delete(peer);
    });
    return peer;
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
