import { hostname } from "node:os";
import { dnodeAuthenticator, inOriginalWords } from "./auth/dnode-authenticator.ts";
import { KeySet, publishedKeys } from "./auth/key-set.ts";
import { parseKiteKey } from "./auth/kite-key.ts";
import { readKiteKey, writeKiteKey } from "./auth/kite-key-file.ts";
import { type Revocable, Revocations } from "./auth/revocations.ts";
import { anonymous, tokenAuthenticator } from "./auth/token.ts";
import { asyncCallFollower } from "./calling/call-follower.ts";
import { offerCallFollower } from "./calling/context.ts";
import { peerOf } from "./calling/remote.ts";
import type { NodeClientOptions, RemotePolicies } from "./client-options.ts";
import { DnodeAcceptor } from "./dnode/acceptor.ts";
import type { DnodeSession } from "./dnode/session.ts";
import { KiteError } from "./errors.ts";
import { formatIdentity } from "./identity.ts";
import type { LabelChange } from "./labels.ts";
import { Listener, type ListenOptions } from "./listener.ts";
import type { Caller, Methods } from "./method.ts";
import { NodeClient } from "./node-client.ts";
import type { ObservedSession } from "./observe.ts";
import { readEnvironment } from "./options.ts";
import { beatFromThread } from "./registry/beat-thread.ts";
import { Registrar } from "./registry/registrar.ts";
import type { OwnBeats } from "./registry/registration.ts";
import type { Registered, RelayLink, Revocation, Visibility } from "./registry/registry.ts";
import { builtinMethods } from "./serving/builtin.ts";
import { hostMethods } from "./serving/host-methods.ts";
import { type Middleware, serveMethods } from "./serving/serve.ts";
import { Acceptor, type Authenticate } from "./session/acceptor.ts";
import type { Serve } from "./session/calls.ts";
import { draftFrames } from "./session/frame-buffers.ts";
import { pooledDrafts } from "./session/pooled-draft.ts";
import { probe } from "./session/probe.ts";
import type { Session } from "./session/session.ts";
import { StrangerCount } from "./session/stranger-count.ts";
import { linkTransport } from "./transport/link.ts";
import type { Transport } from "./transport/transport.ts";
import { PROTOCOL } from "./wire/v1.ts";

/**
 * What a kite is, serves and goes by; only `name` and `version` must be given. `openKite` fills in the kite.key and what the
 * environment says.
 */
export interface KiteOptions extends Omit<NodeClientOptions, "auth"> {
  /** What the kite serves; nested names are called with dots. */
  readonly methods?: Methods | undefined;
  /** Runs around every call of a method, the first one outermost. Default: nothing. */
  readonly middleware?: readonly Middleware[] | undefined;
  /** Decides who callers are. Default: by tokens of kontrol for this kite; without a kite.key nobody but strangers calls. */
  readonly authenticate?: Authenticate | undefined;
  /** How long a session waits for its peer to come back, in milliseconds. Default 30,000. */
  readonly graceMs?: number | undefined;
  /** How long a peer may be silent before it is asked, in milliseconds; after three times that its connection is given up. Default 10,000. */
  readonly heartbeatMs?: number | undefined;
  /** Whether callers are served that speak the dnode dialect, such as Go's and npm's kite.js; see DNODE.md. Default true. */
  readonly dnode?: boolean | undefined;
  /** A new kite.key came from kontrol; default: it is written to the home that `openKite` read the old one from. */
  readonly onKey?: ((kiteKey: string) => void | Promise<void>) | undefined;
}

