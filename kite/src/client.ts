import { Chooser, type PooledBalance } from "./calling/balance.ts";
import type { Connection } from "./calling/connection.ts";
import { followCalls } from "./calling/context.ts";
import { DialTable } from "./calling/dialers.ts";
import { callWith, type Remote, remote } from "./calling/remote.ts";
import type { AddressOptions, ClientOptions, ConnectOptions, DialOptions, FindOptions, RemotePolicies } from "./client-options.ts";
import { dialled, guarded, KiteDialler, pathOf } from "./dialler.ts";
import { KiteError } from "./errors.ts";
import { formatIdentity, formatQuery, type Identity, type Query } from "./identity.ts";
import type { Caller, CallOptions } from "./method.ts";
import type { DirectoryWatch } from "./registry/directory-watch.ts";
import { type Found, RegistryClient } from "./registry/kontrol.ts";
import type { FoundKite, RegistryContract } from "./registry/registry.ts";
import type { Serve } from "./session/calls.ts";
import type { Peer, Target } from "./session/peer.ts";
import type { DialSocket } from "./transport/websocket.ts";

/**
 * The side of a kite that calls others: at an address, or found through kontrol. It is what a page needs and no more; {@link NodeClient}
 * adds what is for Node alone. A page that dials one address has {@link KiteDialler}.
 */
export class KiteClient extends KiteDialler {
  readonly #options: ClientOptions;
  readonly #dialers: DialTable;
  #kontrol: Remote<RegistryContract> | undefined;
  #registry: RegistryClient | undefined;

  constructor(options: ClientOptions, dial: DialSocket) {
    const dialers = new DialTable(dial, options.dialers);
    super(options, dialers.dial);
    this.#options = options;
    this.#dialers = dialers;
  }

  /**
   * Finds a kite through kontrol and opens a session with it. The session outlives dropped sockets; when the kite is gone
   * for good, the next call finds another one that matches. One that does not answer is passed over: kontrol learns of a
   * kite that was killed only when its beats fail to come.
   *
   * With `balance`, calls go to all kites that match, through sessions that are opened when they are needed.
   *
   * @throws {KiteError} `not_found` when no kite matches, `unavailable` when none that matches can be reached, `invalid_argument` for a
   * query that cannot be read, `failed_precondition` when no kontrol is known, `cancelled` by the signal.
   * @example await using math = await kite.connect<MathContract>({ name: "math", version: "^1.2" });
   * @example await using math = await kite.connect<MathContract>({ name: "math" }, { balance: "least-pending" });
   */
  async connect<C>(query: Query, options: ConnectOptions = {}): Promise<Remote<C>> {
    followCalls();
    const { balance = "one" } = options;
    return balance === "one" ? this.#connectOne<C>(query, options) : this.connectSome<C>(query, balance, options);
  }

  /**
   * A kite at a known address; nothing is looked up. It is dialled with the first call.
   *
   * @example const kontrol = kite.dial<KontrolContract>({ url: "http://127.0.0.1:4000", auth: { type: "kiteKey", key } });
   */
  override dial<C>(options: DialOptions): Remote<C> {
    followCalls();
    if (options.dialect === "dnode") return this.dialDnode<C>(options);
    const peer = this.open(dialled(options, offeredTo(undefined)), this.served(options));
    return this.#guarded<C>(peer, options, () => options.url);
  }

  /**
   * The kites that match now, each with a token; while kontrol is away, those of its last answer to this query, marked with its age.
   *
   * @throws {KiteError} `unavailable` when kontrol is away and there is no such answer, `invalid_argument` for a query that cannot be
   * read, `failed_precondition` when no kontrol is known, `cancelled` by the signal.
   * @example for (const { kite: found, url, labels } of await kite.find({ name: "math" })) console.log(found.hostname, url, labels);
   */
  find(query: Query, { signal }: FindOptions = {}): Promise<Found[]> {
    return this.registry.find(query, signal === undefined ? {} : { signal });
  }

  /**
   * First what is there, then every change, also through restarts of kontrol; `stale` and `asOf` tell of the time between. Leaving
   * the loop ends it, and so does the kite.
   *
   * @throws {KiteError} into the loop: what kontrol refuses the query with, `cancelled` by the signal.
   * @example
   * for await (const event of kite.watch({ name: "math" })) {
   *   if (event.type === "gone") console.log(`${event.kite.id} went: ${event.reason}`);
   * }
   */
  watch(query: Query, { signal }: FindOptions = {}): DirectoryWatch {
    return this.registry.watch(query, signal === undefined ? {} : { signal });
  }

