import { Chooser, type PooledBalance } from "./calling/balance.ts";
import type { Connection } from "./calling/connection.ts";
import { followCalls } from "./calling/context.ts";
import { DialTable } from "./calling/dialers.ts";
import type { OpenMember } from "./calling/pool/member.ts";
import { callWith, type Remote, remote } from "./calling/remote.ts";
import type { ClientOptions, ClientParts, ConnectOptions, DialOptions, FindOptions, RemotePolicies } from "./client-options.ts";
import { dialled, guarded, KiteDialler, pathOf } from "./dialler.ts";
import type { DnodePeer } from "./dnode/peer.ts";
import { KiteError } from "./errors.ts";
import { formatIdentity, formatQuery, type Identity, type Query } from "./identity.ts";
import type { Caller, CallOptions } from "./method.ts";
import type { ObservedSession, Watch } from "./observe.ts";
import type { DirectoryWatch } from "./registry/directory-watch.ts";
import { type Found, RegistryClient } from "./registry/kontrol.ts";
import type { FoundKite, RegistryContract } from "./registry/registry.ts";
import type { Serve } from "./session/calls.ts";
import type { Auth } from "./session/handshake.ts";
import { Peer, type PeerOptions, type Target } from "./session/peer.ts";

/**
 * The side of a kite that calls others: at an address, or found through kontrol. {@link Kite} adds the side that serves.
 * A page that dials one address has {@link KiteDialler} alone.
 */
export class KiteClient extends KiteDialler {
  protected readonly observed: Watch | undefined;
  readonly #options: ClientOptions;
  readonly #parts: ClientParts;
  readonly #dialers: DialTable;
  readonly #pools = new Set<Connection>();
  #kontrol: Remote<RegistryContract> | undefined;
  #registry: RegistryClient | undefined;
  #kiteKey: string | undefined;

  constructor(options: ClientOptions, parts: ClientParts) {
    const dialers = new DialTable(parts.dial, options.dialers);
    const username = options.username ?? parts.keyClaim?.(options.kiteKey, "sub");
    super({ ...options, username }, dialers.dial);
    this.#options = options;
    this.#kiteKey = options.kiteKey;
    this.#parts = parts;
    this.#dialers = dialers;
    this.observed = parts.watch?.({ identity: this.identity, sessions: () => this.openSessions() }, options.observers ?? [], this.log);
  }

  /**
   * Finds a kite through kontrol and opens a session with it. The session outlives dropped sockets; when the kite is gone
   * for good, the next call finds another one that matches. One that does not answer is passed over: kontrol learns of a
   * kite that was killed only when its beats fail to come.
   *
   * With `balance`, calls go to all kites that match, through sessions that are opened when they are needed.
   *
   * @throws {KiteError} `not_found` when no kite matches, `unavailable` when none that matches can be reached.
   * @example await using math = await kite.connect<MathContract>({ name: "math", version: "^1.2" });
   * @example await using math = await kite.connect<MathContract>({ name: "math" }, { balance: "least-pending" });
   */
  async connect<C>(query: Query, options: ConnectOptions = {}): Promise<Remote<C>> {
    followCalls();
    const { balance = "one" } = options;
    return balance === "one" ? this.#connectOne<C>(query, options) : this.#connectSome<C>(query, balance, options);
  }

