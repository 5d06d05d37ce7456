import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { lastingPort } from "./lasting-port.ts";
import { processesMentioning } from "./processes.ts";
import { program } from "./programs.ts";
import { until } from "./until.ts";

export const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
export const KITE_COMMAND = program("kite");

export interface MeshOptions {
  /** Over the environment of the test run. */
  env?: Record<string, string>;
  /** `npm start`, from the sources, as a person does it; otherwise the same program from the run's bundle, in a third of the time. */
  byNpm?: boolean;
}

/** What the mesh says of itself in `mesh.json`, as far as tests need it. */
interface MeshFile {
  pid: number;
  owner: string;
  kontrolUrl: string;
  gatewayUrl: string;
}

/** How a command ended. */
export interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
}

// A first start on two busy cores, with initdb and the dashboard's bundle to make.
const START_LIMIT_MS = 90_000;
// Every machine and PostgreSQL get ten seconds each to end kindly.
const STOP_LIMIT_MS = 40_000;
const COMMAND_LIMIT_MS = 60_000;

/**
 * The real one-command mesh, the program of `npm start`, with a home of its own and free ports. Leaving its scope stops it and
 * fails if anything is left: a process, a port, a socket or a temporary file.
 *
 * @example
 * await using mesh = await startMesh();
 * expect((await mesh.run("list")).stdout).toContain("kontrol");
 */
export async function startMesh(options: MeshOptions = {}): Promise<TestMesh> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "kite-mesh-"));
  await mkdir(path.join(folder, "tmp"));
  const mesh = new TestMesh(folder, options);
  try {
    await keepPorts(mesh.home);
    await mesh.start();
    return mesh;
  } catch (cause) {
    await mesh[Symbol.asyncDispose]().catch(() => {});
    throw cause;
  }
}

export class TestMesh implements AsyncDisposable {
  /** Its KITE_HOME. Programs that belong to this mesh mention it, and nothing else does. */
  readonly home: string;
  /** For `kite` and other programs that talk to this mesh. */
  readonly env: NodeJS.ProcessEnv;
  readonly #folder: string;
  readonly #command: readonly [string, ...string[]];
  #process: ChildProcess | undefined;
  #file: MeshFile | undefined;
  #output = "";
  /** Every port that it ever listened on. */
  readonly #ports = new Set<number>();

  constructor(folder: string, { env = {}, byNpm = false }: MeshOptions) {
    this.#folder = folder;
    this.#command = byNpm ? ["npm", "start"] : [process.execPath, program("mesh")];
    this.home = path.join(folder, "home");
    this.env = {
      ...withoutRunner(process.env),
      NO_COLOR: "1",
      ...env,
      KITE_HOME: this.home,
      KONTROL_PORT: "0",
      GATEWAY_PORT: "0",
      TMPDIR: path.join(folder, "tmp"),
    };
  }

  get pid(): number {
    return this.#known().pid;
  }

  get kontrolUrl(): string {
    return this.#known().kontrolUrl;
  }

  get gatewayUrl(): string {
    return this.#known().gatewayUrl;
  }

  /** All that it printed since it was started last. */
  get output(): string {
    return this.#output;
  }

