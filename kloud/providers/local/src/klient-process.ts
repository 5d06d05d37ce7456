import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Isolation, isolate, type Sandbox } from "./isolation.ts";
import type { MachineFolder, MachineSettings } from "./machine-folder.ts";
import { trimLog } from "./machine-log.ts";
import type { HostEnvironment } from "./options.ts";
import { findMarked, isRunning, type ProcessId, type ProcessInfo, parseStat, signalGroup, signalProcess } from "./processes.ts";

export interface Klient {
  /** The bundle that machines run. */
  readonly main: string;
  readonly node: string;
}

export interface LaunchRequest {
  id: string;
  folder: MachineFolder;
  settings: MachineSettings;
  machinesDir: string;
  hidden: readonly string[];
  klient: Klient;
  isolation: Isolation;
  host: HostEnvironment;
  /** Undefined once the machine has a key of its own. */
  joinToken: string | undefined;
}

/** The klient of a machine, if it is running. */
export async function runningKlient(folder: MachineFolder): Promise<ProcessId | null> {
  const line = await readFile(folder.process, "utf8").catch(() => null);
  const recorded = line === null ? null : parseStat(line);
  return recorded !== null && (await isRunning(recorded)) ? recorded : null;
}

/**
 * Starts a klient as the leader of a session of its own, so that it outlives this process. It writes down who it is before
 * it becomes the klient: whoever starts it may be killed at any moment and it will still be found.
 */
export async function launchKlient(request: LaunchRequest): Promise<void> {
  const { folder, settings, klient, isolation, machinesDir, hidden } = request;
  await rm(folder.process, { force: true });
  await trimLog(folder.log);
  const sandbox: Sandbox = {
    isolation: settings.isolation,
    home: folder.home,
    machinesDir,
    hostname: settings.hostname,
    hidden,
    programs: [klient.main, klient.node],
  };
  const command = isolate(settings.rung, isolation, sandbox, [klient.node, klient.main]);
  const log = await open(folder.log, "a", 0o600);
  try {
    const child = spawn("/bin/sh", ["-c", RECORD_AND_BECOME, "sh", folder.process, ...command], {
      cwd: folder.home,
      env: environment(request),
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    child.unref();
    await once(child, "spawn");
  } finally {
    await log.close();
  }
  await recorded(folder);
}

/** Ends the klient and everything else of the machine, kindly first; it is all gone when the promise resolves. */
export async function endMachine(id: string, folder: MachineFolder, graceMs: number): Promise<void> {
  const klient = await runningKlient(folder);
  if (klient !== null) await signalGroup(klient, "SIGTERM");
  else await signalAll(await findMarked(marker(id)), "SIGTERM");
  if (await vanished(id, graceMs)) return;
  // New ones may be started while others end: again until there is none.
  for (let round = 0; round < KILL_ROUNDS; round++) {
    await signalAll(await findMarked(marker(id)), "SIGKILL");
    if (await vanished(id, KILL_PAUSE_MS)) return;
  }
  const left = (await findMarked(marker(id))).map(({ pid }) => pid);
  throw new Error(`processes ${left.join(", ")} of machine ${id} do not end, even by SIGKILL; they wait for a device or a file system`);
}

const RECORD_AND_BECOME = 'cat "/proc/$$/stat" > "$1.new" && mv "$1.new" "$1" && shift && exec "$@"';
const LOOK_MS = 25;
// A shell needs milliseconds to write one line; a machine that starts to swap needs seconds.
const RECORD_MS = 10_000;
const KILL_ROUNDS = 50;
const KILL_PAUSE_MS = 100;

function environment({ id, folder, settings, host, joinToken }: LaunchRequest): NodeJS.ProcessEnv {
  return {
    ...settings.env,
    ...host.locale,
    PATH: host.path,
    SHELL: host.shell,
    USER: host.user,
    LOGNAME: host.user,
    HOME: folder.home,
    KITE_HOME: join(folder.home, ".kite"),
    KITE_MACHINE_ID: id,
    KITE_KONTROL_URL: settings.kontrolUrl,
    KITE_MACHINE: settings.hostname,
    KITE_PROVIDER: "local",
    ...(joinToken === undefined ? {} : { KITE_JOIN_TOKEN: joinToken }),
  };
}

function marker(id: string): string {
  return `KITE_MACHINE_ID=${id}`;
}

async function recorded({ process: path, log }: MachineFolder): Promise<void> {
  const end = performance.now() + RECORD_MS;
  while (performance.now() < end) {
    const line = await readFile(path, "utf8").catch(() => "");
    if (line !== "") return;
    await pause(LOOK_MS);
  }
  throw new Error(`the klient's process did not start within ${RECORD_MS / 1000} s; its log is ${log}`);
}

async function vanished(id: string, withinMs: number): Promise<boolean> {
  const end = performance.now() + withinMs;
  for (;;) {
    if ((await findMarked(marker(id))).length === 0) return true;
    if (performance.now() > end) return false;
    await pause(LOOK_MS);
  }
}

async function signalAll(processes: readonly ProcessInfo[], signal: NodeJS.Signals): Promise<void> {
  for (const one of processes) await signalProcess(one, signal);
}
