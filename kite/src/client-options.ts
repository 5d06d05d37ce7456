import type { Balance } from "./calling/balance.ts";
import type { Dialers } from "./calling/dialers.ts";
import type { Guard } from "./calling/guard.ts";
import type { RetryOptions } from "./calling/retry-options.ts";
import type { Limits } from "./limits.ts";
import type { Logger } from "./log.ts";
import type { Methods } from "./method.ts";
import type { Observer } from "./observe.ts";
import type { FoundKite } from "./registry/registry.ts";
import type { ExposeErrors } from "./session/failure.ts";
import type { Auth } from "./session/handshake.ts";

/** What a kite is, wherever it runs. */
export interface DiallerOptions {
  /** The kite's name. */
  readonly name: string;
  /** A SemVer version, such as `1.2.0`. */
  readonly version: string;
  /** Default: the kite.key's; without one, `anonymous`. */
  readonly username?: string | undefined;
  /** Default `local`. */
  readonly environment?: string | undefined;
  /** Default `local`. */
  readonly region?: string | undefined;
  /** Default: the machine's name; `unknown` in a browser. */
  readonly hostname?: string | undefined;
  /** Default: a new one for every process. */
  readonly id?: string | undefined;
  /** Where it says what happens. Default: nowhere. */
  readonly log?: Logger | undefined;
  /** What a peer may send or keep open, where it differs from {@link LIMITS}. */
  readonly limits?: Partial<Limits> | undefined;
  /**
   * What others see of errors that are no KiteErrors, of this kite's methods and of the streams and functions that it gives
   * away. Default: only that there was one, and an id to find it in the log.
   */
  readonly exposeErrors?: ExposeErrors | undefined;
}

/** A kite that calls others, found through kontrol or at an address that it knows. */
export interface ClientOptions extends DiallerOptions {
  /** What is shown to kontrol in place of a kite.key, such as a browser's token. */
  readonly auth?: (() => Promise<Auth & { expiresAt?: number }>) | undefined;
  /** Default: the one that the kite.key names. */
  readonly kontrolUrl?: string | undefined;
  /** Where a kite that was found is dialled; default: at its own url. */
  readonly route?: ((found: FoundKite) => string) | undefined;
  /** Further ways to dial, by the scheme of a kite's url; WebSockets are built in. */
  readonly dialers?: Dialers | undefined;
}

/** What goes for Node alone: a page has no kite.key, and is looked at with the browser's own tools. */
export interface NodeClientOptions extends ClientOptions {
  /** The credential of the user whose kite this is; see `readKiteKey`. */
  readonly kiteKey?: string | undefined;
  /** Told of every call that the kite serves or makes, such as `tracing()` and `metrics()`. */
  readonly observers?: readonly Observer[] | undefined;
}

/** How kites are looked for. */
export interface FindOptions {
  /** Gives up what waits with `cancelled`; a `watch` ends with it. A connection that stands is not touched. */
  readonly signal?: AbortSignal | undefined;
}

/** How a remote kite is called; every field may be left out. */
export interface RemotePolicies {
  /**
   * Which failed calls are made again; `false`: none. Default: those that certainly did not run, and those of `idempotent`
   * and `keyed` methods. In a browser none is.
   */
  readonly retry?: RetryOptions | false | undefined;
  /** Asked before every call, such as `breaker()` of `@kite-mesh/kite/breaker`. */
  readonly guard?: Guard | undefined;
  /**
   * What the called kite may call on this session, through `callerOf(call)`. Offered to this one kite on purpose, so it
   * calls them as `owner`, whatever they ask for; nobody else can reach them. Not in browsers: pass functions there.
   */
  readonly methods?: Methods | undefined;
}

/** How a kite that kontrol finds is called; every field may be left out. */
export interface ConnectOptions extends RemotePolicies, FindOptions {
  /** Which of the kites that match answers a call. Default `one`. Others than `one` are for Node. */
  readonly balance?: Balance | undefined;
  /** How many kites are called at most, when calls are balanced. Default 16. */
  readonly poolSize?: number | undefined;
}

/** A kite at a known address, as a page dials it. */
export interface AddressOptions extends Pick<RemotePolicies, "guard"> {
  /** `http:`, `https:`, `ws:` or `wss:`, or a scheme of `dialers`. */
  readonly url: string;
  /**
   * What is shown there, or a function that is asked for it before every dial and again before it expires (milliseconds since
   * the epoch). Default: nothing; only methods for `anyone` answer then.
   */
  readonly auth?: Auth | (() => Promise<Auth & { expiresAt?: number }>) | undefined;
}

/** How a kite at a known address is called; every field but its `url` may be left out. */
export interface DialOptions extends AddressOptions, RemotePolicies {
  /**
   * `dnode` for kites that speak only that, such as Go's and npm's kite.js: over SockJS when the path of the url ends in `/kite`,
   * else over a plain WebSocket. Default `kite.v1`.
   */
  readonly dialect?: "kite.v1" | "dnode" | undefined;
}