  /** Starts it, and waits until it says where it is. */
  async start(): Promise<void> {
    this.#output = "";
    // A process group of its own, as a shell would give it, so that Ctrl-C reaches all of it and none of us.
    const [file, ...args] = this.#command;
    const child = spawn(file, args, { cwd: CHECKOUT, env: this.env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    child.stdout.on("data", (chunk: Buffer) => (this.#output += chunk.toString("utf8")));
    child.stderr.on("data", (chunk: Buffer) => (this.#output += chunk.toString("utf8")));
    const found = await until("npm start to write mesh.json", START_LIMIT_MS, () => (hasEnded(child) ? null : this.#readFile()));
    if (found === null) throw new Error(`npm start ended with status ${child.exitCode}:\n${this.#output}`);
    this.#file = found;
    for (const url of [found.kontrolUrl, found.gatewayUrl]) this.#ports.add(Number(new URL(url).port));
  }

  /** Runs the `kite` command to its end, as the mesh's owner. */
  run(...args: string[]): Promise<Finished> {
    return this.runAs(this.home, ...args);
  }

  /** Runs the `kite` command as whoever's kite.key lies in `home`. */
  async runAs(home: string, ...args: string[]): Promise<Finished> {
    const env = { ...this.env, KITE_HOME: home };
    const child = spawn(process.execPath, [KITE_COMMAND, ...args], { cwd: this.#folder, env, stdio: ["ignore", "pipe", "pipe"] });
    const output = { stdout: "", stderr: "" };
    child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString("utf8")));
    child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString("utf8")));
    const overdue = setTimeout(() => child.kill("SIGKILL"), COMMAND_LIMIT_MS);
    const [status] = (await once(child, "close")) as [number | null];
    clearTimeout(overdue);
    return { status, ...output };
  }

  /** Runs `kite … --json` and reads its answer. */
  async json<T>(...args: string[]): Promise<T> {
    const { status, stdout, stderr } = await this.run(...args, "--json");
    if (status !== 0) throw new Error(`kite ${args.join(" ")} --json ended with status ${status}: ${stderr}${stdout}`);
    return JSON.parse(stdout) as T;
  }

  /** The main process dies without a chance to say so. What it started lives on. */
  async kill9(): Promise<void> {
    process.kill(this.pid, "SIGKILL");
    await this.#ended();
  }

  /** Ctrl-C, as a terminal sends it: to the whole group. */
  async interrupt(): Promise<void> {
    const child = this.#process;
    if (child?.pid !== undefined && !hasEnded(child)) process.kill(-child.pid, "SIGINT");
    await this.#ended();
  }

  /** As an init system or a container's runtime ends it: the signal reaches the process that was started and no other. */
  async terminate(): Promise<void> {
    this.#process?.kill("SIGTERM");
    await this.#ended();
  }

  /** What is still there of it: processes that mention its home, ports that answer, sockets and temporary files. */
  async leaks(): Promise<string[]> {
    const processes = (await processesMentioning(this.#folder)).map(({ pid, command }) => `process ${pid}: ${command}`);
    const answering = await Promise.all([...this.#ports].map(async (port) => ((await answers(port)) ? [`port ${port} answers`] : [])));
    const files = await leftFiles(this.#folder);
    return [...processes, ...answering.flat(), ...files.map((file) => `file ${file}`)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.interrupt();
      const leaks = await this.leaks();
      if (leaks.length > 0) throw new Error(`the mesh left behind:\n${leaks.join("\n")}\nIt had printed:\n${this.#output}`);
    } finally {
      // Also what leaked: the next test must not meet it.
      for (const { pid } of await processesMentioning(this.#folder)) kill(pid);
      await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
    }
  }

  async #readFile(): Promise<MeshFile | undefined> {
    const file = JSON.parse(await readFile(path.join(this.home, "mesh.json"), "utf8")) as MeshFile;
    // One that was killed leaves its file behind.
    return isAlive(file.pid) ? file : undefined;
  }

  /** npm goes at once, whatever it has started: the main process counts. */
  async #ended(): Promise<void> {
    const [child, file] = [this.#process, this.#file];
    const isOver = () => (child === undefined || hasEnded(child)) && (file === undefined || !isAlive(file.pid));
    await until(`npm start to end; it had printed:\n${this.#output}\n`, STOP_LIMIT_MS, isOver);
    // What it said last may still be in the pipe, from which a turn of the loop reads it.
    await turn();
    this.#file = undefined;
  }

  #known(): MeshFile {
    if (this.#file === undefined) throw new Error("the mesh is not running: start it first");
    return this.#file;
  }
}

/**
 * The ports of last time, which `npm start` takes again, are some that the system gives to nobody: what answers there when the mesh
 * has gone is its own.
 */
async function keepPorts(home: string): Promise<void> {
  await mkdir(home, { mode: 0o700 });
  await writeFile(path.join(home, "ports.json"), JSON.stringify({ kontrol: await lastingPort(), gateway: await lastingPort() }));
}

/** The environment as it was before vitest: the mesh must not notice that it is tested. */
function withoutRunner(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !/^(VITEST|TEST$|NODE_ENV$|NODE_OPTIONS$|npm_)/.test(name)));
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It was faster.
  }
}

async function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(2000) }).then(
    () => true,
    () => false,
  );
}

/** What only a running mesh has: its `mesh.json`, sockets, and whatever lies in its folder for temporary files. */
async function leftFiles(folder: string): Promise<string[]> {
  const files = (await readdir(folder, { recursive: true })).map((file) => path.join(folder, file));
  const temporary = path.join(folder, "tmp/");
  const isLeft = async (file: string) =>
    // tsx keeps what it compiled, for the next start.
    (file.startsWith(temporary) && !file.startsWith(`${temporary}tsx-`)) ||
    file === path.join(folder, "home/mesh.json") ||
    (await stat(file).catch(() => undefined))?.isSocket();
  const left = await Promise.all(files.map(async (file) => ((await isLeft(file)) ? [file] : [])));
  return left.flat();
}
