import { decodeJwt } from "jose";
import { Chooser } from "./balance.ts";
import { KiteError } from "./errors.ts";
import { checkIdentity, formatQuery, type Identity, type Query } from "./identity.ts";
import { type Found, RegistryClient } from "./kontrol.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { type Logger, silent } from "./log.ts";
import type { CallOptions } from "./method.ts";
import type { FoundKite, RegistryContract, WatchEvent } from "./registry.ts";
import { callWith, type Remote, remote } from "./remote.ts";
import type { Auth } from "./session/handshake.ts";
import { Peer, type PeerOptions, type Target } from "./session/peer.ts";
import type { DialSocket } from "./transport/websocket.ts";

export interface ClientOptions {
  /** The kite's name. */
  readonly name: string;
  /** A SemVer version, such as `1.2.0`. */
  readonly version: string;
  /** Default: the kite.key's. */
  readonly username?: string | undefined;
  /** Default `local`, as is the region. */
  readonly environment?: string | undefined;
  readonly region?: string | undefined;
  readonly hostname?: string | undefined;
  /** Default: a new one for every process. */
  readonly id?: string | undefined;
  /** The credential of the user whose kite this is; see `readKiteKey`. */
  readonly kiteKey?: string | undefined;
  /** What is shown to kontrol in place of a kite.key, such as a browser's token. */
  readonly auth?: (() => Promise<Auth & { expiresAt?: number }>) | undefined;
  /** Default: the one that the kite.key names. */
  readonly kontrolUrl?: string | undefined;
  /** Where a kite that was found is dialled; default: at its own url. */
  readonly route?: ((found: FoundKite) => string) | undefined;
  readonly log?: Logger | undefined;
  readonly limits?: Partial<Limits> | undefined;
}

export interface ConnectOptions {
  readonly signal?: AbortSignal | undefined;
}

/** The side of a kite that calls others. A browser has only this; {@link Kite} adds the side that serves. */
export class KiteClient implements AsyncDisposable {
  readonly identity: Identity;
  protected readonly limits: Limits;
  protected readonly log: Logger;
  readonly #options: ClientOptions;
  readonly #dial: DialSocket;
  readonly #peers = new Set<Peer>();
  #kontrol: Remote<RegistryContract> | undefined;
  #registry: RegistryClient | undefined;
  #closed = false;
  #kiteKey: string | undefined;

  constructor(options: ClientOptions, dial: DialSocket) {
    const { name, version, environment = "local", region = "local", hostname = "unknown", id = crypto.randomUUID() } = options;
    const username = options.username ?? keyClaim(options.kiteKey, "sub") ?? "anonymous";
    this.identity = checkIdentity({ username, environment, name, version, region, hostname, id });
    this.limits = { ...LIMITS, ...options.limits };
    this.log = options.log ?? silent;
    this.#options = options;
    this.#kiteKey = options.kiteKey;
    this.#dial = dial;
  }

