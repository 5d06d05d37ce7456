import type { KiteError } from "@kite-mesh/kite";
import { readOptions } from "./options.ts";

/** What the command exits with; `stale`: kontrol did not answer, and what was printed is of another time; `timeout`: as
 * timeout(1) has it. `exec` exits with the remote program's status, and with 255 when the way to it failed, as ssh does. */
export const EXIT = { ok: 0, error: 1, usage: 2, noMesh: 3, breaks: 4, stale: 5, timeout: 124, remoteLost: 255 } as const;

/** A failure that is the command's own: a sentence for people, and what to exit with. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.error, options: ErrorOptions = {}) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** One line, whatever was thrown: what was expected, what came, what to do. */
export function explain(thrown: unknown): { line: string; exitCode: number } {
  if (thrown instanceof Failure) return { line: oneLine(thrown.message), exitCode: thrown.exitCode };
  if (!isKiteError(thrown)) return { line: oneLine(thrown instanceof Error ? thrown.message : String(thrown)), exitCode: EXIT.error };
  // What did not run needs no look, and is said by its sentence.
  const hint = thrown.outcome === "not_run" ? undefined : HINTS[thrown.code];
  return { line: oneLine(hint === undefined ? thrown.message : `${thrown.message}; ${hint(readOptions().home)}`), exitCode: EXIT.error };
}

/** The library is loaded late, and perhaps not at all: its errors are known by their name. */
export function isKiteError(thrown: unknown): thrown is KiteError {
  return thrown instanceof Error && thrown.name === "KiteError";
}

export const LOOK_FIRST = "look what has happened before you repeat it";

const HINTS: Partial<Record<KiteError["code"], (home: string) => string>> = {
  unauthenticated: (home) => `the key in ${home} is not accepted there: set KITE_HOME to the folder of the mesh that you mean`,
  disconnected: () => LOOK_FIRST,
  deadline_exceeded: () => LOOK_FIRST,
};

/** The words may be a stranger's: without control characters they cannot steer the terminal. */
function oneLine(text: string): string {
  return text
    .split("\n")
    .map((line) => line.trim())
    .join(" ")
    .replaceAll(/\p{Cc}+/gu, " ")
    .trim();
}
