import { parseArgs } from "node:util";
import { bundle } from "../bundle.ts";
import { printProfiles } from "../profile.ts";
import { Bench, type Scenario } from "./bench.ts";
import { figuresOf, printFigures } from "./figures.ts";
import type { Sample } from "./outcome.ts";
import { beats } from "./scenarios/beats.ts";
import { changes } from "./scenarios/changes.ts";
import { departures } from "./scenarios/departures.ts";
import { large } from "./scenarios/large.ts";
import { queries } from "./scenarios/queries.ts";
import { registrations } from "./scenarios/registrations.ts";
import { relay } from "./scenarios/relay.ts";
import { revocation } from "./scenarios/revocation.ts";
import { tokens } from "./scenarios/tokens.ts";

const SCENARIOS: readonly Scenario[] = [registrations, beats, queries, changes, large, tokens, relay, departures, revocation];
const NAMES = SCENARIOS.map(({ name }) => name);

const USAGE = `npm run bench:registry -- [--only SCENARIO,…] [--rounds 3] [--ms 2000] [--kites 100000] [--watchers 10000]
                          [--postgres URL] [--without-etcd] [--json] [--profile FOLDER]

Measures kontrol on a PostgreSQL beside etcd, where both have the operation: every server and its clients in processes of
their own, both sides in every round, ratios within a round. Both databases run with their own settings and wait for the disk.
Scenarios: ${NAMES.join(", ")}.
--profile writes CPU profiles of every process to the folder.`;

const { values } = parseArgs({
  options: {
    only: { type: "string", default: NAMES.join(",") },
    rounds: { type: "string", default: "3" },
    ms: { type: "string", default: "2000" },
    kites: { type: "string", default: "100000" },
    watchers: { type: "string", default: "10000" },
    postgres: { type: "string" },
    "without-etcd": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    profile: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  console.log(USAGE);
} else {
  const figures = await run();
  if (values.json) console.log(JSON.stringify(figures, null, 2));
  else printFigures(figures);
  if (values.profile) printProfiles(values.profile);
}

async function run() {
  const rounds = wholeNumber("rounds", values.rounds);
  const asked = scenarios();
  await using bench = await Bench.start({
    program: await bundle("registry/process.ts"),
    profileFolder: values.profile,
    forMs: wholeNumber("ms", values.ms),
    kites: wholeNumber("kites", values.kites),
    watchers: wholeNumber("watchers", values.watchers),
    withEtcd: !values["without-etcd"],
    postgresUrl: values.postgres,
  });
  const samples: Sample[] = [];
  for (const scenario of asked) samples.push(...(await measured(bench, scenario, rounds)));
  return figuresOf(samples, bench.describe);
}

async function measured(bench: Bench, { name, open }: Scenario, rounds: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  try {
    const contenders = await open(bench);
    // Round 0 is for the optimiser, which has to see every path; it is not counted.
    for (let round = 0; round <= rounds; round++) {
      // Forth and back again: whoever comes first pays for a cold cache, and it is not always the same one.
      for (const contender of round % 2 === 1 ? contenders : contenders.toReversed()) {
        const outcome = await bench.measure(contender);
        if (round > 0) samples.push({ round, scenario: name, what: contender.what, side: contender.side, ...outcome });
      }
      if (process.stderr.isTTY) process.stderr.write(`${name}: round ${round} of ${rounds}\r`);
    }
    return samples;
  } finally {
    await bench.closeScenario();
  }
}

function scenarios(): Scenario[] {
  const asked = values.only.split(",").map((name) => name.trim());
  const unknown = asked.filter((name) => !NAMES.includes(name));
  if (unknown.length > 0) throw new Error(`--only knows ${NAMES.join(", ")}, and not ${unknown.join(", ")}`);
  return SCENARIOS.filter(({ name }) => asked.includes(name));
}

function wholeNumber(option: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${option} expects a whole number from 1, not ${text}`);
  return number;
}
