import { setMaxListeners } from "node:events";
import { keyClaim } from "./auth/key-claim.ts";
import type { PooledBalance } from "./calling/balance.ts";
import type { Connection } from "./calling/connection.ts";
import { EitherDialect, metOriginal } from "./calling/either-dialect.ts";
import type { OpenMember } from "./calling/pool/member.ts";
import { Pool } from "./calling/pool/pool.ts";
import { type Remote, remote } from "./calling/remote.ts";
import { Retrying } from "./calling/retry.ts";
import { KiteClient, nobody } from "./client.ts";
import type { AddressOptions, ConnectOptions, DialOptions, NodeClientOptions, RemotePolicies } from "./client-options.ts";
import { guarded } from "./dialler.ts";
import { DnodePeer, type DnodePeerOptions } from "./dnode/peer.ts";
import { KiteError } from "./errors.ts";
import { formatIdentity, formatQuery, type Query } from "./identity.ts";
import { type ObservedSession, type Watch, watchKite } from "./observe.ts";
import type { Serve } from "./session/calls.ts";
import { Peer, type PeerOptions, type Target } from "./session/peer.ts";
import { calmSignals } from "./session/shared-signal.ts";
import { dialWebSocket } from "./transport/websocket.ts";

calmSignals((signal) => setMaxListeners(0, signal));

/** What calls others from Node: with a kite.key, retries, pools, the dnode dialect and observers, none of which a page loads. */
export class NodeClient extends KiteClient {
  protected readonly observed: Watch | undefined;
  readonly #options: NodeClientOptions;
  readonly #pools = new Set<Connection>();
  #kiteKey: string | undefined;

  constructor(options: NodeClientOptions) {
    const { kiteKey, observers = [] } = options;
    super({ ...options, username: options.username ?? keyClaim(kiteKey, "sub") }, dialWebSocket);
    this.#options = options;
    this.#kiteKey = kiteKey;
    this.observed = watchKite({ identity: this.identity, sessions: () => this.openSessions() }, observers, this.log);
  }

  override async close(): Promise<void> {
    this.closing.abort();
    for (const pool of [...this.#pools]) await pool[Symbol.asyncDispose]();
    await super.close();
    this.observed?.close();
  }

  protected override get kontrolUrl(): string {
    return this.#options.kontrolUrl ?? keyClaim(this.#options.kiteKey, "kontrolURL") ?? super.kontrolUrl;
  }

  protected get kiteKey(): string | undefined {
    return this.#kiteKey;
  }

  /** Shown to kontrol from the next connection on. */
  protected set kiteKey(kiteKey: string) {
    this.#kiteKey = kiteKey;
  }

  protected override get kontrolAuth(): AddressOptions["auth"] {
    const first = this.kiteKey;
    // Asked with every connection: kontrol may have signed the key anew.
    return super.kontrolAuth ?? (first === undefined ? undefined : async () => ({ type: "kiteKey", key: this.kiteKey ?? first }));
  }

  /** Every session that there is, for observers. */
  protected *openSessions(): Iterable<ObservedSession> {
    for (const peer of this.peers) {
      const { session } = peer;
      if (session !== undefined)
        yield { direction: "dialled", state: peer instanceof Peer ? peer.state : session.state, counts: session.counts };
    }
  }

  protected override open(target: PeerOptions["target"], serve?: Serve): Peer {
    return super.open(target, serve, this.observed);
  }

  protected override face<C>(connection: Connection, { retry }: RemotePolicies): Remote<C> {
    return remote<C>(retry === false ? connection : new Retrying(connection, retry, { closing: this.closing.signal }));
  }

  /**
   * As every client's. Where all that match are kites of the original's, such as Go's, one of them is called in their dialect.
   *
   * @throws {KiteError} as {@link KiteClient.connect}.
   * @example await using math = await kite.connect<MathContract>({ name: "math" });
   */
  override async connect<C>(query: Query, options: ConnectOptions = {}): Promise<Remote<C>> {
    try {
      return await super.connect<C>(query, options);
    } catch (thrown) {
      if (!metOriginal(thrown)) throw thrown;
      return this.connectSome<C>(query, "round-robin", { ...options, poolSize: 1 });
    }
  }

  protected override dialDnode<C>(options: DialOptions): Remote<C> {
    const { url, auth, guard } = options;
    const peer = this.#openDnode(url, typeof auth === "function" ? auth : async () => auth, options);
    return this.face<C>(
      guarded(peer, guard, () => url),
      options,
    );
  }

  #openDnode(url: string, auth: DnodePeerOptions["auth"], { methods = {} }: RemotePolicies): DnodePeer {
    this.checkOpen();
    const { limits, identity, log, explain, observed: watch } = this;
    const peer = new DnodePeer({ url, auth, dial: dialWebSocket, serve: this.served({ methods }), limits, identity, log, explain, watch });
    this.peers.add(peer);
    peer.onClosed(() => this.peers.delete(peer));
    return peer;
  }

  protected override async connectSome<C>(query: Query, balance: PooledBalance, options: ConnectOptions): Promise<Remote<C>> {
    const found = this.reachable(await this.find(query, options));
    if (found.length === 0) throw nobody(query);
    this.checkOpen();
    const pool: Connection = new Pool({
      query: formatQuery(query),
      balance,
      size: options.poolSize,
      caller: this.identity.id,
      found,
      watch: (signal) => this.watch(query, { signal }),
      open: this.#openMember(options),
      onClosed: () => void this.#pools.delete(pool),
      log: this.log,
    });
    this.#pools.add(pool);
    return this.face<C>(pool, options);
  }

  #openMember(options: ConnectOptions): OpenMember {
    return ({ kite, refused }) => {
      let dialled: Target | undefined;
      const target = async () => {
        const found = kite();
        const { token, expiresAt } = await this.registry.token(found.kite, { renew: refused() }).catch(async (thrown: unknown) => {
          const error = KiteError.from(thrown);
          throw error.code === "not_found" ? await this.outOfSight(found.kite, error) : error;
        });
        dialled = this.targetOf({ ...found, token, tokenExpiresAt: expiresAt });
        return dialled;
      };
      const shown = async () => {
        const { auth, expiresAt } = await target();
        return auth && { ...auth, ...(expiresAt !== undefined && { expiresAt }) };
      };
      const either = new EitherDialect({
        peer: this.open(target, this.served(options)),
        address: () => kite().url,
        inDnode: () => this.#openDnode(dialled?.url ?? kite().url, shown, options),
      });
      const connection = guarded(either, options.guard, () => formatIdentity(kite().kite));
      return { connection, isIdle: () => either.isIdle };
    };
  }
}