  /**
   * Finds a kite through kontrol and opens a session with it. The session outlives dropped sockets; when the kite is gone
   * for good, the next call finds another one that matches. One that does not answer is passed over: kontrol learns of a
   * kite that was killed only when its beats fail to come.
   *
   * @throws {KiteError} `not_found` when no kite matches, `unavailable` when none that matches can be reached.
   * @example await using math = await kite.connect<MathContract>({ name: "math", version: "^1.2" });
   */
  async connect<C>(query: Query, { signal }: ConnectOptions = {}): Promise<Remote<C>> {
    const chooser = new Chooser();
    let matches = 0;
    const peer = this.#peer(async (limited, last) => {
      if (last === "failed") chooser.failed();
      else chooser.succeeded();
      const kites = await this.find(query, { signal: limited });
      matches = kites.length;
      const found = chooser.choose(kites);
      if (found === undefined) throw new KiteError("not_found", `no kite matches ${formatQuery(query)}; see who is there with: kite list`);
      return this.#targetOf(found);
    });
    for (let tries = 1; ; tries++) {
      try {
        await peer.connect(signal);
        return remote<C>(peer);
      } catch (thrown) {
        // A kite that was killed stays in the directory for two beats; another one may match and be well.
        if (KiteError.from(thrown).code === "unavailable" && tries < Math.min(matches, MAX_CANDIDATES)) continue;
        peer.close();
        throw thrown;
      }
    }
  }

  /**
   * A kite at a known address; nothing is looked up. It is dialled with the first call.
   *
   * @example const kontrol = kite.dial<KontrolContract>({ url: "http://127.0.0.1:4000", auth: { type: "kiteKey", key } });
   */
  dial<C>({ url, auth }: { url: string; auth?: Auth | (() => Promise<Auth & { expiresAt?: number }>) | undefined }): Remote<C> {
    const show = typeof auth === "function" ? auth : async () => auth;
    return remote<C>(
      this.#peer(async () => {
        const shown = await show();
        return { url, auth: shown, expiresAt: (shown as { expiresAt?: number } | undefined)?.expiresAt };
      }),
    );
  }

  /** The kites that match now, each with a token; while kontrol is away, those of its last answer, marked with its age. */
  find(query: Query, { signal }: ConnectOptions = {}): Promise<Found[]> {
    return this.registry.find(query, signal === undefined ? {} : { signal });
  }

  /** First what is there, then every change, also through restarts of kontrol. */
  watch(query: Query, { signal }: ConnectOptions = {}): AsyncIterable<WatchEvent> {
    return this.registry.watch(query, signal === undefined ? {} : { signal });
  }

  /** kontrol itself, called as this kite. The connection is shared, and closed with the kite. */
  kontrol<C extends RegistryContract = RegistryContract>(): Remote<C> {
    this.#kontrol ??= this.dial<RegistryContract>({ url: this.kontrolUrl, auth: this.#options.auth ?? this.#kiteKeyAuth() });
    return this.#kontrol as Remote<C>;
  }

  /** Ends every session that this kite opened; it opens no more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#registry?.[Symbol.asyncDispose]();
    const why = new KiteError("disconnected", `${this.identity.name} has closed`);
    for (const peer of [...this.#peers]) peer.close(why);
    this.#peers.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  protected get kontrolUrl(): string {
    const url = this.#options.kontrolUrl ?? keyClaim(this.#options.kiteKey, "kontrolURL");
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
    return callWith(this.kontrol(), options);
  }

  /** Asked with every connection: kontrol may have signed the key anew. */
  #kiteKeyAuth(): (() => Promise<Auth>) | undefined {
    const first = this.kiteKey;
    return first === undefined ? undefined : async () => ({ type: "kiteKey", key: this.kiteKey ?? first });
  }

  #peer(target: PeerOptions["target"]): Peer {
    if (this.#closed) throw new KiteError("failed_precondition", `${this.identity.name} has closed; make another kite to call from`);
    const peer = new Peer({ target, dial: this.#dial, limits: this.limits, identity: this.identity, log: this.log });
    this.#peers.add(peer);
    peer.onState((state) => {
      if (state === "closed") this.#peers.delete(peer);
    });
    return peer;
  }

  #targetOf(found: FoundKite): Target {
    const url = this.#options.route?.(found) ?? found.url;
    // The relay must know who asks before it passes anything on; the session inside shows the token once more, to the kite.
    const protocols = found.url.includes("/relay/") ? [`kite.token.${found.token}`] : [];
    return { url, auth: { type: "token", key: found.token }, expiresAt: found.tokenExpiresAt, protocols };
  }
}

// Enough to get past the dead ones of a restart; each costs a dial.
const MAX_CANDIDATES = 8;
// Found again within a second, which is less than the rest of a mesh needs to start.
const LOOPBACK_MAX_MS = 1_000;

function isLoopback(url: string): boolean {
  return URL.canParse(url) && ["localhost", "127.0.0.1", "[::1]"].includes(new URL(url).hostname);
}

/** Reads a claim of one's own key. Whether the key is good, kontrol decides. */
function keyClaim(kiteKey: string | undefined, claim: "sub" | "kontrolURL" | "iss"): string | undefined {
  if (kiteKey === undefined) return undefined;
  let value: unknown;
  try {
    value = decodeJwt(kiteKey)[claim];
  } catch (cause) {
    throw new KiteError("invalid_argument", "the kite.key cannot be read; it is one line of text in three parts", { cause });
  }
  return typeof value === "string" ? value : undefined;
}
