import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { bundleKlient } from "../bundle.ts";
import { loadPtyModule } from "./pty-module.ts";
import { startTestKontrol, type TestKontrol } from "./test-kontrol.ts";

/**
 * Measures klient against a bare pty in one run, and prints the figures: throughput to the viewer's callback and the echo
 * of a keystroke, both through the relay, memory, and the time from start to registered.
 *
 *   npm run bench -w klient
 */
async function main(): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "klient-bench-"));
  const kontrol = await startTestKontrol();
  const { main: program } = await bundleKlient({ outDir: join(home, "bundle") });
  const klient = await startKlient(program, home, kontrol);
  try {
    const bare = await bareTerminal();
    const relayed = await relayedTerminal(kontrol);
    print("start to registered", `${klient.startMs.toFixed(0)} ms`);
    print("klient idle", `${residentMb(klient.process.pid)} MB`);
    await compareEcho(bare, relayed);
    await compareThroughput(bare, relayed);
    await measureTerminals(kontrol, relayed);
    bare.end();
  } finally {
    klient.process.kill("SIGTERM");
    await new Promise((resolve) => klient.process.once("exit", resolve));
    await kontrol[Symbol.asyncDispose]();
    rmSync(home, { recursive: true });
  }
}

interface Terminal {
  type(text: string): void;
  onOutput: (data: Uint8Array) => void;
  end(): void;
}

async function compareEcho(bare: Terminal, relayed: Terminal): Promise<void> {
  for (const [name, terminal] of [
    ["bare pty", bare],
    ["through klient and relay", relayed],
    ["bare pty", bare],
    ["through klient and relay", relayed],
  ] as const) {
    const times: number[] = [];
    terminal.type("stty -icanon; cat\r");
    await sleep(300);
    for (let index = 0; index < 1_000; index++) {
      const start = performance.now();
      await new Promise<void>((resolve) => {
        terminal.onOutput = () => resolve();
        terminal.type("x");
      });
      times.push(performance.now() - start);
      // Both the terminal's echo and cat's answer come; the second must not be taken for the next echo.
      await sleep(2);
    }
    times.sort((a, b) => a - b);
    print(`echo, ${name}`, `p50 ${times[500]?.toFixed(2)} ms, p99 ${times[990]?.toFixed(2)} ms`);
    terminal.type("\x03");
    await sleep(100);
    terminal.type("stty sane\r");
    await sleep(200);
  }
}

async function compareThroughput(bare: Terminal, relayed: Terminal): Promise<void> {
  const rates = new Map<string, number[]>();
  for (let round = 0; round < 3; round++) {
    for (const [name, terminal] of [
      ["bare pty", bare],
      ["through klient and relay", relayed],
    ] as const) {
      const { rate, bytes } = await flood(terminal);
      rates.set(name, [...(rates.get(name) ?? []), rate]);
      print(`output, ${name}`, `${rate.toFixed(1)} MB/s (${bytes} bytes)`);
    }
  }
  const best = [...rates.values()].map((values) => Math.max(...values));
  print("ratio of the best", ((best[1] ?? 0) / (best[0] ?? 1)).toFixed(2));
}

function flood(terminal: Terminal): Promise<{ rate: number; bytes: number }> {
  return new Promise((resolve) => {
    let bytes = 0;
    let start: number | undefined;
    let tail = "";
    terminal.onOutput = (data) => {
      start ??= performance.now();
      bytes += data.length;
      tail = (tail + Buffer.from(data).subarray(-40).toString("latin1")).slice(-40);
      if (tail.includes("E-N-D\r\n")) resolve({ bytes, rate: bytes / 1000 / (performance.now() - start) });
    };
    terminal.type("seq 1 6000000; echo E-N-'D'\r");
  });
}

async function measureTerminals(kontrol: TestKontrol, relayed: Terminal): Promise<void> {
  let text = "";
  relayed.onOutput = (data) => {
    text += Buffer.from(data);
  };
  relayed.type("echo pid $PPID\r");
  await sleep(300);
  const host = Number(/pid (\d+)\r\n/.exec(text)?.[1]);
  const before = residentMb(host);
  for (let index = 0; index < 15; index++) {
    const remote = { output: () => {}, sessionEnded: () => {} };
    const session = await kontrol.connect().webterm.connect({ sizeX: 80, sizeY: 24, remote });
    await session.input("seq 1 10000\r");
  }
  await sleep(3_000);
  const after = residentMb(host);
  print("pty-host", `${before} MB with one terminal, ${after} MB with 16; ${((after - before) / 15).toFixed(1)} MB each`);
}

async function bareTerminal(): Promise<Terminal> {
  const pty = loadPtyModule().module.spawn("/bin/sh", [], {
    name: "xterm-256color",
    cols: 80,
    rows: 24,
    cwd: "/",
    env: { PATH: "/usr/bin:/bin" },
    encoding: null,
  });
  const terminal: Terminal = {
    type: (text) => (pty as unknown as { write(text: string): void }).write(text),
    onOutput: () => {},
    end: () => process.kill(pty.pid, "SIGKILL"),
  };
  (pty as unknown as { onData(listener: (data: Buffer) => void): void }).onData((data) => terminal.onOutput(data));
  await sleep(200);
  return terminal;
}

async function relayedTerminal(kontrol: TestKontrol): Promise<Terminal> {
  const terminal: Terminal = { type: () => {}, onOutput: () => {}, end: () => {} };
  const remote = { output: (data: Uint8Array | string) => terminal.onOutput(data as Uint8Array), sessionEnded: () => {} };
  const session = await kontrol.connect().webterm.connect({ sizeX: 80, sizeY: 24, remote });
  terminal.type = (text) => void session.input(text);
  await sleep(500);
  return terminal;
}

async function startKlient(program: string, home: string, kontrol: TestKontrol): Promise<{ process: ChildProcess; startMs: number }> {
  const start = performance.now();
  const env = {
    KITE_HOME: join(home, ".kite"),
    KITE_MACHINE: "bench",
    KITE_KONTROL_URL: kontrol.url,
    KITE_JOIN_TOKEN: kontrol.joinToken,
    HOME: home,
    PATH: "/usr/bin:/bin",
  };
  const child = spawn(process.execPath, [program], { env, stdio: ["ignore", "ignore", "pipe"] });
  await new Promise<void>((resolve) => child.stderr?.on("data", (chunk: Buffer) => chunk.includes("registered") && resolve()));
  const startMs = performance.now() - start;
  await sleep(1_000);
  return { process: child, startMs };
}

function residentMb(pid: number | undefined): number {
  const kilobytes = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Math.round(Number(kilobytes) / 1024);
}

function print(what: string, figure: string): void {
  process.stdout.write(`${what.padEnd(36)} ${figure}\n`);
}

await main();
