import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Kite, KiteError } from "@kite-mesh/kite";
import type { KlientContract } from "@kite-mesh/klient/contract";
import type { KloudContract } from "@kite-mesh/kloud/contract";
import type { MeshFile } from "./home.ts";
import { CHECKOUT, environmentWith } from "./options.ts";
import { memoryOfTree, type ProcessMemory } from "./process-memory.ts";

// What the first issue promises to a newcomer.
const TARGETS = { firstStartMs: 20_000, warmStartMs: 10_000, idleBytes: 250 * 1024 * 1024 };
const START_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 30_000;
// V8 gives back what the start has used only after a while of quiet.
const IDLE_MS = 10_000;

/** Measures the one-command mesh as a person meets it, and prints what came out against what was promised. */
async function measure(): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), "kite-measure-"));
  try {
    const first = await start(home);
    await stop(first.process);
    const warm = await start(home);
    const processes = await idleMemory(home, warm.mesh);
    await stop(warm.process);
    report(first, warm, processes);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

interface Started {
  process: ChildProcess;
  mesh: MeshFile;
  /** Until npm start said that it is ready. */
  readyMs: number;
  /** Until a command typed into a terminal on the machine has answered. */
  terminalMs: number;
}

async function start(home: string): Promise<Started> {
  const startedAt = performance.now();
  const env = environmentWith({ KITE_HOME: home, KONTROL_PORT: "0", GATEWAY_PORT: "0" });
  const mesh = spawn("npm", ["start"], { cwd: CHECKOUT, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let output = "";
  for (const stream of [mesh.stdout, mesh.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  try {
    const file = await untilReady(home, mesh);
    const readyMs = performance.now() - startedAt;
    await useTerminal(home);
    return { process: mesh, mesh: file, readyMs, terminalMs: performance.now() - startedAt };
  } catch (cause) {
    await stop(mesh);
    process.stderr.write(output);
    throw cause;
  }
}

async function untilReady(home: string, mesh: ChildProcess): Promise<MeshFile> {
  const deadline = Date.now() + START_LIMIT_MS;
  for (;;) {
    const text = await readFile(join(home, "mesh.json"), "utf8").catch(() => null);
    if (text !== null) return JSON.parse(text) as MeshFile;
    if (mesh.exitCode !== null || Date.now() > deadline) throw new KiteError("unavailable", "the mesh did not start; its output follows");
    await delay(20);
  }
}

/** Opens a terminal on the sample machine as the dashboard does, types, and waits for the answer. */
async function useTerminal(home: string): Promise<void> {
  await using kite = await openKiteIn(home);
  const klient = await kite.connect<KlientContract>({ name: "klient", hostname: "hello" });
  let screen = "";
  const answered = new Promise<void>((resolve) => {
    const output = (data: Uint8Array | string) => {
      screen += typeof data === "string" ? data : Buffer.from(data).toString();
      if (screen.includes("answer=42")) resolve();
    };
    klient.webterm.connect({ sizeX: 80, sizeY: 24, remote: { output, sessionEnded: () => {} } }).then(
      (session) => session.input("echo answer=$((6*7))\r"),
      () => {},
    );
  });
  const late = delay(START_LIMIT_MS, "late", { ref: false });
  if ((await Promise.race([answered, late])) === "late")
    throw new KiteError("deadline_exceeded", `the terminal did not answer; it shows: ${screen}`);
}

async function idleMemory(home: string, mesh: MeshFile): Promise<ProcessMemory[]> {
  await using kite = await openKiteIn(home);
  const kloud = await kite.connect<KloudContract>({ username: "kloud", name: "kloud" });
  for (const machine of await kloud.machine.list()) {
    const { operationId } = await kloud.machine.stop({ machineId: machine.id });
    for await (const event of await kloud.operation.watch({ operationId })) void event;
  }
  await kite.close();
  await delay(IDLE_MS);
  return await memoryOfTree(mesh.pid);
}

async function openKiteIn(home: string): Promise<Kite> {
  const kiteKey = (await readFile(join(home, "kite.key"), "utf8")).trim();
  return new Kite({ name: "measure", version: "1.0.0", kiteKey });
}

async function stop(mesh: ChildProcess): Promise<void> {
  if (mesh.exitCode !== null || mesh.pid === undefined) return;
  const exited = once(mesh, "exit");
  // To the whole group, as Ctrl-C in a terminal does: npm, its shell and the mesh.
  process.kill(-mesh.pid, "SIGINT");
  const late = delay(STOP_LIMIT_MS, "late", { ref: false });
  if ((await Promise.race([exited, late])) === "late") process.kill(-mesh.pid, "SIGKILL");
}

function report(first: Started, warm: Started, processes: readonly ProcessMemory[]): void {
  const sum = (of: "rssBytes" | "pssBytes") => processes.reduce((total, process) => total + process[of], 0);
  const rows = [
    ["first start to a terminal", seconds(first.terminalMs), seconds(TARGETS.firstStartMs), first.terminalMs <= TARGETS.firstStartMs],
    ["warm start to a terminal", seconds(warm.terminalMs), seconds(TARGETS.warmStartMs), warm.terminalMs <= TARGETS.warmStartMs],
    ["idle memory (PSS)", megabytes(sum("pssBytes")), megabytes(TARGETS.idleBytes), sum("pssBytes") <= TARGETS.idleBytes],
  ] as const;
  console.log(`${"".padEnd(28)}${"measured".padStart(12)}${"target".padStart(12)}`);
  for (const [what, measured, target, met] of rows)
    console.log(`${what.padEnd(28)}${measured.padStart(12)}${`≤ ${target}`.padStart(12)}  ${met ? "met" : "MISSED"}`);
  console.log(
    `\nready message: first ${seconds(first.readyMs)}, warm ${seconds(warm.readyMs)}; sum of RSS ${megabytes(sum("rssBytes"))}, of which:`,
  );
  for (const { command, pssBytes, rssBytes } of [...processes].sort((a, b) => b.pssBytes - a.pssBytes)) {
    console.log(`  ${megabytes(pssBytes).padStart(9)} PSS ${megabytes(rssBytes).padStart(9)} RSS  ${command.slice(0, 90)}`);
  }
  if (rows.some(([, , , met]) => !met)) process.exitCode = 1;
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
const megabytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(1)} MB`;

await measure();
