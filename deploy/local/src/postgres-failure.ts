import { KiteError } from "@kite-mesh/kite";

/**
 * Turns the output of a postgres program that failed into one sentence. Its own messages are good, but the telling one
 * stands among others, and none of them knows what to do about it here.
 */
export function explainFailure(program: "postgres" | "initdb", dataDir: string, output: string): KiteError {
  const line = tellingLine(output);
  const hint = HINTS.find(([pattern]) => pattern.test(output))?.[1] ?? "the whole output is in server.log in that folder, if it was made";
  return new KiteError("unavailable", `${program} failed on ${dataDir}: ${line}; ${hint}`);
}

/** The same for what `mkdir`, `rename` and their like throw. */
export function explainFileError(cause: unknown, dataDir: string): KiteError {
  if (!(cause instanceof Error) || !("syscall" in cause)) return KiteError.from(cause);
  const { code, message } = cause as NodeJS.ErrnoException;
  const hint = HINTS.find(([pattern]) => pattern.test(`${code} ${message}`))?.[1] ?? "choose another folder with KITE_HOME";
  return new KiteError("unavailable", `PostgreSQL's folder ${dataDir} cannot be made: ${message}; ${hint}`, { cause });
}

const HINTS: readonly (readonly [RegExp, string])[] = [
  [/No space left|ENOSPC|disk quota|EDQUOT/i, "free some disk space, or choose another folder with KITE_HOME"],
  [/Read-only file system|EROFS/i, "choose a folder that can be written with KITE_HOME"],
  [
    /Permission denied|EACCES|EPERM|could not access directory|wrong ownership/i,
    "give the folder to the user that runs the mesh, or choose another one with KITE_HOME (as root, where neither unshare nor setpriv of util-linux works, the server runs as uid 65534, which must be able to reach it and this checkout)",
  ],
  [/could not create shared memory segment|could not resize shared memory/i, "give the machine more shared memory (/dev/shm)"],
  [/could not look up effective user ID/i, "run as a user that has an entry in /etc/passwd"],
  [
    /invalid checkpoint record|could not locate a valid checkpoint/i,
    "the data is damaged: restore a copy, or move the folder away to start empty",
  ],
];

// A sentence, not a page: whoever wants the rest finds it in the log.
const MESSAGE_LIMIT = 400;

function tellingLine(output: string): string {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  const telling = lines.findLast((line) => /(FATAL|PANIC):|: error:|error while loading/.test(line)) ?? lines.join(" ");
  return (
    telling
      .replace(/^.*?(FATAL|PANIC|error):\s+/, "")
      .trim()
      .slice(0, MESSAGE_LIMIT) || "it said nothing"
  );
}
