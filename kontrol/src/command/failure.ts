import { KiteError } from "@kite-mesh/kite";
import { CommanderError } from "commander";
import { NO_DATABASE } from "../database/database.ts";
import { WRONG_SETTING } from "../options.ts";
import { plain } from "./output.ts";

/** What the command exits with; as the `kite` command, for which 3 is a mesh that does not run. */
export const EXIT = { ok: 0, error: 1, usage: 2, noDatabase: 3 } as const;

/** By this reason an error is one of usage: nothing was tried. */
const WRONG_USE = "usage";

export function wrongUse(message: string): KiteError {
  return new KiteError("invalid_argument", message, { reason: WRONG_USE });
}

/** There was nothing to end. A script with a misspelt id would take it for done otherwise. */
export function nothingThere(message: string): KiteError {
  return new KiteError("not_found", message);
}

/** One line, whatever was thrown, and what to exit with; no line when it has been said already. */
export function explain(thrown: unknown): { line: string | undefined; exitCode: number } {
  // Help and versions come as errors, too.
  if (thrown instanceof CommanderError) return { line: undefined, exitCode: thrown.exitCode === 0 ? EXIT.ok : EXIT.usage };
  const { message, reason } = KiteError.from(thrown);
  const exitCode = EXITS[reason ?? ""] ?? EXIT.error;
  return { line: plain(message), exitCode };
}

const EXITS: Record<string, number> = { [WRONG_USE]: EXIT.usage, [WRONG_SETTING]: EXIT.usage, [NO_DATABASE]: EXIT.noDatabase };
