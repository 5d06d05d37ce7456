import { readFile, stat } from "node:fs/promises";
import type { ContractChange, KiteDescription } from "@kite-mesh/kite";
import type { Command } from "commander";
import { parseDescription } from "./description-file.ts";
import { EXIT, Failure } from "./failure.ts";
import { type Mesh, openMesh } from "./mesh.ts";
import { dim, green, json, plain, print, red } from "./output.ts";
import { connectTo, describe } from "./remote-kite.ts";

/** `kite compat`: what a new version of a kite would break for those who call the old one. */
export function addCompatCommand(program: Command): void {
  program
    .command("compat")
    .argument("<before>", "what callers know: a kite's name or path, or a file of kite docs --format json")
    .argument("<after>", "what they would meet: the same")
    .option("--json", "JSON on one line")
    .description("what a change of a kite's contract breaks for its callers")
    .addHelpText("after", COMPAT_HELP)
    .action(compat);
}

const COMPAT_HELP = `
What stands for a file is one when it is there, or when it ends in .json. Exit status: 0 nothing breaks, ${EXIT.breaks} something does.

Examples:
  kite docs math --format json -o math-1.2.json    # when 1.2 is released
  kite compat math-1.2.json math                   # before 1.3 is
  kite compat math@1.2 math@1.3 --json`;

async function compat(before: string, after: string, options: { json?: boolean }): Promise<void> {
  await using source = new Descriptions();
  const [was, is] = [await source.read(before), await source.read(after)];
  const { compareContracts } = await import("@kite-mesh/kite");
  const changes = compareContracts(was, is);
  const compatible = changes.every(({ breaking }) => !breaking);
  print(options.json ? json({ before: about(was), after: about(is), compatible, changes }) : report(was, is, changes));
  if (!compatible) process.exitCode = EXIT.breaks;
}

/** Files and running kites; the mesh is opened for the first kite, and closed with this. */
class Descriptions implements AsyncDisposable {
  #mesh: Mesh | undefined;

  async read(text: string): Promise<KiteDescription> {
    if (await isFile(text)) return readDescription(text);
    this.#mesh ??= await openMesh();
    await using remote = await connectTo(this.#mesh, text);
    return await describe(remote, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mesh?.[Symbol.asyncDispose]();
  }
}

async function isFile(text: string): Promise<boolean> {
  if (text.endsWith(".json")) return true;
  return stat(text).then(
    (found) => found.isFile(),
    () => false,
  );
}

async function readDescription(path: string): Promise<KiteDescription> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new Failure(`${path} cannot be read: ${cause.message}`, EXIT.usage, { cause });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Failure(`${path} should hold what kite docs --format json writes, and is not JSON: ${(cause as Error).message}`, EXIT.usage, {
      cause,
    });
  }
  return parseDescription(value, path);
}

function about({ kite, hash }: KiteDescription): object {
  return { name: kite.name, version: kite.version, hash };
}

function report(before: KiteDescription, after: KiteDescription, changes: readonly ContractChange[]): string {
  const names = dim(`${before.kite.name} ${before.kite.version} → ${after.kite.name} ${after.kite.version}`);
  if (changes.length === 0) return `${names}\n${green("✓")} the same contract`;
  const breaking = changes.filter((change) => change.breaking);
  const others = changes.filter((change) => !change.breaking);
  const verdict =
    breaking.length === 0
      ? `${green("✓")} nothing breaks; ${others.length} ${others.length === 1 ? "change" : "changes"}`
      : `${red("✗")} ${breaking.length} ${breaking.length === 1 ? "change breaks" : "changes break"} callers, ${others.length} ${others.length === 1 ? "does" : "do"} not`;
  const lines = [
    ...breaking.map((change) => `${red("breaks")}  ${line(change)}`),
    ...others.map((change) => `${dim("ok")}      ${line(change)}`),
  ];
  return [names, ...lines, verdict].join("\n");
}

/** Names in it are a stranger's. */
function line({ method, message }: ContractChange): string {
  return plain(`${method}: ${message}`);
}
