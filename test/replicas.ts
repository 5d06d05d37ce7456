import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Kite, type Remote, readKiteKey } from "@kite-mesh/kite";
import type { KontrolContract } from "@kite-mesh/kontrol/contract";
import { type Balancer, startBalancer } from "./balancer.ts";
import { lastingPort } from "./lasting-port.ts";

// The first start compiles kontrol, beside others that do the same.
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 20_000;

const CHECKOUT = fileURLToPath(new URL("..", import.meta.url));
// From its sources: a benchmark may start it as well, where nothing was bundled.
const SOURCES = ["--conditions=mesh-source", "--import", "tsx", path.join(CHECKOUT, "kontrol/src/main.ts")];

export interface ReplicasOptions {
  readonly count?: number;
  /** What `node` runs as `kontrol`. */
  readonly kontrol?: readonly string[];
  /** Further settings, by their variables. */
  readonly settings?: Record<string, string>;
}

/** Some kontrols as real processes on one database, behind one address. Leaving its scope stops them. */
export interface Replicas extends AsyncDisposable {
  /** The balancer's address: any of them. */
  readonly url: string;
  /** kontrol behind the balancer, called by its administrator. */
  readonly root: Remote<KontrolContract>;
  /** Where one replica listens, also after a restart. */
  at(index: number): string;
  pid(index: number): number;
  /** It dies without a chance to say so. */
  kill9(index: number): Promise<void>;
  /** It is told to stop, and has. */
  stop(index: number): Promise<void>;
  /** It stands still with its connections open, as with its machine suspended. Checks of the balancer tell, so new ones go elsewhere. */
  suspend(index: number): void;
  /** It goes on as if nothing had happened. */
  wake(index: number): void;
  /** It runs again, at the same address. */
  start(index: number): Promise<void>;
  /** A person's kite.key. */
  person(username: string): Promise<string>;
  /** A kite of somebody, closed at the end. */
  closing<T extends AsyncDisposable>(resource: T): T;
}

export async function startReplicas(
  databaseUrl: string,
  { count = 3, kontrol = SOURCES, settings: more = {} }: ReplicasOptions = {},
): Promise<Replicas> {
  const home = await mkdtemp(path.join(os.tmpdir(), "kontrol-replicas-"));
  const urls: string[] = [];
  const running: (ChildProcess | undefined)[] = [];
  const opened: AsyncDisposable[] = [];
  const suspended = new Set<number>();
  const balancer: Balancer = await startBalancer(() => urls.filter((_, index) => !suspended.has(index)));
  const settings = { ...more, KONTROL_DATABASE_URL: databaseUrl, KONTROL_URL: balancer.url, KITE_HOME: home };
  const start = async (index: number) => {
    const port = urls[index] === undefined ? String(await lastingPort()) : new URL(urls[index]).port;
    const child = run([...kontrol, "serve"], { ...settings, KONTROL_PORT: port });
    running[index] = child;
    urls[index] = await listeningUrl(child, port);
  };
  const end = async (index: number, signal: NodeJS.Signals) => {
    const child = running[index];
    running[index] = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit", { signal: AbortSignal.timeout(STOP_LIMIT_MS) });
    child.kill(signal);
    child.kill("SIGCONT");
    await exited.catch(() => child.kill("SIGKILL"));
  };
  const dispose = async () => {
    for (const resource of opened.splice(0).reverse()) await resource[Symbol.asyncDispose]();
    for (const index of running.keys()) await end(index, "SIGTERM");
    await balancer.close();
    await rm(home, { recursive: true, force: true });
  };
  try {
    const [code] = (await once(run([...kontrol, "init", "root"], settings), "exit")) as [number];
    if (code !== 0) throw new Error(`kontrol init ended with ${code}`);
    for (let index = 0; index < count; index++) await start(index);
    const { jwt } = await readKiteKey(home);
    const caller = new Kite({ name: "root", version: "1.0.0", kiteKey: jwt });
    opened.push(caller);
    const root = caller.kontrol<KontrolContract>();
    return {
      url: balancer.url,
      root,
      at: (index) => urls[index] as string,
      pid: (index) => running[index]?.pid ?? 0,
      kill9: (index) => end(index, "SIGKILL"),
      stop: (index) => end(index, "SIGTERM"),
      suspend: (index) => {
        suspended.add(index);
        running[index]?.kill("SIGSTOP");
      },
      wake: (index) => {
        suspended.delete(index);
        running[index]?.kill("SIGCONT");
      },
      start,
      person: async (username) => {
        await root.people.create({ username });
        return (await root.keys.issue({ username })).kiteKey;
      },
      closing: (resource) => {
        opened.push(resource);
        return resource;
      },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (cause) {
    await dispose();
    throw cause;
  }
}

function run(args: string[], settings: Record<string, string>): ChildProcess {
  const env = { PATH: process.env["PATH"], HOME: process.env["HOME"], ...settings };
  return spawn(process.execPath, args, { env, cwd: CHECKOUT, stdio: ["ignore", "pipe", "inherit"] });
}

/** Where it says that it listens; its own url is the balancer's. */
async function listeningUrl(child: ChildProcess, port: string): Promise<string> {
  const late = setTimeout(() => child.kill("SIGKILL"), START_LIMIT_MS);
  try {
    if (child.stdout === null) throw new Error("the child has no output");
    for await (const line of createInterface({ input: child.stdout })) {
      const { msg, replicaUrl } = JSON.parse(line) as { msg: string; replicaUrl?: string };
      if (msg !== "kontrol is up" || replicaUrl === undefined) continue;
      // What it says later is not read, and must not fill the pipe.
      child.stdout.resume();
      return replicaUrl;
    }
    throw new Error(`kontrol ended before it was up on port ${port}`);
  } finally {
    clearTimeout(late);
  }
}
