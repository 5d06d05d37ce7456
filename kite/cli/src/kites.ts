import type { DirectoryKite, Identity, WatchEvent } from "@kite-mesh/kite";
import type { Command } from "commander";
import { addCallCommand } from "./call.ts";
import { Failure } from "./failure.ts";
import { type Mesh, openMesh } from "./mesh.ts";
import { dim, isTerminal, json, print, table } from "./output.ts";
import { interrupted, stayAlive } from "./signals.ts";

/** `kite list`, `call` and `why`: what is in the mesh, and speaking to it. */
export function addKiteCommands(program: Command): void {
  program
    .command("list")
    .argument("[query]", "a name, name@version, or a path such as /alice/dev/math", "")
    .option("--json", "JSON on one line; with --watch one line per event")
    .option("--watch", "go on with what changes")
    .description("kites that you may call, live")
    .action(list);
  addCallCommand(program);
  program
    .command("why")
    .argument("<id>", "a kite's id or path")
    .option("--json", "JSON on one line")
    .description("whether a kite is there, and if not, since when and why")
    .action(why);
  program.command("whoami").option("--json", "JSON on one line").description("who you are to this mesh").action(whoami);
}

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
