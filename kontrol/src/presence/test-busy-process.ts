import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { expect, onTestFinished, vi } from "vitest";
import { program } from "../../../test/programs.ts";

/** A kite in a process of its own. */
export interface BusyProcess {
  readonly process: ChildProcess;
  /** Keeps its event loop from turning for this long; afterwards it says "awake". */
  block(ms: number): void;
  /** Resolves when it has said the word. */
  says(word: "registered" | "awake"): Promise<void>;
}

// Loading it takes seconds where other tests run beside.
const LONG = { timeout: 30_000, interval: 50 };

/** Starts a kite named "busy" and waits until it is registered; it is killed at the end of the test. */
export async function startBusyProcess(kite: { id: string; kiteKey: string; kontrolUrl: string }): Promise<BusyProcess> {
  const child = spawn(process.execPath, [program("busy-kite")], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const heard: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => heard.push(line));
  const says = async (word: string) => void (await vi.waitFor(() => expect(heard).toContain(word), LONG));
  child.stdin.write(`${JSON.stringify(kite)}\n`);
  await says("registered");
  return { process: child, says, block: (ms) => void child.stdin.write(`${ms}\n`) };
}
