import type { DirectoryKite, DirectoryWatch, Identity, Labels, Query, WatchEvent } from "@kite-mesh/kite";
import type { WhyFound } from "@kite-mesh/kontrol/contract";
import type { Command } from "commander";
import { addCallCommand } from "./call.ts";
import { EXIT, explain, Failure, isKiteError } from "./failure.ts";
import { keepList, keptList } from "./kept-list.ts";
import { type Mesh, type MeshPlace, meshPlace, openMesh } from "./mesh.ts";
import { clock, dim, isTerminal, json, note, print, table, when } from "./output.ts";
import { interrupted, stayAlive } from "./signals.ts";

/** `kite list`, `call` and `why`: what is in the mesh, and speaking to it. */
export function addKiteCommands(program: Command): void {
  program
    .command("list")
    .argument("[query]", "a name, name@version, or a path such as /alice/dev/math; left out: all")
    .option("--label <expression>", "only those for which it holds: gpu, !gpu, region=eu, zone!=b, load<0.7; may be repeated", another)
    .option("--wide", "labels as well")
    .option("--json", "JSON on one line; with --watch one line per event")
    .option("--watch", "go on with what changes")
    .description("kites that you may call, live; while kontrol does not answer those of its last answer, with exit status 5")
    .addHelpText("after", LIST_HELP)
    .action(list);
  addCallCommand(program);
  program
    .command("why")
    .argument("<kite>", "a kite's id or path, or a name, name@version, shorter path or machine's name for all that match")
    .option("--json", "JSON on one line; a list, unless an id was given")
    .description("whether a kite is there, and if not, since when and why; by name also those that left lately")
    .action(why);
  program.command("whoami").option("--json", "JSON on one line").description("who you are to this mesh").action(whoami);
}

const LIST_HELP = `
Labels are what kites say of themselves; of several expressions all have to hold. Those with < and > are quoted for the shell.

Examples:
  kite list math@^1.2
  kite list --label gpu --label region=eu --label 'load<0.7'
  kite list --wide --watch`;

interface ListOptions {
  label?: string[];
  wide?: boolean;
  json?: boolean;
  watch?: boolean;
}

function another(expression: string, given: string[] = []): string[] {
  return [...given, expression];
}

async function list(text: string | undefined, { label, ...options }: ListOptions): Promise<void> {
  const query = await labelledQuery(text ?? "", label);
  const place = await meshPlace();
  if (options.watch) {
    await using mesh = await openMesh();
    return await follow(mesh, mesh.kite.watch(query), options);
  }
  try {
    const kites = await askForList(place, query);
    print(options.json ? json(kites) : render(kites, options));
    await keepList(place, query, kites);
  } catch (thrown) {
    if (!isAway(thrown)) throw thrown;
    const kept = await keptList(place, query);
    if (kept === undefined) throw thrown;
    const { asOf, kites } = kept;
    print(options.json ? json(kites.map((found) => ({ ...found, asOf, stale: true }))) : render(kites, options));
    note(`kite: as of ${ago(asOf)}; kontrol does not answer: ${explain(thrown).line}`);
    process.exitCode = EXIT.stale;
  }
}

// kontrol answers from memory; who took the connection and says nothing for so long is not going to.
const ANSWER_LIMIT_MS = 5_000;

async function askForList({ kontrolUrl }: MeshPlace, query: Query): Promise<readonly DirectoryKite[]> {
  await using mesh = await openMesh();
  const limit = new AbortController();
  const late = setTimeout(() => limit.abort(), ANSWER_LIMIT_MS);
  try {
    for await (const event of mesh.kite.watch(query, { signal: limit.signal })) {
      if (event.type === "snapshot") return event.kites;
    }
  } finally {
    clearTimeout(late);
  }
  throw new Failure(`${kontrolUrl} took the connection, and did not answer in ${ANSWER_LIMIT_MS / 1000} s`, EXIT.noMesh);
}

async function queryOf(text: string): Promise<Query> {
  const { parseQuery } = await import("@kite-mesh/kite");
  return text === "" ? {} : parseQuery(text);
}

/** A mistake in an expression is told before anybody is asked, and is one of use. */
async function labelledQuery(text: string, labels: string[] | undefined): Promise<Query> {
  const query = await queryOf(text);
  if (labels === undefined) return query;
  const { matcher } = await import("@kite-mesh/kite");
  try {
    matcher({ labels });
  } catch (cause) {
    throw new Failure(`--label: ${(cause as Error).message}`, EXIT.usage, { cause });
  }
  return { ...query, labels };
}

function isAway(thrown: unknown): boolean {
  if (thrown instanceof Failure) return thrown.exitCode === EXIT.noMesh;
  return isKiteError(thrown) && ["unavailable", "disconnected", "deadline_exceeded"].includes(thrown.code);
}

async function follow(mesh: Mesh, events: DirectoryWatch, options: ListOptions): Promise<void> {
  const kites = new Map<string, DirectoryKite>();
  using _telling = tellWhenStale(events);
  interrupted(() => mesh.kite.close());
  // While kontrol is away nothing else holds the process: the library's waits let a program end that has nothing else to do.
  using _stay = stayAlive();
  for await (const event of events) {
    if (event.type === "snapshot") kites.clear();
    for (const found of event.type === "snapshot" ? event.kites : []) kites.set(found.kite.id, found);
    if (event.type === "registered") kites.set(event.kite.kite.id, event.kite);
    if (event.type === "gone") kites.delete(event.kite.id);
    if (options.json) print(json(event));
    // Home, then erase what is below: unlike a cleared screen this does not flicker.
    else if (isTerminal())
      print(`\x1b[H\x1b[J${render([...kites.values()], options)}\n\n${dim(`as of ${clock(Date.now())} · Ctrl-C ends`)}`);
    else for (const line of asLines(event)) print(line);
  }
}

