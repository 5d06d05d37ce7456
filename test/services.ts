import { accessSync, constants } from "node:fs";
import path from "node:path";
import { describe } from "vitest";

/** The real servers and tools that some suites need, and that a laptop may lack, with the names of their programs. */
const PROGRAMS = {
  bubblewrap: ["bwrap"],
  "nats-server": ["nats-server"],
  "redis-server": ["redis-server"],
  chromium: ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"],
} as const;
export type Service = keyof typeof PROGRAMS;
export const SERVICES = Object.keys(PROGRAMS) as Service[];

// Debian puts servers here, and leaves it out of the PATH of ordinary users.
const ALSO_IN = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** Where a service's program is on this machine, or undefined. */
export function findService(service: Service): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(path.delimiter), ...ALSO_IN].filter(Boolean);
  const candidates = PROGRAMS[service].flatMap((program) => folders.map((folder) => path.join(folder, program)));
  return candidates.find(isExecutable);
}

/**
 * A suite that needs real servers. Without them it is skipped, and the summary says so by its name; where `CI` is set a
 * missing server is a failure, so that a suite cannot quietly stop running.
 */
export function describeWith(needed: Service, title: string, suite: (program: string) => void): void {
  const program = findService(needed);
  if (program === undefined && process.env["CI"])
    throw new Error(`"${title}" needs ${needed}, which is not on this machine; with CI set it must be`);
  describe.skipIf(program === undefined)(title, () => suite(program ?? needed));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