/** What the directory says of a kite; every field may be left out. */
export interface RegisterOptions {
  /** Default `private`: the owner, and whoever has a grant. */
  readonly visibility?: Visibility | undefined;
  /** What queries may ask for, such as `{ gpu: "true" }`; `updateLabels` changes them later. Default: none. */
  readonly labels?: Record<string, string> | undefined;
  /** Where others dial it. Default: where it listens; a kite that does not listen is reached through kontrol's relay. */
  readonly url?: string | undefined;
  /** Ends the wait for kontrol with `cancelled`. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * A service of the mesh: serves methods, calls other kites, and is found by them. Close it when done, best with
 * `await using`.
 *
 * @example
 * const square = method({ role: "viewer", input: z.number() }, (n) => n * n);
 * const kite = await openKite({ name: "math", version: "1.0.0", methods: { square } });
 * await kite.listen();
 * await kite.register();
 */
export class Kite extends NodeClient {
  readonly #options: KiteOptions;
  readonly #dialects: readonly string[];
  readonly #acceptor: Acceptor;
  readonly #dnode: DnodeAcceptor | undefined;
  readonly #revocations: Revocations;
  readonly #closing = new AbortController();
  #keys: KeySet | undefined;
  #listener: Listener | undefined;
  /** Also while the port is being opened, so that a kite that is closed meanwhile leaves none open. */
  #opening: Promise<Listener> | undefined;
  #authenticators: Promise<Authenticators> | undefined;

