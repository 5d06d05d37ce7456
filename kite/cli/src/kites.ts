import type { DirectoryKite, Identity, WatchEvent } from "@kite-mesh/kite";
import type { Command } from "commander";
import { readArguments } from "./arguments.ts";
import { EXIT, Failure, isKiteError } from "./failure.ts";
import { type Mesh, openMesh } from "./mesh.ts";
import { dim, isTerminal, json, pretty, print, table } from "./output.ts";
import { interrupted } from "./signals.ts";

/** `kite list`, `call` and `why`: what is in the mesh, and speaking to it. */
export function addKiteCommands(program: Command): void {
  program
    .command("list")
    .argument("[query]", "a name, name@version, or a path such as /alice/dev/math", "")
    .option("--json", "JSON on one line; with --watch one line per event")
    .option("--watch", "go on with what changes")
    .description("kites that you may call, live")
    .action(list);
  program
    .command("call")
    .argument("<kite>", "a name, name@version, or a path")
    .argument("<method>", "such as square or fs.readFile")
    .argument("[args...]", "JSON, @file, - for standard input, or plain words")
    .option("--timeout <seconds>", "give up after so long", "60")
    .description("call a method and print its result")
    .addHelpText("after", CALL_EXAMPLES)
    .allowUnknownOption(false)
    .passThroughOptions()
    .action(call);
  program
    .command("why")
    .argument("<id>", "a kite's id or path")
    .option("--json", "JSON on one line")
    .description("whether a kite is there, and if not, since when and why")
    .action(why);
  program.command("whoami").option("--json", "JSON on one line").description("who you are to this mesh").action(whoami);
}

const CALL_EXAMPLES = `
Examples:
  kite call math square 12
  kite call math@^1.2 add 1 2
  kite call klient fs.readDirectory '{"path": "/tmp"}'
  kite call kloud stack.plan @request.json`;

async function list(text: string, options: { json?: boolean; watch?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const { parseQuery } = await import("@kite-mesh/kite");
  const query = text === "" ? {} : parseQuery(text);
  if (options.watch) return await follow(mesh, mesh.kite.watch(query), options.json ?? false);
  for await (const event of mesh.kite.watch(query)) {
    if (event.type !== "snapshot") continue;
    print(options.json ? json(event.kites) : render(event.kites));
    return;
  }
}

async function follow(mesh: Mesh, events: AsyncIterable<WatchEvent>, asJson: boolean): Promise<void> {
  const kites = new Map<string, DirectoryKite>();
  interrupted(() => mesh.kite.close());
  // While kontrol is away nothing else holds the process: the library's waits let a program end that has nothing else to do.
  using _stay = stayAlive();
  for await (const event of events) {
    if (event.type === "snapshot") kites.clear();
    for (const found of event.type === "snapshot" ? event.kites : []) kites.set(found.kite.id, found);
    if (event.type === "registered") kites.set(event.kite.kite.id, event.kite);
    if (event.type === "gone") kites.delete(event.kite.id);
    if (asJson) print(json(event));
    // Home, then erase what is below: unlike a cleared screen this does not flicker.
    else if (isTerminal())
      print(`\x1b[H\x1b[J${render([...kites.values()])}\n\n${dim(`as of ${new Date().toLocaleTimeString()} · Ctrl-C ends`)}`);
    else for (const line of asLines(event)) print(line);
  }
}

function stayAlive(): Disposable {
  const timer = setInterval(() => {}, 3_600_000);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

function asLines(event: WatchEvent): string[] {
  if (event.type === "snapshot") return event.kites.map(({ kite }) => `= ${path(kite)}`);
  return [event.type === "registered" ? `+ ${path(event.kite.kite)}` : `- ${path(event.kite)} (${event.reason})`];
}

function render(kites: readonly DirectoryKite[]): string {
  if (kites.length === 0) return "no kites";
  const sorted = [...kites].sort((a, b) => path(a.kite).localeCompare(path(b.kite)));
  const rows = sorted.map(({ kite, role, registeredAt }) => [
    kite.name,
    kite.version,
    kite.username,
    kite.hostname,
    kite.region,
    role,
    age(registeredAt),
    kite.id,
  ]);
  return table(["NAME", "VERSION", "USER", "HOST", "REGION", "YOU ARE", "SINCE", "ID"], rows);
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

async function call(name: string, method: string, words: string[], options: { timeout: string }): Promise<void> {
  const timeoutMs = Number(options.timeout) * 1000;
  if (!(timeoutMs > 0)) throw new Failure(`--timeout should be a number of seconds, and is "${options.timeout}"`, EXIT.usage);
  const args = await readArguments(words);
  await using mesh = await openMesh();
  const { callWith, parseQuery } = await import("@kite-mesh/kite");
  const query = parseQuery(name);
  const remote = await mesh.kite.connect<Callable>(query).catch((cause: unknown) => unknownKite(mesh, name, query.name ?? "", cause));
  const signal = interrupted(() => {});
  const target = walk(callWith(remote, { timeoutMs, signal }), method);
  await printResult(await target(...args));
}

/** A kite whose methods nobody told us about: whatever is asked for is tried. */
interface Callable {
  [name: string]: ((...args: unknown[]) => Promise<unknown>) & Callable;
}

function walk(remote: Callable, method: string): (...args: unknown[]) => Promise<unknown> {
  const steps = method.split(".");
  if (steps.some((step) => step === ""))
    throw new Failure(`a method is a name such as square or fs.readFile, and "${method}" is not`, EXIT.usage);
  return steps.reduce<Callable>((at, step) => at[step] as Callable, remote) as unknown as (...args: unknown[]) => Promise<unknown>;
}

async function printResult(result: unknown): Promise<void> {
  if (result instanceof Uint8Array && !isTerminal()) {
    process.stdout.write(result);
  } else if (isStream(result)) {
    for await (const item of result) print(pretty(item));
  } else if (result !== undefined) {
    print(pretty(result));
  }
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

async function unknownKite(mesh: Mesh, text: string, name: string, cause: unknown): Promise<never> {
  if (!isKiteError(cause) || cause.code !== "not_found") throw cause;
  const names = [...new Set((await mesh.kite.find({})).map(({ kite }) => kite.name))].sort();
  const { nearest } = await import("@kite-mesh/kite");
  const guess = nearest(name, names);
  const hint = names.includes(name)
    ? "kites with that name are there, but in another version or place; see kite list"
    : guess === undefined
      ? "see kite list"
      : `did you mean ${guess}?`;
  throw new Failure(`no kite matches ${text}; ${hint}`, EXIT.error, { cause });
}

async function why(text: string, options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const id = text.split("/").at(-1) ?? text;
  const answer = await mesh.kontrol.why({ id });
  if (options.json) return print(json(answer));
  if (!answer.found)
    throw new Failure(`no kite with the id ${id} was seen here, or it is too long ago; kite list shows those that are there`);
  const since = new Date(answer.at).toLocaleString();
  print(
    answer.state === "present"
      ? `${path(answer.kite)} is there since ${since}`
      : `${path(answer.kite)} is gone since ${since}: ${answer.reason}`,
  );
}

async function whoami(options: { json?: boolean }): Promise<void> {
  await using mesh = await openMesh();
  const me = await mesh.kontrol.whoami();
  print(options.json ? json(me) : `${me.username}${me.admin ? ", an administrator" : ""} (${me.kind})`);
}
