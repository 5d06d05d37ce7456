import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

// More than this and the list no longer shows where to look first.
const SHOWN = 18;

/** Says for each process of a profiled run which functions it spent its time in, themselves, without those they called. */
export function printProfiles(folder: string): void {
  for (const side of readdirSync(folder).sort()) {
    // Names begin with the time, so the last one is of this run's last sitting.
    const newest = readdirSync(path.join(folder, side)).sort().at(-1);
    if (newest === undefined) continue;
    const file = path.join(folder, side, newest);
    console.log(`\n${side} (${file})`);
    for (const line of hottest(JSON.parse(readFileSync(file, "utf8")) as CpuProfile)) console.log(`  ${line}`);
  }
}

function hottest({ nodes, samples, timeDeltas }: CpuProfile): string[] {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const selfTime = new Map<string, number>();
  let busy = 0;
  samples.forEach((id, index) => {
    const name = names.get(id) ?? "?";
    if (name === "(idle)") return;
    const time = timeDeltas[index] ?? 0;
    busy += time;
    selfTime.set(name, (selfTime.get(name) ?? 0) + time);
  });
  const sorted = [...selfTime].sort(([, a], [, b]) => b - a).slice(0, SHOWN);
  return sorted.map(([name, time]) => `${((100 * time) / busy).toFixed(1).padStart(5)} %  ${name}`);
}

function nameOf({ functionName, url, lineNumber }: CpuProfile["nodes"][number]["callFrame"]): string {
  const file = path.relative(process.cwd(), url.replace("file://", ""));
  return url === "" ? functionName : `${functionName || "(anonymous)"}  ${file}:${lineNumber + 1}`;
}
