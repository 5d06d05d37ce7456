import type { Command } from "commander";
import { EXIT } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { print } from "./output.ts";
import { connectTo, methodOf } from "./remote-kite.ts";
import { wholeNumber } from "./whole-number.ts";

/** The name of the hidden command; scripts that were printed long ago know it, so it stays. */
export const CANDIDATES = "__complete";

/** `kite __complete kites`, `methods <kite>`, `teams`, `machines` and `stacks`: what completion scripts ask while somebody types. */
export function addCandidatesCommand(program: Command): void {
  program
    .command(CANDIDATES, { hidden: true })
    .argument("<what>", "kites, methods, teams, machines or stacks")
    .argument("[kite]", "whose methods")
    // A person who has pressed Tab waits a second or two, not more.
    .option("--limit <ms>", "how long to look for them", "1500")
    // Scripts from before let the shell expand what they offer: for them a stranger's method called `$(…)` is left out.
    .option("--raw", "all names as they are, for a script that quotes them")
    .description("names for completion scripts, one on a line; none when they do not come at once")
    .action(candidates);
}

// An hour; a timer holds 24 days, and would end at once for more.
const MOST_MS = 3_600_000;

/** Never fails but for a flag that is none, and says nothing of what went wrong: it would end up in the line that is being typed. */
async function candidates(what: string, kite: string | undefined, options: { limit: string; raw?: boolean }): Promise<void> {
  const limit = setTimeout(() => process.exit(EXIT.ok), wholeNumber("--limit", options.limit, MOST_MS));
  try {
    const names = await namesOf(what, kite);
    for (const name of new Set(names.filter(options.raw ? isLine : isPlain).sort())) print(name);
  } catch {
    // Nothing to offer.
  } finally {
    clearTimeout(limit);
  }
}

function namesOf(what: string, kite: string | undefined): Promise<string[]> {
  if (what === "teams") return teamNames();
  if (what === "machines") return machineNames();
  if (what === "stacks") return stackNames();
  return what === "methods" && kite !== undefined ? methodNames(kite) : kiteNames();
}

async function teamNames(): Promise<string[]> {
  await using mesh = await openMesh();
  return (await mesh.kontrol.teams.list()).map(({ name }) => name);
}

async function machineNames(): Promise<string[]> {
  await using mesh = await openMesh();
  return (await mesh.kite.find({ name: "klient" })).map(({ kite }) => kite.hostname);
}

async function stackNames(): Promise<string[]> {
  await using mesh = await openMesh();
  return (await (await mesh.kloud()).stack.list()).map(({ name }) => name);
}

async function kiteNames(): Promise<string[]> {
  await using mesh = await openMesh();
  return (await mesh.kite.find({})).map(({ kite }) => kite.name);
}

/** The names of what a kite serves, as it gives them. */
export async function methodNames(query: string): Promise<string[]> {
  await using mesh = await openMesh();
  const answer = await methodOf(await connectTo(mesh, query), "kite.methods")();
  if (!Array.isArray(answer)) return [];
  const names = answer.map((entry: unknown) => (typeof entry === "object" && entry !== null ? (entry as { name?: unknown }).name : entry));
  return names.filter((name) => typeof name === "string");
}

function isPlain(name: string): boolean {
  return /^[\w.-]+$/.test(name);
}

function isLine(name: string): boolean {
  return name !== "" && !/\p{Cc}/u.test(name);
}
