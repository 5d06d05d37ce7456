import { parseArgs } from "node:util";
import { bundle } from "./bundle.ts";
import { figuresOf, LOADS, type Load, printFigures, type Sample } from "./figures.ts";
import { type MemoryFigures, measureMemory, printMemory } from "./memory.ts";
import { printProfiles } from "./profile.ts";
import { SidePair } from "./side-pair.ts";
import { SIDE_NAMES, type SideName } from "./sides.ts";

const USAGE = `npm run bench -- [--only SIDE,…] [--sittings 3] [--rounds 3] [--ms 400] [--memory] [--json] [--profile FOLDER]

Measures each side in turn, round after round, so that noise of the machine falls on all alike. Ratios are taken within
a round and their median is shown. Each sitting starts all processes anew: two of the same program differ by a tenth.
--memory adds what idle connections cost and a million callbacks leave. --profile writes CPU profiles of every process to the folder.`;

const { values } = parseArgs({
  options: {
    only: { type: "string", default: SIDE_NAMES.join(",") },
    sittings: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    ms: { type: "string", default: "400" },
    memory: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    profile: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  console.log(USAGE);
} else {
  const { samples, memory } = await run();
  const figures = figuresOf(samples);
  if (values.json) {
    console.log(JSON.stringify({ ...figures, memory }, null, 2));
  } else {
    printFigures(figures);
    if (memory !== undefined) printMemory(memory);
  }
  if (values.profile) printProfiles(values.profile);
}

async function run(): Promise<{ samples: Sample[]; memory: MemoryFigures | undefined }> {
  const sittings = wholeNumber("sittings", values.sittings);
  const program = await bundle("process.ts");
  const samples: Sample[] = [];
  let memory: MemoryFigures | undefined;
  for (let sitting = 1; sitting <= sittings; sitting++) {
    const pairs: SidePair[] = [];
    try {
      // Forth and back again, here and below: whoever comes first pays for a cold cache, and it is not always the same one.
      for (const side of inTurn(sides(), sitting)) pairs.push(await SidePair.start(side, program, values.profile));
      samples.push(...(await sit(pairs, sitting)));
      if (values.memory && sitting === sittings) memory = await measureMemory(pairs);
    } finally {
      await Promise.all(pairs.map((pair) => pair.close()));
    }
  }
  return { samples, memory };
}

async function sit(pairs: readonly SidePair[], sitting: number): Promise<Sample[]> {
  const rounds = wholeNumber("rounds", values.rounds);
  const forMs = wholeNumber("ms", values.ms);
  // Long enough for the optimiser to have seen every path; not counted.
  for (const pair of pairs) await samplesOf(pair, 0, Math.max(forMs, 1000));
  const samples: Sample[] = [];
  for (let round = 1; round <= rounds; round++) {
    const counted = (sitting - 1) * rounds + round;
    for (const pair of inTurn(pairs, round)) samples.push(...(await samplesOf(pair, counted, forMs)));
    if (process.stderr.isTTY) process.stderr.write(`sitting ${sitting}, round ${round} of ${rounds}\r`);
  }
  return samples;
}

function inTurn<T>(all: readonly T[], turn: number): readonly T[] {
  return turn % 2 === 1 ? all : all.toReversed();
}

async function samplesOf(pair: SidePair, round: number, forMs: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (const workload of pair.workloads) {
    for (const load of Object.keys(LOADS) as Load[]) {
      // One stream fills the connection by itself.
      if (workload === "stream" && load === "loaded") continue;
      const measured = await pair.measure({ workload, inFlight: LOADS[load], forMs });
      samples.push({ round, side: pair.side, workload, load, ...measured });
    }
  }
  return samples;
}

function sides(): SideName[] {
  const asked = values.only.split(",").map((name) => name.trim());
  const unknown = asked.filter((name) => !SIDE_NAMES.some((side) => side === name));
  if (unknown.length > 0) throw new Error(`--only knows ${SIDE_NAMES.join(", ")}, and not ${unknown.join(", ")}`);
  return SIDE_NAMES.filter((side) => asked.includes(side));
}

function wholeNumber(option: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${option} expects a whole number from 1, not ${text}`);
  return number;
}
