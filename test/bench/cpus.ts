import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import os from "node:os";

/**
 * Which CPUs the two processes of a side run on. `together` is for calls one after the other, where only one of the two is ever at
 * work: to wake an idle CPU takes a virtual machine up to 20 µs, more than most libraries, and a scheduler that puts both on one CPU now
 * and then would decide the comparison. `apart` is for all that both work on at the same time, `anywhere` leaves it to the system.
 */
export type Place = "together" | "apart" | "anywhere";

/** Puts the main threads of a client and its server there. Does nothing where {@link placement} says that it cannot. */
export function place(client: number, server: number, where: Place): void {
  const [first, second] = cpus;
  if (first === undefined || second === undefined) return;
  const all = cpus.join(",");
  const [clientOn, serverOn] = where === "anywhere" ? [all, all] : where === "together" ? [first, first] : [first, second];
  pin(client, clientOn);
  pin(server, serverOn);
}

/** How the processes are placed, for the head of the figures. */
export function placement(): string {
  return cpus.length >= 2
    ? "sequential calls with both processes on one CPU, all else with one CPU for each"
    : "processes where the system puts them: this needs Linux with taskset and two CPUs";
}

function pin(pid: number, on: number | string): void {
  execFileSync("taskset", ["-pc", String(on), String(pid)], { stdio: "ignore" });
}

/** Those that this process may use; none where processes cannot be put on one. */
const cpus = usable();

function usable(): number[] {
  if (os.platform() !== "linux") return [];
  try {
    execFileSync("taskset", ["--version"], { stdio: "ignore" });
  } catch {
    return [];
  }
  const [, list = ""] = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return list.split(",").flatMap((range) => {
    const [from = Number.NaN, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}