  /** @throws {KiteError} `invalid_argument` for a name that cannot stand in a path. It does no I/O: {@link listen} and {@link register} do. */
  constructor(options: KiteOptions) {
    super({ hostname: hostname(), ...options });
    offerCallFollower(asyncCallFollower);
    draftFrames(pooledDrafts);
    const { methods = {}, middleware, graceMs, heartbeatMs, dnode = true } = options;
    this.#options = options;
    this.#dialects = dnode ? [PROTOCOL, "dnode"] : [PROTOCOL];
    const builtin = builtinMethods({ identity: this.identity, dialects: this.#dialects, methods, host: hostMethods(), log: this.log });
    this.#revocations = new Revocations({ kiteId: this.identity.id });
    const shared = {
      limits: this.limits,
      serve: serveMethods({
        methods,
        builtin,
        middleware,
        explain: this.explain,
        log: this.log,
        closed: this.#closing.signal,
        watch: this.observed,
      }),
      explain: this.explain,
      identity: this.identity,
      log: this.log,
      watch: this.observed,
      strangers: new StrangerCount(this.limits),
    };
    const { authenticate } = options;
    const by =
      (dialect: keyof Authenticators): Authenticate =>
      (...shown) =>
        this.#authenticate(dialect, ...shown);
    this.#acceptor = new Acceptor({ ...shared, authenticate: authenticate ?? by("v1"), graceMs, heartbeatMs });
    const dnodeAuthenticate = authenticate === undefined ? by("dnode") : inOriginalWords(authenticate);
    this.#dnode = dnode ? new DnodeAcceptor({ ...shared, authenticate: dnodeAuthenticate }) : undefined;
  }

  /** Where it listens, such as `http://127.0.0.1:3636`; undefined before {@link listen}. */
  get url(): string | undefined {
    return this.#listener?.url;
  }

  /** The sessions that others have opened here, those that wait for their peer included. */
  get sessions(): Iterable<Session | DnodeSession> {
    return [...this.#acceptor.sessions, ...(this.#dnode?.sessions ?? [])];
  }

  /**
   * Opens a port for callers, on 127.0.0.1 unless said otherwise.
   *
   * @throws {KiteError} `unavailable` naming the port when it is taken, `failed_precondition` for a kite that listens already or has closed.
   * @example const { url } = await kite.listen({ host: "0.0.0.0", port: 3636 });
   */
  async listen(options: ListenOptions = {}): Promise<{ url: string; port: number }> {
    if (this.#opening !== undefined) throw new KiteError("failed_precondition", "this kite listens already, or has closed");
    const dnode = this.#dnode;
    const onDnode = dnode === undefined ? undefined : (transport: Transport) => dnode.accept(transport);
    this.#opening = Listener.open(options, this.limits, { onTransport: (transport) => this.serve(transport), onDnode });
    try {
      this.#listener = await this.#opening;
    } catch (thrown) {
      this.#opening = undefined;
      throw thrown;
    }
    const { url, port } = this.#listener;
    return { url, port };
  }

  /**
   * Serves a caller over any transport, which belongs to the kite from now on.
   *
   * @example const { ends } = memoryLink(); kite.serve(ends[0]);
   */
  serve(transport: Transport): void {
    this.#acceptor.accept(transport);
  }

  /**
   * Enters this kite into kontrol's directory and keeps it there, also when kontrol restarts, until it is closed.
   *
   * @throws {KiteError} what kontrol refused it with, such as `permission_denied` for `visibility: "mesh"`; `unavailable` when kontrol
   * does not answer, `failed_precondition` when none is known, `cancelled` by the signal; `invalid_argument` for a kite that listens on
   * every interface and does not say under which `url` others reach it.
   * @example await kite.register({ url: "http://10.0.0.7:3636", labels: { gpu: "true" } });
   */
  async register({ visibility, labels, url = this.url, signal }: RegisterOptions = {}): Promise<void> {
    if (url !== undefined && isEveryInterface(url))
      throw new KiteError(
        "invalid_argument",
        `others who dial ${url} reach their own machine: give register({ url }) the address under which they reach this kite`,
      );
    await this.registry.register(
      {
        kite: this.identity,
        ...(url === undefined ? { onLink: (link: RelayLink) => this.#onLink(link) } : { url }),
        ...(visibility === undefined ? {} : { visibility }),
        ...(labels === undefined ? {} : { labels }),
      },
      signal === undefined ? {} : { signal },
    );
    this.log.info({ kite: formatIdentity(this.identity), url: url ?? "through the relay" }, "registered");
  }

  /**
   * Changes labels of this kite while it is registered, such as its load; `null` takes one away. Those who watch see it at once.
   *
   * @throws {KiteError} `failed_precondition` before {@link register}, `invalid_argument` or `limit_exceeded` for labels that kontrol refuses.
   * @example await kite.updateLabels({ load: "0.25" });
   */
  async updateLabels(labels: LabelChange): Promise<void> {
    await this.registry.updateLabels(labels);
  }

  /**
   * Ends the sessions of callers that match; they are told why. Answers with how many.
   *
   * @example kite.endSessions(({ username }) => username === "bob", new KiteError("permission_denied", "bob's shift is over"));
   */
  endSessions(matches: (caller: Caller) => boolean, why: KiteError): number {
    return this.#acceptor.endWhere(matches, why) + (this.#dnode?.endWhere(matches, why) ?? 0);
  }

  /** Leaves the directory, ends all sessions and closes the port. Doing it twice is allowed; `await using` does it. */
  override async close(): Promise<void> {
    await super.close();
    const closed = new KiteError("disconnected", `${this.identity.name} has closed`);
    this.#acceptor.close(closed);
    this.#dnode?.close(closed);
    this.#closing.abort(closed);
    this.#keys?.close();
    this.#opening ??= Promise.reject(closed);
    const listener = await this.#opening.catch(() => undefined);
    await listener?.close();
    this.#listener = undefined;
  }

  protected override *openSessions(): Iterable<ObservedSession> {
    yield* super.openSessions();
    for (const { state, counts } of this.sessions) yield { direction: "accepted", state, counts };
  }

  protected override served({ methods }: RemotePolicies): Serve | undefined {
    if (methods === undefined) return undefined;
    // Without `host`: a kite that is called must not ask our user for a password, unless it is offered that by name.
    const builtin = builtinMethods({ identity: this.identity, dialects: this.#dialects, methods, log: this.log });
    return serveMethods({ methods, builtin, log: this.log, explain: this.explain, watch: this.observed });
  }

  protected override get registry(): Registrar {
    // It was made by the method below.
    return super.registry as Registrar;
  }

  protected override makeRegistry(): Registrar {
    return new Registrar({
      reach: (options) => this.reachKontrol(options),
      beats: (registered) => this.#beatFor(registered),
      doubt: (waitMs, signal) => probe(peerOf(this.kontrol()).session, waitMs, signal),
      log: this.log,
      backoff: this.registryBackoff,
      onRevoked: (revocation) => this.#onRevoked(revocation),
      onKey: (kiteKey) => {
        this.kiteKey = kiteKey;
        return this.#options.onKey?.(kiteKey);
      },
    });
  }

  #beatFor({ ticket, heartbeatMs }: Registered): OwnBeats | undefined {
    if (ticket === undefined) return undefined;
    return beatFromThread({ kontrolUrl: this.kontrolUrl, id: this.identity.id, ticket, heartbeatMs, log: this.log });
  }

  #onLink(link: RelayLink): AsyncIterable<string | Uint8Array> {
    const { transport, outgoing } = linkTransport(link.incoming);
    this.serve(transport);
    return outgoing;
  }

  #onRevoked(revocation: Revocation): void {
    const ends = this.#revocations.add(revocation);
    const { username, reason } = revocation;
    const ended = this.endSessions(
      (caller) => isEnded(caller, ends),
      new KiteError("unauthenticated", `the credential was revoked: ${reason}`),
    );
    if (ended > 0) this.log.info({ username, reason, ended }, "ended the sessions of a revoked credential");
  }

  async #authenticate(dialect: keyof Authenticators, ...[auth, claimed]: Parameters<Authenticate>): Promise<Caller> {
    // Who shows nothing is a stranger, also to a kite without a kite.key.
    if (auth === undefined) return anonymous(claimed);
    this.#authenticators ??= this.#makeAuthenticators();
    return (await this.#authenticators)[dialect](auth, claimed);
  }

  async #makeAuthenticators(): Promise<Authenticators> {
    if (this.kiteKey === undefined) {
      throw new KiteError("unauthenticated", "this kite has no kite.key, so it can verify nobody's token");
    }
    const own = await parseKiteKey(this.kiteKey);
    const isRevoked = (kid: string) => this.#revocations.isKeyRevoked(kid);
    this.#keys = new KeySet({ trusted: [own.kontrolKey], fetchKeys: publishedKeys(this.kontrolUrl), isRevoked, log: this.log });
    const trust = { keys: this.#keys, issuer: own.issuer, audience: this.identity, revocations: this.#revocations };
    const v1 = tokenAuthenticator(trust);
    return { v1, dnode: dnodeAuthenticator({ ...trust, ownKey: own.id, tokens: v1 }) };
  }
}

function isEnded({ username, credential }: Caller, ends: (credential: Revocable) => boolean): boolean {
  if (credential?.issuedAt === undefined) return false;
  return ends({ ...credential, username, issuedAt: credential.issuedAt });
}

function isEveryInterface(url: string): boolean {
  return URL.canParse(url) && ["0.0.0.0", "[::]"].includes(new URL(url).hostname);
}

/** Who callers are, by what each dialect shows. */
interface Authenticators {
  readonly v1: Authenticate;
  readonly dnode: Authenticate;
}

/**
 * A kite with the credential and the names that the environment gives it: the kite.key of its home (`$KITE_HOME`, else the
 * nearest `.kite` at or above the working folder, else `~/.kite`), `KITE_ENVIRONMENT`, `KITE_REGION`, `KITE_KONTROL_URL`. What
 * `options` say goes first.
 *
 * @throws {KiteError} `not_found` when there is no kite.key, `failed_precondition` when others could read it, `unauthenticated` when
 * it is broken, and what the constructor of {@link Kite} throws.
 * @example await using kite = await openKite({ name: "math", version: "1.0.0", methods });
 */
export async function openKite(options: KiteOptions): Promise<Kite> {
  const environment = readEnvironment();
  const kiteKey = options.kiteKey ?? (await readKiteKey(environment.home)).jwt;
  const write = async (renewed: string) => void (await writeKiteKey(environment.home, renewed));
  return new Kite({
    ...options,
    kiteKey,
    // One that was given has its place elsewhere; only what was read from the home is replaced there.
    onKey: options.onKey ?? (options.kiteKey === undefined ? write : undefined),
    environment: options.environment ?? environment.environment,
    region: options.region ?? environment.region,
    kontrolUrl: options.kontrolUrl ?? environment.kontrolUrl,
  });
}
