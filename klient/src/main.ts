import { KiteError, withoutCredentials } from "@kite-mesh/kite";
import { openLogger } from "@kite-mesh/kite/pino";
import { createKlient, endTerminals, KLIENT_VERSION } from "./klient.ts";
import { readOptions } from "./options.ts";

/**
 * klient as a program. SIGTERM and SIGINT stop the machine's part in the mesh with everything that it runs, terminals
 * included; SIGHUP ends klient alone, as does its crash: the terminals go on, and the next klient finds them.
 */
async function main(): Promise<void> {
  const giveUp = new AbortController();
  let stopWith: "keep" | "end" | undefined;
  const stopped = new Promise<void>((resolve) => {
    const stop = (terminals: "keep" | "end") => () => {
      stopWith ??= terminals;
      giveUp.abort(new KiteError("cancelled", "klient was told to end"));
      resolve();
      setTimeout(
        () => fail(new KiteError("deadline_exceeded", `ending took longer than ${MAX_ENDING_MS / 1000} s`)),
        MAX_ENDING_MS,
      ).unref();
    };
    process.on("SIGTERM", stop("end")).on("SIGINT", stop("end")).on("SIGHUP", stop("keep"));
  });

  const { logLevel, ...options } = readOptions();
  const log = openLogger({ level: logLevel, out: "stderr" });
  log.info({ version: KLIENT_VERSION, machine: options.machine, home: options.home }, "klient starts");
  const klient = await createKlient({ ...options, log, signal: giveUp.signal }).catch(async (cause) => {
    if (stopWith === "end") await endTerminals(options.home);
    throw cause;
  });
  await stopped;
  log.info({ terminals: stopWith === "end" ? "end" : "go on" }, "klient ends");
  await klient.close({ terminals: stopWith ?? "keep" });
}

function fail(cause: unknown): void {
  const error = KiteError.from(cause);
  // An unexpected error is a defect of ours: then the place matters.
  const shown = error.code === "internal" && cause instanceof Error ? (cause.stack ?? cause.message) : error.message;
  process.stderr.write(withoutCredentials(`${new Date().toISOString()} error klient ended: ${shown}\n`));
  process.exit(error.code === "cancelled" ? 0 : 1);
}

// Terminals and programs are killed after two seconds; whatever still waits then waits for nothing.
const MAX_ENDING_MS = 10_000;

process.on("uncaughtException", fail);
main().then(() => process.exit(0), fail);
