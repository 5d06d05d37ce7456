import { mkdir, readdir } from "node:fs/promises";
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { CreateResource, Provider, ReadResource, ResourceState, ResourceType } from "@kite-mesh/kloud/provider";
import { z } from "zod";
import { chooseRung, describeIsolation, type Isolation, probeIsolation } from "./isolation.ts";
import { endMachine, type Klient, launchKlient, runningKlient } from "./klient-process.ts";
import { type MachineFolder, type MachineSettings, machineFolder, readSettings, removeFolder, writeSettings } from "./machine-folder.ts";
import { withMachineLock } from "./machine-lock.ts";
import { trimLog } from "./machine-log.ts";
import { type HostEnvironment, readHostEnvironment } from "./options.ts";

export interface LocalProviderOptions {
  /** Each machine gets a folder in here. */
  machinesDir: string;
  /** What machines run: the klient's bundle, with this Node unless another is named. */
  klient: { main: string; node?: string };
  log: { warn(fields: object, message: string): void };
  /** Files and folders that sandboxed machines do not see. Default: none. */
  hidden?: readonly string[];
  /** Where bubblewrap is. Default: `bwrap`, looked for on PATH. */
  bwrap?: string;
  /** How long a machine's programs may take to end before they are killed. */
  graceMs?: number;
}

/**
 * Machines that are child processes on this host: `local_instance`. They need no rights and nothing installed, live on when
 * the mesh is killed, and are found again. They share the host's user and network: they keep a tidy house, and hold nobody in.
 */
export function localProvider(options: LocalProviderOptions): Provider {
  const machines = new LocalMachines(options);
  const instance: ResourceType = {
    attributes: Object.keys(Attributes.shape),
    schema: Attributes,
    replaceOn: [],
    machine: true,
    create: (request) => machines.create(request),
    read: ({ id }) => machines.read(id),
    update: (request) => machines.update(request),
    delete: (request) => machines.delete(request),
    start: (request) => machines.start(request),
    stop: (request) => machines.stop(request),
  };
  return {
    name: "local",
    resources: { local_instance: instance },
    describe: async () => `local: ${describeIsolation(await machines.isolation())}`,
    close: () => machines.close(),
  };
}

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;
// Names by which the mesh itself speaks to a klient, and those that would change what Node loads into it.
const RESERVED = /^(KITE_|KLIENT_|NODE_|LD_)/;

const Attributes = z.strictObject({
  /** How the machine is kept apart from the host; `auto` takes the best that works. */
  isolation: z.enum(["auto", "process", "bubblewrap"]).default("auto"),
  /** Environment variables for everything that runs on the machine. */
  env: z
    .record(z.string().regex(VARIABLE, "a variable's name has letters, digits and _"), z.coerce.string())
    .refine(
      (env) => !Object.keys(env).some((name) => RESERVED.test(name)),
      "names that begin with KITE_, KLIENT_, NODE_ or LD_ are reserved",
    )
    .default({}),
});

// klient needs tens of milliseconds to end its shells; a shell that traps SIGTERM gets no more than this.
const GRACE_MS = 5_000;
const TRIM_EVERY_MS = 60_000;

class LocalMachines {
  readonly #machinesDir: string;
  readonly #klient: Klient;
  readonly #hidden: readonly string[];
  readonly #host: HostEnvironment;
  readonly #bwrap: string;
  readonly #graceMs: number;
  readonly #log: LocalProviderOptions["log"];
  readonly #trimming: NodeJS.Timeout;
  #isolation: Promise<Isolation> | undefined;

  constructor({ machinesDir, klient, log, hidden = [], bwrap = "bwrap", graceMs = GRACE_MS }: LocalProviderOptions) {
    this.#machinesDir = resolve(machinesDir);
    this.#klient = { main: resolve(klient.main), node: klient.node ?? process.execPath };
    this.#hidden = hidden.map((path) => resolve(path));
    this.#host = readHostEnvironment();
    this.#bwrap = bwrap;
    this.#graceMs = graceMs;
    this.#log = log;
    this.#trimming = setInterval(() => void this.#trimLogs(), TRIM_EVERY_MS).unref();
  }

  isolation(): Promise<Isolation> {
    this.#isolation ??= mkdir(this.#machinesDir, { recursive: true, mode: 0o700 }).then(() =>
      probeIsolation(this.#bwrap, this.#machinesDir, this.#host.path),
    );
    return this.#isolation;
  }

