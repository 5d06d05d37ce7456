import { statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";

/** What the environment says about a kite; whatever the program says itself goes first. */
export interface KiteEnvironment {
  /** Where the kite.key is: `KITE_HOME`, else the nearest `.kite` at or above the working directory, else `~/.kite`. */
  readonly home: string;
  /** `KITE_USERNAME` */
  readonly username: string | undefined;
  /** `KITE_ENVIRONMENT` */
  readonly environment: string | undefined;
  /** `KITE_REGION` */
  readonly region: string | undefined;
  /** `KITE_KONTROL_URL`: dialled instead of the address in the kite.key. */
  readonly kontrolUrl: string | undefined;
}

/**
 * Reads the environment; the only place in kite that does. A variable that is empty counts as not set.
 *
 * @example const { home, region = "local" } = readEnvironment();
 */
export function readEnvironment(
  env: Readonly<Record<string, string | undefined>> = process.env,
  cwd: string = process.cwd(),
): KiteEnvironment {
  return {
    home: env["KITE_HOME"] ? resolve(cwd, env["KITE_HOME"]) : (nearestHome(cwd) ?? join(homedir(), HOME)),
    username: env["KITE_USERNAME"] || undefined,
    environment: env["KITE_ENVIRONMENT"] || undefined,
    region: env["KITE_REGION"] || undefined,
    kontrolUrl: env["KITE_KONTROL_URL"] || undefined,
  };
}

const HOME = ".kite";

/** A mesh that was started in a checkout keeps its state there, and a second shell in any folder of it finds it without a setting. */
function nearestHome(from: string): string | undefined {
  const candidate = join(from, HOME);
  if (isDirectory(candidate)) return candidate;
  const parent = dirname(from);
  return parent === from ? undefined : nearestHome(parent);
}

/** A folder that may not be looked at counts as none. */
function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
