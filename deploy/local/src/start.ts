import { join } from "node:path";
import { KiteError } from "@kite-mesh/kite";
import { type Home, openHome, readPorts, removeMeshFile, writeMeshFile, writePorts } from "./home.ts";
import { keepKlient } from "./klient-bundle.ts";
import { openLog } from "./log.ts";
import { openSample } from "./machines.ts";
import type { LocalOptions } from "./options.ts";
import { choosePort, type HeldPort } from "./ports.ts";
import type { Progress, Tell } from "./progress.ts";
import type { Scope } from "./scope.ts";
import { type Ground, hookToken, openAccounts, openGateway, openKloud, openKontrol, openPostgres, openProvider } from "./services.ts";

/** A mesh that runs, as a person is told of it. Whoever started it closes its scope. */
export interface RunningMesh {
  readonly owner: string;
  readonly kontrolUrl: string;
  readonly gatewayUrl: string;
  readonly chosen: { readonly stores: string; readonly engine: string; readonly isolation: string };
  /** The hook's secret, when it was made here. */
  readonly madeHookToken: string | null;
  readonly signIn: { readonly url: string; readonly expiresAt: number };
  readonly logPath: string;
}

export interface StartMesh {
  options: LocalOptions;
  progress: Progress;
  /** Everything that is opened is put in here, also when the start fails half-way. */
  scope: Scope;
  signal: AbortSignal;
}

/**
 * Starts the whole mesh in this process from what is in the home: the first time everything is made, later everything is
 * found again, and what a killed mesh left running is taken over.
 *
 * @throws {KiteError} with a sentence for the person; the scope then holds what must be closed.
 */
export async function startMesh({ options, progress, scope, signal }: StartMesh): Promise<RunningMesh> {
  const home = await openHome(options.home);
  scope.defer("home", 1000, () => home.lock.release());
  // One that a killed mesh left would send tools to where nobody is.
  await removeMeshFile(home);
  const ports = await pickPorts(home, options, scope);
  const log = await openLog(home.path, options.logLevel);
  scope.defer("log", 2000, () => log.close());

  const { postgres, kontrol, owner, provider, hook, gateway, engine } = await openParts(
    { home, options, log, scope, signal },
    ports,
    progress,
  );

  const [kontrolUrl, gatewayUrl] = [kontrol.url, gateway.url];
  scope.defer("mesh.json", 1000, () => removeMeshFile(home));
  await writeMeshFile(home, {
    pid: process.pid,
    version: options.version,
    owner,
    kontrolUrl,
    gatewayUrl,
    startedAt: new Date().toISOString(),
  });
  const stores = `${postgres.describe}; bus, leases and web sessions in this process`;
  return {
    owner,
    kontrolUrl,
    gatewayUrl,
    chosen: { stores, engine, isolation: await provider.describe() },
    madeHookToken: hook.made ? hook.token : null,
    signIn: await gateway.signInLink(owner),
    logPath: log.path,
  };
}

/** One after the other, each on what was opened before it; only the klient's bundle is made meanwhile. */
async function openParts(ground: Ground, ports: MeshPorts, progress: Progress) {
  const { home, signal } = ground;
  const step = <T>(name: string, run: (tell: Tell) => Promise<T>, describe: (result: T) => string) => {
    if (signal.aborted) throw new KiteError("cancelled", "the start was interrupted", { cause: signal.reason });
    return progress.step(name, run, describe);
  };
  const url = (opened: { url: string }) => opened.url;

  const bundling = keepKlient(join(home.path, "klient"));
  // That it failed is told where it is needed.
  bundling.catch(() => {});
  const postgres = await step(
    "postgres",
    () => openPostgres(ground, (sentence) => progress.failed("postgres", sentence)),
    ({ describe }) => describe,
  );
  const databaseUrl = await postgres.createDatabase("mesh");
  const kontrol = await step("kontrol", () => openKontrol(ground, databaseUrl, ports.kontrol), url);
  const { owner, keys } = await step(
    "accounts",
    () => openAccounts(ground, kontrol),
    (made) => `${made.owner}, kloud, gateway`,
  );
  const bundle = await step(
    "klient",
    () => bundling,
    () => "bundled for machines",
  );
  const provider = openProvider(ground, bundle);
  const common = { databaseUrl, kontrolUrl: kontrol.url };
  await step("kloud", () => openKloud(ground, { ...common, kiteKey: keys.kloud }, provider), url);
  const hook = await hookToken(ground);
  const door = { held: ports.gateway, hookToken: hook.token };
  const gateway = await step("gateway", () => openGateway(ground, { ...common, kiteKey: keys.gateway }, door), url);
  const openMachines = (tell: Tell) => openSample({ owner, kiteKey: keys.owner, tell, signal });
  const { engine } = await step("machines", openMachines, ({ described }) => described);
  return { postgres, kontrol, owner, provider, hook, gateway, engine };
}

interface MeshPorts {
  readonly kontrol: HeldPort;
  readonly gateway: HeldPort;
}

/** Both are ours before anything is started, and the same as last time: machines that still run look for kontrol there. */
async function pickPorts(home: Home, { kontrolPort, gatewayPort }: LocalOptions, scope: Scope): Promise<MeshPorts> {
  if (kontrolPort === gatewayPort && kontrolPort !== 0) {
    throw new KiteError(
      "invalid_argument",
      `KONTROL_PORT and GATEWAY_PORT should be two ports, and both are ${kontrolPort}; change one of them`,
    );
  }
  const previous = await readPorts(home);
  const held = async (setting: string, wanted: number, last: number | undefined) => {
    // Not what the other one was asked to be.
    const free = last === kontrolPort || last === gatewayPort ? undefined : last;
    const port = await choosePort({ setting, wanted, previous: free });
    scope.defer(setting, 1000, () => port.release());
    return port;
  };
  const kontrol = await held("KONTROL_PORT", kontrolPort, previous.kontrol);
  const gateway = await held("GATEWAY_PORT", gatewayPort, previous.gateway);
  await writePorts(home, { kontrol: kontrol.port, gateway: gateway.port });
  return { kontrol, gateway };
}