  async create({ id, attributes, boot, signal, progress }: CreateResource): Promise<ResourceState> {
    if (boot === null) throw new Error("a local machine needs to be told where kontrol is and who owns it");
    const { isolation, env } = Attributes.parse(attributes);
    const { hostname, username, kontrolUrl, joinToken } = boot;
    return await this.#locked(id, signal, async (folder) => {
      if ((await runningKlient(folder)) === null) {
        const rung = chooseRung(isolation, await this.isolation());
        await writeSettings(folder, { hostname, username, kontrolUrl, isolation, env, rung });
        progress(`starting a klient (${rung})`);
        await this.#launch(id, folder, joinToken);
      }
      return await this.#existing(id);
    });
  }

  async read(id: string): Promise<ResourceState | null> {
    const folder = machineFolder(this.#machinesDir, id);
    const settings = await readSettings(folder);
    if (settings === null) return null;
    const status = (await runningKlient(folder)) === null ? "stopped" : "running";
    const { isolation, env, rung } = settings;
    return { id, status, attributes: { isolation, env, rung, home: folder.home, log: folder.log } };
  }

  /** A machine that runs is started again when it must be, for its programs to see what has changed. */
  async update({ id, attributes, signal }: CreateResource): Promise<ResourceState> {
    const { isolation, env } = Attributes.parse(attributes);
    return await this.#locked(id, signal, async (folder) => {
      const settings = await this.#settings(id, folder);
      const same = isDeepStrictEqual([settings.isolation, settings.env], [isolation, env]);
      if (same) return await this.#existing(id);
      const running = (await runningKlient(folder)) !== null;
      const rung = chooseRung(isolation, await this.isolation());
      if (running) await endMachine(id, folder, this.#graceMs);
      await writeSettings(folder, { ...settings, isolation, env, rung });
      if (running) await this.#launch(id, folder, undefined);
      return await this.#existing(id);
    });
  }

  async delete({ id, signal }: ReadResource): Promise<void> {
    await this.#locked(id, signal, async (folder) => {
      await endMachine(id, folder, this.#graceMs);
      await removeFolder(folder);
    });
  }

  async start({ id, signal }: ReadResource): Promise<ResourceState> {
    return await this.#locked(id, signal, async (folder) => {
      const settings = await this.#settings(id, folder);
      if ((await runningKlient(folder)) === null) {
        // What works here may have changed since: the host was upgraded, or the folder moved.
        const rung = chooseRung(settings.isolation, await this.isolation());
        await writeSettings(folder, { ...settings, rung });
        await this.#launch(id, folder, undefined);
      }
      return await this.#existing(id);
    });
  }

  async stop({ id, signal }: ReadResource): Promise<ResourceState> {
    return await this.#locked(id, signal, async (folder) => {
      await this.#settings(id, folder);
      await endMachine(id, folder, this.#graceMs);
      return await this.#existing(id);
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#trimming);
    await this.#isolation?.catch(() => undefined);
  }

  async #locked<T>(id: string, signal: AbortSignal, work: (folder: MachineFolder) => Promise<T>): Promise<T> {
    const folder = machineFolder(this.#machinesDir, id);
    return await withMachineLock(folder.path, signal, () => work(folder));
  }

  async #launch(id: string, folder: MachineFolder, joinToken: string | undefined): Promise<void> {
    const isolation = await this.isolation();
    const settings = await this.#settings(id, folder);
    // In a sandbox nothing could be reached that an earlier klient left behind; without one its terminals live on.
    if (settings.rung === "bubblewrap") await endMachine(id, folder, this.#graceMs);
    await launchKlient({
      id,
      folder,
      settings,
      machinesDir: this.#machinesDir,
      hidden: this.#hidden,
      klient: this.#klient,
      isolation,
      host: this.#host,
      joinToken,
    });
  }

  async #settings(id: string, folder: MachineFolder): Promise<MachineSettings> {
    const settings = await readSettings(folder);
    if (settings === null) throw new Error(`machine ${id} has no folder in ${this.#machinesDir} any more; apply the stack to make it anew`);
    return settings;
  }

  async #existing(id: string): Promise<ResourceState> {
    const state = await this.read(id);
    if (state === null) throw new Error(`machine ${id} was removed from ${this.#machinesDir} while it was being worked on`);
    return state;
  }

  async #trimLogs(): Promise<void> {
    try {
      for (const id of await readdir(this.#machinesDir)) await trimLog(machineFolder(this.#machinesDir, id).log);
    } catch (thrown) {
      this.#log.warn({ error: String(thrown) }, "the logs of local machines could not be shortened");
    }
  }
}
