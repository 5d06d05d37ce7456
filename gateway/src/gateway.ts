import { type Bus, Kite, KiteError, type Logger, memoryBus, type Observer } from "@kite-mesh/kite";
import { dashboardAssets } from "./assets.ts";
import { type Database, openDatabase } from "./database.ts";
import { Dispatcher } from "./dispatch.ts";
import { createDoor, type Door } from "./http.ts";
import { KiteProxy } from "./kite-proxy.ts";
import { pruneDeliveries } from "./ledger.ts";
import { type Mesh, meshOf } from "./mesh.ts";
import { gatewayMethods } from "./methods.ts";
import { followPeople } from "./people.ts";
import { createSignInLink, endWebSessionsOf, pruneSignOn } from "./signon.ts";
import { type HookSecrets, hookSecrets } from "./verify.ts";

export interface GatewayOptions {
  databaseUrl: string;
  kontrolUrl: string;
  /** The gateway's own kite.key; its account must be an administrator's. */
  kiteKey: string;
  /** The kite's id; the same one after a restart takes the place of its predecessor at once. Default: a new one. */
  id?: string | undefined;
  /** Default `127.0.0.1`. */
  host?: string | undefined;
  /** Default 8090; 0 picks a free one. */
  port?: number | undefined;
  /** What people and GitLab type, when that is not the address it listens on. With `https:`, cookies are Secure. */
  publicUrl?: string | undefined;
  /** Secrets of the GitLab hook; without any the hook is off. */
  gitlab?: { hookToken?: string | undefined; signingTokens?: readonly string[] | undefined } | undefined;
  /** Default: a bus within this process, closed with the gateway. */
  bus?: Bus | undefined;
  log: Logger;
  /** Told of the calls of its kite, such as `tracing()` and `metrics()` of kite. */
  observers?: readonly Observer[] | undefined;
}

/** A running gateway; whoever started it closes it. */
export interface Gateway {
  /** Where browsers reach it. */
  readonly url: string;
  readonly kite: Kite;
  /** A one-time link that signs a person in; `expiresAt` in milliseconds since the epoch. */
  signInLink(username: string): Promise<{ url: string; expiresAt: number }>;
  close(): Promise<void>;
}

/**
 * Starts the mesh's front door on one port: GitLab's hook, sign-in, dashboard, the browser's way to kites, and the
 * gateway's own kite.
 *
 * @throws {KiteError} `unavailable` for a port that is taken, a database or a kontrol that does not answer;
 * `invalid_argument` for a secret or an address that cannot be read; `failed_precondition` for a newer schema.
 */
export async function createGateway(options: GatewayOptions): Promise<Gateway> {
  const gateway = new RunningGateway(options);
  try {
    await gateway.start();
    return gateway;
  } catch (cause) {
    await gateway.close();
    throw cause;
  }
}

const DEFAULT_PORT = 8090;
const VERSION = "0.1.0";
// In a mesh that starts, kontrol may come a moment after the gateway.
const REGISTER_MS = 30_000;
const HOUSEKEEPING_MS = 3_600_000;

