import { KiteError } from "@kite-mesh/kite";
import { banner } from "./banner.ts";
import { HELP, readOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { Scope } from "./scope.ts";
import { startMesh } from "./start.ts";

const INTERRUPTED = 130;
// A terminal sends Ctrl-C to everybody in it, and npm passes on what it got itself: nobody presses a key twice as fast.
const ECHO_MS = 300;

// Files and locks go too; only what a person knows by name is told.
const TOLD = ["gateway", "kloud", "machines", "kontrol", "postgres"];

/** `npm start`: starts the mesh, says so, and stops it when it is told to. Answers with the exit status. */
async function main(args: readonly string[]): Promise<number> {
  // A reader that has seen enough (`npm start | head -3`) is no failure, and ends no mesh.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  if (args.includes("--help") || args.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  if (args.length > 0) {
    console.error(`npm start: no arguments were expected, got ${args.join(" ")}; settings are variables, see npm start -- --help`);
    return 2;
  }
  const progress = new Progress();
  const scope = new Scope();
  const stopping = stopSignal(progress);
  let home: string | undefined;
  try {
    const options = readOptions();
    home = options.home;
    progress.title("Starting the mesh");
    const mesh = await startMesh({ options, progress, scope, signal: stopping });
    progress.say(banner(mesh, { home: options.home, cwd: process.cwd(), seconds: progress.elapsedMs / 1000 }));
    await aborted(stopping);
    return 0;
  } catch (cause) {
    if (stopping.aborted) return INTERRUPTED;
    console.error(`npm start: ${explain(cause, home)}`);
    return 1;
  } finally {
    await stop(scope, progress);
  }
}

/** Any step may be the one that fills the disk, and what the system says then names neither the place nor the way out. */
function explain(cause: unknown, home: string | undefined): string {
  const { message } = KiteError.from(cause);
  const isFull = ["ENOSPC", "EDQUOT"].includes((cause as NodeJS.ErrnoException | null)?.code ?? "");
  return isFull ? `there is no space left for KITE_HOME (${home}): ${message}; free some, or choose another folder` : message;
}

/** Aborted by the first Ctrl-C or SIGTERM; a second one ends the process at once, whatever is left. */
function stopSignal(progress: Progress): AbortSignal {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    firstMs ??= performance.now();
    controller.abort(new KiteError("cancelled", `${signal} was received`));
    if (performance.now() - firstMs < ECHO_MS) return;
    progress.say("Ended at once; what is left running is taken over by the next npm start.");
    process.exit(INTERRUPTED);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
  return controller.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    // Nothing else may hold the process when the last client is gone.
    const stay = setInterval(() => {}, 3_600_000);
    const leave = () => {
      clearInterval(stay);
      resolve();
    };
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
  });
}

async function stop(scope: Scope, progress: Progress): Promise<void> {
  let titled = false;
  await scope.close((what, ms, problem) => {
    if (problem === null && !TOLD.includes(what)) return;
    if (!titled) progress.title("\nStopping (Ctrl-C again ends at once)");
    titled = true;
    if (problem === null) progress.done(what, "stopped", ms);
    else progress.failed(what, problem);
  });
}

process.exitCode = await main(process.argv.slice(2));