  /**
   * A kite at a known address; nothing is looked up. It is dialled with the first call.
   *
   * @example const kontrol = kite.dial<KontrolContract>({ url: "http://127.0.0.1:4000", auth: { type: "kiteKey", key } });
   */
  override dial<C>(options: DialOptions): Remote<C> {
    followCalls();
    const { url, dialect, guard } = options;
    if (dialect === "dnode")
      return this.#face<C>(
        guarded(this.#dnodePeer(options), guard, () => url),
        options,
      );
    const peer = this.#peer(dialled(options, offeredTo(undefined)), this.#served(options));
    return this.#face<C>(
      guarded(peer, guard, () => pathOf(peer) ?? url),
      options,
    );
  }

  /** The kites that match now, each with a token; while kontrol is away, those of its last answer, marked with its age. */
  find(query: Query, { signal }: FindOptions = {}): Promise<Found[]> {
    return this.registry.find(query, signal === undefined ? {} : { signal });
  }

  /** First what is there, then every change, also through restarts of kontrol; `stale` and `asOf` tell of the time between. */
  watch(query: Query, { signal }: FindOptions = {}): DirectoryWatch {
    return this.registry.watch(query, signal === undefined ? {} : { signal });
  }

  /** kontrol itself, called as this kite. The connection is shared, and closed with the kite. */
  kontrol<C extends RegistryContract = RegistryContract>(): Remote<C> {
    // Without retries: what keeps the kite registered has its own, and people want to hear of a kontrol that is away.
    this.#kontrol ??= remote<RegistryContract>(
      this.#peer(dialled({ url: this.kontrolUrl, auth: this.#options.auth ?? this.#kiteKeyAuth() })),
    );
    return this.#kontrol as Remote<C>;
  }

  override async close(): Promise<void> {
    this.closing.abort();
    for (const pool of [...this.#pools]) await pool[Symbol.asyncDispose]();
    await this.#registry?.[Symbol.asyncDispose]();
    await super.close();
    this.observed?.close();
  }

  protected get kontrolUrl(): string {
    const url = this.#options.kontrolUrl ?? this.#parts.keyClaim?.(this.#options.kiteKey, "kontrolURL");
    if (url === undefined) throw new KiteError("failed_precondition", "no kontrol is known; give this kite a kite.key or a kontrolUrl");
    return url;
  }

  protected get kiteKey(): string | undefined {
    return this.#kiteKey;
  }

  /** Shown to kontrol from the next connection on. */
  protected set kiteKey(kiteKey: string) {
    this.#kiteKey = kiteKey;
  }

  protected get registry(): RegistryClient {
    this.#registry ??= this.makeRegistry();
    return this.#registry;
  }

  protected makeRegistry(): RegistryClient {
    return new RegistryClient({ reach: (options) => this.reachKontrol(options), log: this.log, backoff: this.registryBackoff });
  }

  /** Asking a kontrol on this machine costs next to nothing, and whoever restarts it here waits for the kites to come back. */
  protected get registryBackoff(): { maxMs: number } | undefined {
    return isLoopback(this.kontrolUrl) ? { maxMs: LOOPBACK_MAX_MS } : undefined;
  }

  protected reachKontrol(options: CallOptions): Remote<RegistryContract> {
    // Detached: what is asked for one call, many share, and it is kept after its end.
    return callWith(this.kontrol(), { ...options, detached: true });
  }

  /** Every session that there is, for observers. */
  protected *openSessions(): Iterable<ObservedSession> {
    for (const peer of this.peers) {
      const { session } = peer;
      if (session !== undefined)
        yield { direction: "dialled", state: peer instanceof Peer ? peer.state : session.state, counts: session.counts };
    }
  }

  /** Asked with every connection: kontrol may have signed the key anew. */
  #kiteKeyAuth(): (() => Promise<Auth>) | undefined {
    const first = this.kiteKey;
    return first === undefined ? undefined : async () => ({ type: "kiteKey", key: this.kiteKey ?? first });
  }

  async #connectOne<C>(query: Query, options: ConnectOptions): Promise<Remote<C>> {
    const { signal } = options;
    const chooser = new Chooser();
    let matches = 0;
    let called: Identity | undefined;
    const peer: Peer = this.#peer(async (limited, last) => {
      if (last === "failed") chooser.failed();
      else chooser.succeeded();
      const kites = this.#reachable(await this.find(query, { signal: limited }));
      matches = kites.length;
      const found = chooser.choose(kites);
      if (found === undefined) throw await this.#outOfSight(peer.identity && called, nobody(query));
      called = found.kite;
      return this.#targetOf(found);
    }, this.#served(options));
    for (let tries = 1; ; tries++) {
      try {
        await peer.connect(signal);
        return this.#face<C>(
          guarded(peer, options.guard, () => pathOf(peer) ?? formatQuery(query)),
          options,
        );
      } catch (thrown) {
        // A kite that was killed stays in the directory for two beats; another one may match and be well.
        if (KiteError.from(thrown).code === "unavailable" && tries < Math.min(matches, MAX_CANDIDATES)) continue;
        peer.close();
        throw thrown;
      }
    }
  }

  async #connectSome<C>(query: Query, balance: PooledBalance, options: ConnectOptions): Promise<Remote<C>> {
    const { pool: makePool } = this.#parts;
    if (makePool === undefined) throw new KiteError("failed_precondition", 'a browser\'s kite calls one kite at a time: balance is "one"');
    const found = this.#reachable(await this.find(query, options));
    if (found.length === 0) throw nobody(query);
    this.checkOpen();
    const pool: Connection = makePool({
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
    return this.#face<C>(pool, options);
  }

  #openMember(options: ConnectOptions): OpenMember {
    return ({ kite, refused }) => {
      const peer = this.#peer(async () => {
        const found = kite();
        const { token, expiresAt } = await this.registry.token(found.kite, { renew: refused() }).catch(async (thrown: unknown) => {
          const error = KiteError.from(thrown);
          throw error.code === "not_found" ? await this.#outOfSight(found.kite, error) : error;
        });
        return this.#targetOf({ ...found, token, tokenExpiresAt: expiresAt });
      }, this.#served(options));
      const connection = guarded(peer, options.guard, () => formatIdentity(kite().kite));
      return { connection, isIdle: () => Object.values(peer.session.counts).every((open) => open === 0) };
    };
  }

  /** A kite that was called is not found any more. It left and may be back, or what allowed the calls was taken back. */
  async #outOfSight(called: Identity | undefined, left: KiteError): Promise<KiteError> {
    if (called === undefined || (await this.registry.knows(called.id))) return left;
    return new KiteError("permission_denied", `${formatIdentity(called)} may not be called any more: what allowed it was taken back`);
  }

  /** Those whose url this kite can dial; when there are only others, that is worth an error of its own. */
  #reachable<K extends FoundKite>(kites: readonly K[]): readonly K[] {
    const reachable = kites.filter((found) => this.#dialers.canDial(this.#urlOf(found)));
    const [other] = kites;
    if (reachable.length > 0 || other === undefined) return reachable;
    throw this.#dialers.unknown(this.#urlOf(other));
  }

  #face<C>(connection: Connection, { retry }: RemotePolicies): Remote<C> {
    const { retry: again } = this.#parts;
    return remote<C>(again === undefined || retry === false ? connection : again(connection, retry, this.closing.signal));
  }

  #served({ methods }: RemotePolicies): Serve | undefined {
    if (methods === undefined) return undefined;
    const { serve } = this.#parts;
    if (serve === undefined) throw new KiteError("failed_precondition", "a browser's kite serves no methods; pass functions as arguments");
    return serve(methods);
  }

  #dnodePeer({ url, auth, methods }: DialOptions): DnodePeer {
    this.checkOpen();
    const { dialDnode } = this.#parts;
    if (dialDnode === undefined) {
      throw new KiteError("failed_precondition", "a kite in a browser speaks kite.v1 only; dial with dnode from a Kite in Node");
    }
    const { limits, identity, log, explain, observed: watch } = this;
    const show = typeof auth === "function" ? auth : async () => auth;
    const peer = dialDnode({ url, auth: show, serve: this.#parts.serve?.(methods ?? {}), limits, identity, log, explain, watch });
    this.peers.add(peer);
    peer.onClosed(() => this.peers.delete(peer));
    return peer;
  }

  #peer(target: PeerOptions["target"], serve?: Serve): Peer {
    return this.open(target, { serve, watch: this.observed });
  }

  #urlOf(found: FoundKite): string {
    return this.#options.route?.(found) ?? found.url;
  }

  #targetOf(found: FoundKite): Target {
    // The relay must know who asks before it passes anything on; the session inside shows the token once more, to the kite.
    const protocols = found.url.includes("/relay/") ? [`kite.token.${found.token}`] : [];
    const auth = { type: "token", key: found.token };
    return { url: this.#urlOf(found), auth, expiresAt: found.tokenExpiresAt, protocols, caller: offeredTo(found.kite) };
  }
}

