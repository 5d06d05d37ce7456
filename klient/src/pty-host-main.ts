import { PtyHost } from "./pty-host.ts";
import { loadPtyModule } from "./pty-module.ts";

/**
 * The process that owns the terminals; klient starts it with its state folder as the only argument, and waits for `ready`.
 * SIGTERM and SIGINT end it with all terminals. It has left klient's process group, and ignores hang-ups.
 */
async function main(folder: string | undefined): Promise<void> {
  if (folder === undefined) throw new Error("pty-host needs klient's state folder as its argument");
  const host = new PtyHost({
    folder,
    pty: loadPtyModule(),
    onEnd: (why) => {
      note(`ends: ${why}`);
      // The answer to a shutdown is still on its way through the socket; nothing else keeps the process.
      setTimeout(() => process.exit(0), 500).unref();
    },
  });
  process.on("SIGHUP", () => {});
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void host.close(signal).catch(crash));
  process.on("uncaughtException", crash);
  await host.listen();
  note(`terminals by ${host.library}`);
  process.stdout.write("ready\n");
}

/** Standard error goes to a file in the state folder. */
function note(line: string): void {
  process.stderr.write(`${new Date().toISOString()} pty-host ${process.pid}: ${line}\n`);
}

function crash(cause: unknown): void {
  note(`crashed: ${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}`);
  process.exit(1);
}

main(process.argv[2]).catch(crash);
