import { readFileSync } from "node:fs";
import { Command } from "commander";
import { addAuditCommand } from "./audit.ts";
import { addCompletionCommand } from "./completion.ts";
import { EXIT, explain } from "./failure.ts";
import { addGrantCommands } from "./grants.ts";
import { addKeyCommands } from "./keys.ts";
import { note } from "./output.ts";
import { addPersonCommands } from "./people.ts";
import { addServeCommands } from "./serve.ts";
import { addTeamCommands } from "./teams.ts";

/** The `kontrol` command: parses, runs, and turns whatever goes wrong into one line and an exit status. */
export async function runProgram(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`kontrol audit | head -1`) is no failure.
  process.stdout.on("error", (cause: NodeJS.ErrnoException) => process.exit(cause.code === "EPIPE" ? EXIT.ok : EXIT.error));
  try {
    await createProgram().parseAsync([...argv]);
  } catch (thrown) {
    const { line, exitCode } = explain(thrown);
    if (line !== undefined) note(`kontrol: ${line}`);
    process.exitCode = exitCode;
  }
}

/** All commands with their help; nothing is run or opened by making it. */
export function createProgram(): Command {
  const program = new Command("kontrol")
    .description("Registry, token issuer, people and relay of a mesh.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "kontrol: ").replaceAll("\n(", " (")) })
    .addHelpText("after", HELP);
  addServeCommands(program);
  addKeyCommands(program);
  addPersonCommands(program);
  addTeamCommands(program);
  addGrantCommands(program);
  addAuditCommand(program);
  addCompletionCommand(program);
  for (const command of program.commands) inherit(command, program);
  return program;
}

const HELP = `
Examples:
  kontrol init alice
  kontrol serve --port 4000
  kontrol person add bob
  kontrol key issue bob --out bob/kite.key
  kontrol grant add alice klient bob --role operator --until 8h
  kontrol audit --actor alice

All but serve and completion work on the database alone, beside kontrols that run or without any. KONTROL_DATABASE_URL names it; every
setting is a variable as well as a flag, and the flag wins (a password in a flag can be read by everybody on the machine). Exit status:
0 done, 1 failed, 2 used wrongly or a setting that cannot be, 3 the database does not answer.`;

/** Commands of commands do not get settings that were made before them. */
function inherit(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  for (const inner of command.commands) inherit(inner, command);
}

function version(): string {
  // Beside dist/ when it is built, two folders up in the sources.
  const manifest = new URL(import.meta.url.endsWith(".ts") ? "../../package.json" : "../package.json", import.meta.url);
  return (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
}
