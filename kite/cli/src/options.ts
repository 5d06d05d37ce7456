import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";

export interface CliOptions {
  /** The folder with the kite.key. */
  home: string;
  /** Where the folder came from, for errors. */
  homeFrom: "KITE_HOME" | "checkout" | "user";
  /** Overrides the address in the key. */
  kontrolUrl: string | undefined;
}

/**
 * `$KITE_HOME`; or the nearest `.kite` with a kite.key in the working folder and above, so that the command works anywhere in
 * a checkout without a setting; or `~/.kite`.
 */
export function readOptions(env = process.env, cwd = process.cwd()): CliOptions {
  const kontrolUrl = env.KITE_KONTROL_URL || undefined;
  if (env.KITE_HOME) return { home: resolve(cwd, env.KITE_HOME), homeFrom: "KITE_HOME", kontrolUrl };
  const nearest = nearestHome(cwd);
  if (nearest !== null) return { home: nearest, homeFrom: "checkout", kontrolUrl };
  return { home: join(homedir(), ".kite"), homeFrom: "user", kontrolUrl };
}

/** Whether people asked for plain text: https://no-color.org. */
export function wantsColor(env = process.env): boolean {
  return !env.NO_COLOR && env.TERM !== "dumb";
}

function nearestHome(folder: string): string | null {
  const candidate = join(folder, ".kite");
  if (existsSync(join(candidate, "kite.key"))) return candidate;
  return dirname(folder) === folder ? null : nearestHome(dirname(folder));
}