class RunningGateway implements Gateway {
  readonly #options: GatewayOptions;
  readonly #secrets: HookSecrets;
  readonly #publicUrl: string | undefined;
  /** What was opened, in order; closed from the end. */
  readonly #opened: AsyncDisposable[] = [];
  #url = "";
  #kite: Kite | undefined;
  #database: Database | undefined;
  #mesh: Mesh | undefined;
  #dispatcher: Dispatcher | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#secrets = hookSecrets(options.gitlab ?? {});
    this.#publicUrl = readPublicUrl(options.publicUrl);
  }

  get url(): string {
    return this.#url;
  }

  get kite(): Kite {
    return started(this.#kite);
  }

  async start(): Promise<void> {
    const { databaseUrl, kontrolUrl, kiteKey, id, log, observers, bus = this.#own(memoryBus()) } = this.#options;
    const database = await openDatabase(databaseUrl, log);
    this.#database = database;
    this.#own({ [Symbol.asyncDispose]: () => database.end() });
    const methods = this.#methods(database);
    const kite = this.#own(new Kite({ name: "gateway", version: VERSION, id, methods, kiteKey, kontrolUrl, log, observers }));
    this.#kite = kite;
    const mesh = meshOf(kite, kontrolUrl);
    this.#mesh = mesh;
    const proxy = this.#own(new KiteProxy({ urlOf: mesh.urlOf, log }));
    await this.#listen(kite, this.#door(database, mesh, proxy));
    await this.#register(kite);
    const signOut = async (username: string) => {
      await endWebSessionsOf(database, username);
      proxy.endLinksOf(username);
    };
    this.#own(followPeople({ ...mesh, bus, database, log, signOut }));
    this.#dispatcher = this.#own(new Dispatcher({ database, bus, log }));
    this.#own(housekeeping(database, log));
  }

  async signInLink(username: string): Promise<{ url: string; expiresAt: number }> {
    const person = await started(this.#mesh).get(username);
    if (person.state !== "active" || person.kind !== "person") {
      const why = person.kind === "person" ? "has left the mesh" : "is a service's account";
      throw new KiteError("failed_precondition", `${username} ${why}; a sign-in link is for a person who is here`);
    }
    const { secret, expiresAt } = await createSignInLink(started(this.#database), username, new Date());
    return { url: `${this.#url}/sign-in?t=${secret}`, expiresAt };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  #methods(database: Database) {
    const signInLink = ({ username }: { username: string }) => this.signInLink(username);
    return gatewayMethods({ database, signInLink, onReplayed: () => this.#dispatcher?.wake() });
  }

  #door(database: Database, mesh: Mesh, proxy: KiteProxy): Door {
    return createDoor({
      database,
      secrets: this.#secrets,
      people: mesh,
      proxy,
      assets: dashboardAssets(),
      address: () => ({ url: this.#url }),
      now: () => new Date(),
      log: this.#options.log,
      onRecorded: () => this.#dispatcher?.wake(),
      ready: async () => {
        await Promise.all([database.query("select 1"), mesh.ready()]);
      },
    });
  }

  async #listen(kite: Kite, door: Door): Promise<void> {
    const { host, port = DEFAULT_PORT } = this.#options;
    try {
      const { url } = await kite.listen({ host, port, http: door.http, upgrade: door.upgrade });
      this.#url = this.#publicUrl ?? url;
    } catch (cause) {
      const error = KiteError.from(cause);
      throw new KiteError(error.code, `the gateway cannot listen: ${error.message} (GATEWAY_PORT, GATEWAY_HOST)`, { cause });
    }
  }

  async #register(kite: Kite): Promise<void> {
    const signal = AbortSignal.timeout(REGISTER_MS);
    const url = this.#publicUrl === undefined ? {} : { url: this.#publicUrl };
    try {
      await kite.register({ visibility: "mesh", signal, ...url });
    } catch (cause) {
      if (!signal.aborted) throw cause;
      throw new KiteError(
        "unavailable",
        `kontrol at ${this.#options.kontrolUrl} did not answer within ${REGISTER_MS / 1000} s; start it first`,
        { cause },
      );
    }
  }

  async #close(): Promise<void> {
    for (let last = this.#opened.pop(); last !== undefined; last = this.#opened.pop()) {
      // One that does not close must not keep the others open.
      try {
        await last[Symbol.asyncDispose]();
      } catch (error) {
        this.#options.log.warn({ error: KiteError.from(error).message }, "a part of the gateway did not close");
      }
    }
  }

  #own<T extends AsyncDisposable>(opened: T): T {
    this.#opened.push(opened);
    return opened;
  }
}

function housekeeping(database: Database, log: Logger): AsyncDisposable {
  const clean = async () => {
    await pruneSignOn(database, new Date());
    await pruneDeliveries(database);
  };
  const timer = setInterval(() => {
    clean().catch((error: unknown) => log.warn({ error: KiteError.from(error).message }, "what is over could not be removed"));
  }, HOUSEKEEPING_MS);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
    },
  };
}

function readPublicUrl(url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed !== undefined && /^https?:$/.test(parsed.protocol) && parsed.pathname === "/" && parsed.search === "") return parsed.origin;
  throw new KiteError(
    "invalid_argument",
    `the public address must be like https://mesh.example, without a path; got ${JSON.stringify(url)} (GATEWAY_PUBLIC_URL)`,
  );
}

function started<T>(part: T | undefined): T {
  if (part === undefined) throw new KiteError("failed_precondition", "the gateway has not started");
  return part;
}