/** Says on standard error when kontrol is lost, and when it is back: until then a list without changes looks like a quiet mesh. */
function tellWhenStale(events: DirectoryWatch): Disposable {
  let stale = true;
  let heard = false;
  const looking = setInterval(() => {
    if (events.stale && !stale) note(`kite: kontrol does not answer; this is as of ${clock(events.asOf ?? 0)}`);
    if (!events.stale && stale && heard) note("kite: kontrol is back");
    stale = events.stale;
    heard ||= !stale;
  }, 1_000);
  return { [Symbol.dispose]: () => clearInterval(looking) };
}

function asLines(event: WatchEvent): string[] {
  if (event.type === "snapshot") return event.kites.map(({ kite }) => `= ${path(kite)}`);
  return [event.type === "registered" ? `+ ${path(event.kite.kite)}` : `- ${path(event.kite)} (${event.reason})`];
}

/** Labels are for who asks about them: they may be long, and most kites have none. */
function render(kites: readonly DirectoryKite[], { wide = false }: ListOptions): string {
  if (kites.length === 0) return "no kites";
  const sorted = [...kites].sort((a, b) => path(a.kite).localeCompare(path(b.kite)));
  const rows = sorted.map(({ kite, role, labels, registeredAt }) => [
    kite.name,
    kite.version,
    kite.username,
    kite.hostname,
    kite.region,
    role,
    age(registeredAt),
    kite.id,
    ...(wide ? [labelsOf(labels)] : []),
  ]);
  return table(["NAME", "VERSION", "USER", "HOST", "REGION", "YOU ARE", "SINCE", "ID", ...(wide ? ["LABELS"] : [])], rows);
}

function labelsOf(labels: Labels): string {
  const names = Object.keys(labels).sort();
  return names.map((name) => `${name}=${labels[name]}`).join(" ");
}

function path(kite: Identity): string {
  return `/${kite.username}/${kite.environment}/${kite.name}/${kite.version}/${kite.region}/${kite.hostname}/${kite.id}`;
}

function age(since: number): string {
  const seconds = Math.max(0, Math.round((Date.now() - since) / 1000));
  const units = [
    [86_400, "d"],
    [3600, "h"],
    [60, "m"],
  ] as const;
  const unit = units.find(([size]) => seconds >= size);
  return unit === undefined ? `${seconds}s` : `${Math.floor(seconds / unit[0])}${unit[1]}`;
}

/** For people: "just now", "3 minutes ago". */
function ago(since: number): string {
  const seconds = Math.max(0, Math.round((Date.now() - since) / 1000));
  const units = [
    [86_400, "day"],
    [3600, "hour"],
    [60, "minute"],
    [1, "second"],
  ] as const;
  const unit = units.find(([size]) => seconds >= size);
  if (unit === undefined) return "just now";
  const count = Math.floor(seconds / unit[0]);
  return `${count} ${unit[1]}${count === 1 ? "" : "s"} ago`;
}

async function why(text: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const byId = await whyById(mesh, text);
  if (byId !== undefined) return print(options.json ? json(byId) : sentence(byId));
  const named = await whyByQuery(mesh, await queryOf(text));
  // Whoever misses a machine knows it by its own name, which its klient has as hostname.
  const answers = named.length === 0 && !/[/@]/.test(text) ? await whyByQuery(mesh, { hostname: text }) : named;
  if (answers.length === 0) {
    throw new Failure(`no kite that ${text} could mean is there, or has left within a week; kite list shows those that are there`);
  }
  // Most names mean one kite that is there and several that it took the place of.
  if (!options.json && answers.length > 1) note(`kite: ${text} means ${answers.length} kites; give one's id to ask for it alone`);
  print(options.json ? json(answers) : answers.map(sentence).join("\n"));
}

/** The one kite that is named by its id or its whole path. */
async function whyById({ kontrol }: Mesh, text: string): Promise<WhyFound | undefined> {
  const parts = text.split("/");
  if (parts.length !== 1 && parts.length !== WHOLE_PATH) return undefined;
  const id = parts.at(-1);
  const answer = id ? await kontrol.why({ id }) : undefined;
  return answer?.found ? answer : undefined;
}

/** Those that are there, then those that left, the last first. */
async function whyByQuery({ kite, kontrol }: Mesh, query: Query): Promise<WhyFound[]> {
  const found = await kite.find(query);
  const present = await Promise.all(found.slice(0, MOST_EXPLAINED).map(({ kite: { id } }) => kontrol.why({ id })));
  const departed = await kontrol.departed({ query }).catch((thrown: unknown) => {
    // A kontrol from before there was such a question.
    if (isKiteError(thrown) && thrown.code === "method_not_found") return [];
    // Those that are there are in kontrol's memory; those that left are in its database, which may be away.
    if (!isKiteError(thrown) || thrown.code !== "unavailable" || present.length === 0) throw thrown;
    note(`kite: ${explain(thrown).line}`);
    return [];
  });
  return [...present.filter((answer) => answer.found), ...departed];
}

// An empty text and seven names.
const WHOLE_PATH = 8;
// As many as kontrol tells of those that left.
const MOST_EXPLAINED = 20;

function sentence({ kite, state, at, reason }: WhyFound): string {
  return `${path(kite)} is ${state === "present" ? "there" : "gone"} since ${when(at)}: ${reason}`;
}

async function whoami(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const me = await mesh.kontrol.whoami();
  print(options.json ? json(me) : `${me.username}${me.admin ? ", an administrator" : ""} (${me.kind})`);
}
