import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { dirname, sep } from "node:path";
import { promisify } from "node:util";

/** How a machine is kept apart from the host. Neither of them is a security boundary. */
export type Rung = "process" | "bubblewrap";

export interface Sandbox {
  /** What the template asked for; `auto` takes the best that works here. */
  readonly isolation: "auto" | Rung;
  readonly home: string;
  readonly machinesDir: string;
  readonly hostname: string;
  /** Files and folders of the host that machines must not see, such as the keys of the mesh. Those that are missing are skipped. */
  readonly hidden: readonly string[];
  /** Files that the klient is made of; they must stay visible. */
  readonly programs: readonly string[];
}

/** What this host allows: found out once, by trying. */
export type Isolation = { readonly bwrap: string } | { readonly bwrap: null; readonly reason: string };

/** Tries bubblewrap with the arguments that machines get. */
export async function probeIsolation(bwrap: string, machinesDir: string, path: string): Promise<Isolation> {
  const sandbox: Sandbox = {
    isolation: "bubblewrap",
    home: machinesDir,
    machinesDir: dirname(machinesDir),
    hostname: "probe",
    hidden: [],
    programs: [],
  };
  try {
    await promisify(execFile)(bwrap, [...bwrapArguments(sandbox), "true"], { timeout: PROBE_MS, env: { PATH: path } });
    return { bwrap };
  } catch (thrown) {
    const { code, stderr = "" } = thrown as { code?: unknown; stderr?: string };
    const said = stderr.trim().split("\n").at(-1) ?? "";
    return {
      bwrap: null,
      reason: code === "ENOENT" ? "bwrap is not installed" : `bwrap does not work here${said === "" ? "" : `: ${said}`}`,
    };
  }
}

/** The rung that a machine gets here. @throws when the template insists on one that does not work. */
export function chooseRung(wanted: Sandbox["isolation"], isolation: Isolation): Rung {
  if (wanted !== "bubblewrap") return wanted === "auto" && isolation.bwrap !== null ? "bubblewrap" : "process";
  if (isolation.bwrap !== null) return "bubblewrap";
  throw new Error(`isolation "bubblewrap" was asked for, and ${isolation.reason}; install bubblewrap, or ask for "auto" or "process"`);
}

/** The command line that runs `command` on a rung. */
export function isolate(rung: Rung, isolation: Isolation, sandbox: Sandbox, command: readonly string[]): readonly string[] {
  if (rung === "process" || isolation.bwrap === null) return command;
  return [isolation.bwrap, ...bwrapArguments(sandbox), ...command];
}

/** One sentence for people. */
export function describeIsolation(isolation: Isolation): string {
  const weak = "not a security boundary";
  if (isolation.bwrap !== null) return `rung 2 of 3, bubblewrap: the host's files read-only, a home and processes of its own (${weak})`;
  return `rung 3 of 3, plain child processes in folders of their own, because ${isolation.reason} (${weak})`;
}

const PROBE_MS = 10_000;

/** Without `--die-with-parent`: machines live on when the mesh is killed, and are found again. */
function bwrapArguments({ home, machinesDir, hostname, hidden, programs }: Sandbox): string[] {
  const inTmp = programs.some((path) => path.startsWith(`${sep}tmp${sep}`));
  return [
    ...["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"],
    // A private /tmp, unless the klient's own files lie there.
    ...(inTmp ? ["--bind", "/tmp", "/tmp"] : ["--tmpfs", "/tmp"]),
    ...hidden.flatMap(maskArguments),
    // The other machines' folders are out of sight.
    ...["--tmpfs", machinesDir, "--bind", home, home, "--chdir", home],
    ...["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", hostname, "--"],
  ];
}

/** An empty folder in place of a folder; in place of a file a device, which nobody in the sandbox may open. */
function maskArguments(path: string): string[] {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return [];
  return found.isDirectory() ? ["--tmpfs", path] : ["--ro-bind", "/dev/null", path];
}
