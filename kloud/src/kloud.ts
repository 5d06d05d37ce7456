import { randomUUID } from "node:crypto";
import { Kite, KiteError, type Logger, type Observer } from "@kite-mesh/kite";
import { builtinEngine } from "./engine/builtin.ts";
import { execute } from "./execute.ts";
import type { Workshop } from "./job.ts";
import { kontrolMesh } from "./mesh.ts";
import { kloudMethods } from "./methods.ts";
import type { Provider } from "./provider.ts";
import { KloudService } from "./service.ts";
import { postgresStore } from "./store/postgres.ts";
import { Worker } from "./worker.ts";

export interface KloudOptions {
  /** PostgreSQL; kloud keeps its tables in the schema `kloud`. */
  databaseUrl: string;
  kontrolUrl: string;
  /** Of a service account that may make join tokens. */
  kiteKey: string;
  /** The kite's id; the same one after a restart takes the place of its predecessor at once. Default: a new one. */
  id?: string;
  /** They stay their maker's: close them after kloud. */
  providers: readonly Provider[];
  /** Default `127.0.0.1`. */
  host?: string;
  /** 0, the default, picks a free one. */
  port?: number;
  log: Logger;
  /** Told of the calls of its kite, such as `tracing()` and `metrics()` of kite. */
  observers?: readonly Observer[];
  /** How long a machine's klient may take to appear in the mesh. Default 60,000. */
  klientTimeoutMs?: number;
  /** How long an operation rests after its worker was killed. Default 6,000. */
  leaseMs?: number;
}

/** A running kloud. Whoever created it closes it; operations under way are then left for the next one. */
export interface Kloud extends AsyncDisposable {
  readonly url: string;
  readonly kite: Kite;
  close(): Promise<void>;
}

/**
 * Starts kloud: brings its tables up to date, serves and registers, takes up what an earlier process left unfinished, and
 * starts machines that should run and do not.
 */
export async function createKloud(options: KloudOptions): Promise<Kloud> {
  const opened: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const end of opened.splice(0).reverse()) await end();
  };
  try {
    const { kite, url } = await open(options, opened);
    return { kite, url, close, [Symbol.asyncDispose]: close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

const VERSION = "0.1.0";
// A klient on a busy laptop appears within five seconds; a cloud's machine boots in half a minute.
const KLIENT_TIMEOUT_MS = 60_000;

/** Opens one thing after the other; each puts how it is closed on the list. */
async function open(options: KloudOptions, opened: (() => Promise<void>)[]): Promise<{ kite: Kite; url: string }> {
  const {
    databaseUrl,
    kontrolUrl,
    kiteKey,
    id,
    providers,
    host = "127.0.0.1",
    port = 0,
    log,
    observers,
    klientTimeoutMs = KLIENT_TIMEOUT_MS,
    leaseMs,
  } = options;
  const now = () => new Date();
  const store = await postgresStore({ databaseUrl, log });
  opened.push(() => store.close());

  const engine = builtinEngine({ store, providers, newId: randomUUID, now });
  // The kite needs its methods, and what they do needs the kite.
  let kite: Kite | undefined;
  const mesh = kontrolMesh(() => kite ?? notYet(), kontrolUrl);
  const workshop: Workshop = { store, engine, providers, mesh, now, klientTimeoutMs };
  const worker = new Worker({ store, execute: (run) => execute(workshop, run), log, now, ...(leaseMs === undefined ? {} : { leaseMs }) });
  const service = new KloudService({ ...workshop, wake: () => worker.wake(), log });

  kite = new Kite({ name: "kloud", version: VERSION, id, kiteKey, kontrolUrl, log, observers, methods: kloudMethods(service, store) });
  opened.push(kite.close.bind(kite));
  const { url } = await kite.listen({ host, port });
  await kite.register({ visibility: "mesh" });

  opened.push(() => worker.close());
  worker.start();
  bringBack(service, log, opened);
  return { kite, url };
}

/** In the background: a start that waits for a hundred machines would look like one that hangs. */
function bringBack(service: KloudService, log: Logger, opened: (() => Promise<void>)[]): void {
  const closing = new AbortController();
  const done = service.bringBack(closing.signal).catch((thrown: unknown) => {
    log.warn({ error: KiteError.from(thrown).message }, "machines that should run could not be looked for");
  });
  opened.push(async () => {
    closing.abort();
    await done;
  });
}

function notYet(): never {
  throw new Error("kloud's kite is used before it was made");
}
