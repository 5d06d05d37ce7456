import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { KiteError } from "@kite-mesh/kite";
import type { ShellCommand } from "./pty-protocol.ts";

/** Whose machine this is: the user that klient runs as, and so everything that it starts. */
export interface MachineUser {
  username: string;
  home: string;
  shell: string;
  groups: string[];
  /** What programs get: a clean environment, without klient's own settings and credentials. */
  env: Record<string, string>;
}

/**
 * Reads the user from the system. `HOME` in the environment wins over the one in passwd, since a machine may be no more
 * than a folder; a user without an entry in passwd gets what can be found.
 */
export function machineUser(environment: Record<string, string>): MachineUser {
  const known = knownUser();
  const username = known?.username ?? environment.USER ?? String(process.getuid?.() ?? "unknown");
  const home = environment.HOME ?? known?.homedir ?? "/";
  const shell = usableShell([known?.shell, environment.SHELL, "/bin/bash", "/bin/sh"]);
  const env = { PATH: DEFAULT_PATH, LANG: "C.UTF-8", ...environment, HOME: home, USER: username, LOGNAME: username, SHELL: shell };
  return { username, home, shell, groups: groupNames(), env };
}

/** The user's login shell, as a terminal starts it. */
export function loginShell({ shell, home, env }: MachineUser): ShellCommand {
  return { file: shell, args: ["-l"], cwd: folderOrRoot(home), env: { ...env, TERM: "xterm-256color", COLORTERM: "truecolor" } };
}

/** What reads a command line. Not the login shell: the same command means the same on every machine. */
export function commandShell(): string {
  return usableShell(["/bin/bash"]);
}

/** Where programs start: the home, or the root when there is none (yet). */
export function folderOrRoot(path: string): string {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? path : "/";
}

/**
 * The home of any user of this machine.
 *
 * @throws {KiteError} `not_found`.
 */
export function homeOf(username: string): string {
  const line = linesOf("/etc/passwd").find((entry) => entry[0] === username);
  const home = line?.[5];
  if (home === undefined) throw new KiteError("not_found", `there is no user ${username} on this machine`);
  return home;
}

function knownUser(): { username: string; homedir: string; shell: string | null } | undefined {
  try {
    return userInfo();
  } catch {
    // A user id without an entry in passwd, as in a container.
    return undefined;
  }
}

function usableShell(candidates: (string | null | undefined)[]): string {
  const usable = candidates.find((shell): shell is string => typeof shell === "string" && isUsable(shell));
  return usable ?? "/bin/sh";
}

/** Accounts of services have a "shell" that only says no; a terminal on a machine needs a real one. */
function isUsable(shell: string): boolean {
  if (shell.endsWith("/nologin") || shell.endsWith("/false")) return false;
  try {
    accessSync(shell, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function groupNames(): string[] {
  const names = new Map(linesOf("/etc/group").map((entry) => [Number(entry[2]), entry[0] as string]));
  return [...new Set(process.getgroups?.() ?? [])].map((id) => names.get(id) ?? String(id));
}

function linesOf(path: string): string[][] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.split(":"));
  } catch {
    return [];
  }
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