// Enough to get past the dead ones of a restart; each costs a dial.
const MAX_CANDIDATES = 8;
// Found again within a second, which is less than the rest of a mesh needs to start.
const LOOPBACK_MAX_MS = 1_000;

/**
 * The dialled kite as caller of the methods that were offered to it. They are on this session alone, by the dialler's own
 * hand, so the role is the highest. Who it is, only kontrol's directory can say; what it claims in its welcome is not believed.
 */
function offeredTo(kite: Identity | undefined): Caller {
  const username = kite?.username ?? "anonymous";
  return { username, role: "owner", kite, expiresAt: undefined, methods: undefined, credential: undefined };
}

function nobody(query: Query): KiteError {
  return new KiteError("not_found", `no kite matches ${asTyped(query)}; see who is there with: kite list`);
}

/** A name as people type it, `math@^1.2`; `///math/^1.2` would send them looking for what they never wrote. */
function asTyped({ name, version, ...rest }: Query): string {
  const more = Object.values(rest).some((value) => value.length > 0);
  if (more || !name) return formatQuery({ ...rest, ...(name && { name }), ...(version && { version }) });
  return version ? `${name}@${version}` : name;
}

function isLoopback(url: string): boolean {
  return URL.canParse(url) && ["localhost", "127.0.0.1", "[::1]"].includes(new URL(url).hostname);
}
