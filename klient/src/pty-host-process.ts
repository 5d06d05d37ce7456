import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { KiteError } from "@kite-mesh/kite";

const PROGRAMS: Readonly<Record<string, string>> = { ".ts": "./pty-host-main.ts", ".mjs": "./pty-host.mjs" };

/** The pty-host's program: beside this file, as source, built or bundled. */
export const PTY_HOST_PROGRAM = fileURLToPath(new URL(PROGRAMS[extname(import.meta.url)] ?? "./pty-host.js", import.meta.url));

/**
 * Starts the pty-host as a process of its own, which stays when this one ends, and resolves when it can be reached.
 * What it says goes to `pty-host.log` in the state folder, begun anew each time.
 *
 * @throws {KiteError} `unavailable` when it ends before it is ready, or is not ready in time.
 */
export async function startPtyHost({
  folder,
  program,
  env,
}: {
  folder: string;
  program: string;
  env: Record<string, string>;
}): Promise<void> {
  const log = openSync(join(folder, "pty-host.log"), "w", 0o600);
  const child = spawn(process.execPath, [...loaderFor(program), program, folder], {
    // Its own process group and no terminal: neither Ctrl-C nor a hang-up of klient's reaches it.
    detached: true,
    cwd: "/",
    env,
    stdio: ["ignore", "pipe", log],
  });
  closeSync(log);
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) =>
        reject(new KiteError("unavailable", `the process that holds the terminals ${why}; see ${join(folder, "pty-host.log")}`));
      timer = setTimeout(() => fail(`was not ready after ${READY_MS / 1000} s`), READY_MS);
      child.once("error", (cause) => fail(`could not be started: ${cause.message}`));
      child.once("exit", (status, signal) => fail(`ended at once with ${signal ?? `status ${status}`}`));
      child.stdout?.once("data", () => resolve());
    });
  } catch (cause) {
    child.kill("SIGKILL");
    throw cause;
  } finally {
    clearTimeout(timer);
    child.removeAllListeners();
    child.on("error", () => {});
    child.stdout?.destroy();
    child.unref();
  }
}

/** A source file needs the loader that runs TypeScript. */
function loaderFor(program: string): string[] {
  if (!program.endsWith(".ts")) return [];
  return ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];
}

// Some hundred milliseconds on an idle machine; a machine that boots is not idle.
const READY_MS = 15_000;