  /**
   * kontrol itself, called as this kite. The connection is shared, and closed with the kite.
   *
   * @throws {KiteError} `failed_precondition` when no kontrol is known.
   * @example const { token } = await kite.kontrol().getToken({ query: { name: "math" }, role: "viewer", ttlMs: 60_000 });
   */
  kontrol<C extends RegistryContract = RegistryContract>(): Remote<C> {
    // Without retries: what keeps the kite registered has its own, and people want to hear of a kontrol that is away.
    this.#kontrol ??= remote<RegistryContract>(this.open(dialled({ url: this.kontrolUrl, auth: this.kontrolAuth })));
    return this.#kontrol as Remote<C>;
  }

  override async close(): Promise<void> {
    this.closing.abort();
    await this.#registry?.[Symbol.asyncDispose]();
    await super.close();
  }

  protected get kontrolUrl(): string {
    const { kontrolUrl } = this.#options;
    if (kontrolUrl === undefined)
      throw new KiteError("failed_precondition", "no kontrol is known; give this kite a kite.key or a kontrolUrl");
    return kontrolUrl;
  }

  /** What is shown to kontrol. */
  protected get kontrolAuth(): AddressOptions["auth"] {
    return this.#options.auth;
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

  /** Calls go to several of the kites that match. */
  protected connectSome<C>(_query: Query, _balance: PooledBalance, _options: ConnectOptions): Promise<Remote<C>> {
    throw new KiteError("failed_precondition", 'a browser\'s kite calls one kite at a time: balance is "one"');
  }

  protected dialDnode<C>(_options: DialOptions): Remote<C> {
    throw new KiteError("failed_precondition", "a kite in a browser speaks kite.v1 only; dial with dnode from a Kite in Node");
  }

  /** Answers what the called kite may call on its session. */
  protected served({ methods }: RemotePolicies): Serve | undefined {
    if (methods === undefined) return undefined;
    throw new KiteError("failed_precondition", "a browser's kite serves no methods; pass functions as arguments");
  }

  protected face<C>(connection: Connection, _policies: RemotePolicies): Remote<C> {
    return remote<C>(connection);
  }

  async #connectOne<C>(query: Query, options: ConnectOptions): Promise<Remote<C>> {
    const { signal } = options;
    const chooser = new Chooser();
    let matches = 0;
    let called: Identity | undefined;
    const peer: Peer = this.open(async (limited, last) => {
      if (last === "failed") chooser.failed();
      else chooser.succeeded();
      const kites = this.reachable(await this.find(query, { signal: limited }));
      matches = kites.length;
      const found = chooser.choose(kites);
      if (found === undefined) throw await this.outOfSight(peer.identity && called, nobody(query));
      called = found.kite;
      return this.targetOf(found);
    }, this.served(options));
    for (let tries = 1; ; tries++) {
      try {
        await peer.connect(signal);
        return this.#guarded<C>(peer, options, () => formatQuery(query));
      } catch (thrown) {
        // A kite that was killed stays in the directory for two beats; another one may match and be well.
        if (KiteError.from(thrown).code === "unavailable" && tries < Math.min(matches, MAX_CANDIDATES)) continue;
        peer.close();
        throw thrown;
      }
    }
  }

  /** A kite that was called is not found any more. It left and may be back, or what allowed the calls was taken back. */
  protected async outOfSight(called: Identity | undefined, left: KiteError): Promise<KiteError> {
    if (called === undefined || (await this.registry.knows(called.id))) return left;
    return new KiteError("permission_denied", `${formatIdentity(called)} may not be called any more: what allowed it was taken back`);
  }

  /** Those whose url this kite can dial; when there are only others, that is worth an error of its own. */
  protected reachable<K extends FoundKite>(kites: readonly K[]): readonly K[] {
    const reachable = kites.filter((found) => this.#dialers.canDial(this.#urlOf(found)));
    const [other] = kites;
    if (reachable.length > 0 || other === undefined) return reachable;
    throw this.#dialers.unknown(this.#urlOf(other));
  }

  #guarded<C>(peer: Peer, options: RemotePolicies, unknown: () => string): Remote<C> {
    return this.face<C>(
      guarded(peer, options.guard, () => pathOf(peer) ?? unknown()),
      options,
    );
  }

  #urlOf(found: FoundKite): string {
    return this.#options.route?.(found) ?? found.url;
  }

  protected targetOf(found: FoundKite): Target {
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

export function nobody(query: Query): KiteError {
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
