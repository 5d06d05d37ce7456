import { join } from "node:path";
import { createGateway, type Gateway } from "@kite-mesh/gateway";
import { parseKiteKey } from "@kite-mesh/kite";
import { createKloud, type Kloud } from "@kite-mesh/kloud";
import type { Provider } from "@kite-mesh/kloud/provider";
import { createKontrol, type Kontrol } from "@kite-mesh/kontrol";
import { localProvider } from "@kite-mesh/provider-local";
import { type Home, keepSecret } from "./home.ts";
import { keepKey, ownerOfKey, serviceFolder } from "./keys.ts";
import type { MeshLog } from "./log.ts";
import { stopMachines } from "./machines.ts";
import type { LocalOptions } from "./options.ts";
import { type HeldPort, HOST } from "./ports.ts";
import type { Postgres } from "./postgres.ts";
import { keepPostgres } from "./postgres-keeper.ts";
import type { Scope } from "./scope.ts";

/** What every part of the mesh is opened with; what it opens it puts into the scope. */
export interface Ground {
  home: Home;
  options: LocalOptions;
  log: MeshLog;
  scope: Scope;
  signal: AbortSignal;
}

/** Closing a service means telling its peers and waiting for what is under way; none of them needs seconds for it. */
const SERVICE_LIMIT_MS = 5_000;
// Its own limits add up to less; then it is left behind, and the next start takes it over.
const POSTGRES_LIMIT_MS = 22_000;
// A machine's programs get five seconds, and are killed then.
const MACHINES_LIMIT_MS = 15_000;

/** `onGivenUp` is told when it ended and could not be started again. */
export async function openPostgres(
  { home, options, log, scope, signal }: Ground,
  onGivenUp: (sentence: string) => void,
): Promise<Postgres> {
  const postgres = await keepPostgres({
    onGivenUp,
    dataDir: join(home.path, "postgres"),
    url: options.postgresUrl,
    log: log.child("postgres"),
    signal,
  });
  scope.defer("postgres", POSTGRES_LIMIT_MS, () => postgres.close());
  return postgres;
}

export async function openKontrol({ log, scope }: Ground, databaseUrl: string, held: HeldPort): Promise<Kontrol> {
  await held.release();
  const kontrol = await createKontrol({ databaseUrl, host: HOST, port: held.port, log: log.child("kontrol") });
  scope.defer("kontrol", SERVICE_LIMIT_MS, () => kontrol.close());
  return kontrol;
}

export interface Accounts {
  owner: string;
  /** The kite.keys. */
  keys: { owner: string; kloud: string; gateway: string };
}

/** The owner is whoever made the mesh: somebody else who starts it later does not become another one. */
export async function openAccounts({ home, options, log }: Ground, kontrol: Kontrol): Promise<Accounts> {
  const owner = (await ownerOfKey(home.path)) ?? options.owner;
  const keep = (username: string, folder: string) => keepKey({ username, folder, kontrol, log: log.child("start") });
  await kontrol.ensureAccount({ username: owner, kind: "person", admin: true });
  for (const username of ["kloud", "gateway"]) await kontrol.ensureAccount({ username, kind: "service", admin: true });
  const [ofOwner, kloud, gateway] = await Promise.all([
    keep(owner, home.path),
    keep("kloud", serviceFolder(home.path, "kloud")),
    keep("gateway", serviceFolder(home.path, "gateway")),
  ]);
  return { owner, keys: { owner: ofOwner, kloud, gateway } };
}

export function openProvider({ home, log, scope }: Ground, klient: string): Provider {
  const machinesDir = join(home.path, "machines");
  const provider = localProvider({
    machinesDir,
    klient: { main: klient },
    hidden: SECRETS.map((name) => join(home.path, name)),
    log: log.child("local"),
  });
  scope.defer("local provider", SERVICE_LIMIT_MS, () => provider.close());
  scope.defer("machines", MACHINES_LIMIT_MS, () => stopMachines(provider, machinesDir, AbortSignal.timeout(MACHINES_LIMIT_MS)));
  return provider;
}

// What is in the home and not for machines: whoever reads one of the keys is an administrator of the mesh.
const SECRETS = ["kite.key", "services", "postgres", "gitlab-hook-token", "mesh.log", "mesh.log.1"];

export interface ServiceOptions {
  databaseUrl: string;
  kontrolUrl: string;
  kiteKey: string;
}

/** There is one kloud and one gateway in a home, so their keys name them: after a `kill -9` nobody finds the dead ones. */
async function instanceOf({ kiteKey }: ServiceOptions): Promise<{ id: string }> {
  return { id: (await parseKiteKey(kiteKey)).id };
}

export async function openKloud({ log, scope }: Ground, options: ServiceOptions, provider: Provider): Promise<Kloud> {
  const kloud = await createKloud({
    ...options,
    ...(await instanceOf(options)),
    host: HOST,
    providers: [provider],
    log: log.child("kloud"),
  });
  scope.defer("kloud", SERVICE_LIMIT_MS, () => kloud.close());
  return kloud;
}

export async function openGateway(
  { log, scope }: Ground,
  options: ServiceOptions,
  door: { held: HeldPort; hookToken: string },
): Promise<Gateway> {
  const gitlab = { hookToken: door.hookToken };
  const instance = await instanceOf(options);
  await door.held.release();
  const gateway = await createGateway({
    ...options,
    ...instance,
    host: HOST,
    port: door.held.port,
    gitlab,
    log: log.child("gateway"),
  });
  scope.defer("gateway", SERVICE_LIMIT_MS, () => gateway.close());
  return gateway;
}

/** `made` when nobody has set one: the person must be told, to tell GitLab. */
export async function hookToken({ home, options }: Ground): Promise<{ token: string; made: boolean }> {
  if (options.gitlabHookToken !== undefined) return { token: options.gitlabHookToken, made: false };
  return { token: await keepSecret(home, "gitlab-hook-token"), made: true };
}
