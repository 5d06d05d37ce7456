import { writeFile } from "node:fs/promises";
import type { KiteDescription } from "@kite-mesh/kite";
import { type Command, Option } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { openMesh } from "./mesh.ts";
import { harmless, isTerminal, note } from "./output.ts";
import { connectTo, describe } from "./remote-kite.ts";

const FORMATS = ["markdown", "asyncapi", "json"] as const;
type Format = (typeof FORMATS)[number];

/** `kite docs`: what a kite serves, for people and for programs. */
export function addDocsCommand(program: Command): void {
  program
    .command("docs")
    .argument("<kite>", "a name, name@version, or a path")
    .addOption(new Option("--format <format>", "what to write").choices(FORMATS).default("markdown"))
    .option("-o, --output <file>", "write it there instead of printing it")
    .description("what a kite serves: Markdown, AsyncAPI 3.0, or JSON for kite compat")
    .addHelpText("after", DOCS_HELP)
    .action(docs);
}

const DOCS_HELP = `
AsyncAPI is written as YAML, into a file that ends in .json as JSON.

Examples:
  kite docs math
  kite docs math@^1.2 --format asyncapi -o math.yaml
  kite docs math --format json -o math-1.2.json    # to compare a later version with: kite compat math-1.2.json math`;

async function docs(query: string, { format, ...options }: { format: Format; output?: string }): Promise<void> {
  await using mesh = await openMesh();
  const description = await describe(await connectTo(mesh, query), query);
  const text = await render(description, format, options.output?.endsWith(".json") ?? false);
  if (options.output === undefined) {
    process.stdout.write(isTerminal() ? harmless(text) : text);
    return;
  }
  const { output } = options;
  await writeFile(output, text).catch((cause: NodeJS.ErrnoException) => {
    throw new Failure(`the documentation cannot be written to ${output}: ${cause.message}`, EXIT.error, { cause });
  });
  note(`${description.kite.name} ${description.kite.version}: ${description.methods.length} methods in ${output}`);
}

/** Loaded when a format needs it: YAML is a tenth of a second that Markdown does not have to wait for. */
async function render(description: KiteDescription, format: Format, asJson: boolean): Promise<string> {
  if (format === "json") return `${JSON.stringify(description, null, 2)}\n`;
  if (format === "markdown") return (await import("./docs-markdown.ts")).markdown(description);
  const document = (await import("./docs-asyncapi.ts")).asyncapi(description);
  if (asJson) return `${JSON.stringify(document, null, 2)}\n`;
  const { stringify } = await import("yaml");
  return stringify(document, { aliasDuplicateObjects: false, lineWidth: 0 });
}
