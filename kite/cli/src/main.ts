import { Command, CommanderError } from "commander";
import { addApproveCommand } from "./approve.ts";
import { addAuditCommand } from "./audit.ts";
import { addCandidatesCommand } from "./candidates.ts";
import { addCompatCommand } from "./compat.ts";
import { addCompletionCommand } from "./completion.ts";
import { addDocsCommand } from "./docs.ts";
import { EXIT, explain } from "./failure.ts";
import { addGitlabCommands } from "./gitlab.ts";
import { addGrantCommands } from "./grants.ts";
import { addHelpCommand, fitted } from "./help.ts";
import { addKeyCommands } from "./keys.ts";
import { addKiteCommands } from "./kites.ts";
import { addLoginCommand } from "./login.ts";
import { addLogoutCommand } from "./logout.ts";
import { addMachineCommands } from "./machines.ts";
import { addNewCommand } from "./new-kite.ts";
import { note } from "./output.ts";
import { addPasswordCommand } from "./password.ts";
import { addPeopleCommands } from "./people.ts";
import { addReplCommand } from "./repl.ts";
import { addStackCommands } from "./stacks.ts";
import { addTeamCommands } from "./teams.ts";
import { VERSION } from "./version.ts";

/** The `kite` command: parses, runs, and turns whatever goes wrong into one line and an exit status. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`kite list | head -1`) is no failure.
  process.stdout.on("error", (cause: NodeJS.ErrnoException) => process.exit(cause.code === "EPIPE" ? EXIT.ok : EXIT.error));
  try {
    await createProgram().parseAsync([...argv]);
  } catch (cause) {
    if (cause instanceof CommanderError) {
      process.exitCode = cause.exitCode === 0 ? EXIT.ok : EXIT.usage;
      return;
    }
    const { line, exitCode } = explain(cause);
    // After Ctrl-C everything that was under way fails; the status is set, and there is nothing to tell.
    if (process.exitCode !== undefined && Number(process.exitCode) > 128) return;
    note(`kite: ${line}`);
    process.exitCode = exitCode;
  }
}

/** Every noun adds its commands. Nothing heavy is loaded here: what a command needs, it imports when it runs. */
export function createProgram(): Command {
  const program = new Command("kite")
    .description("Kites, machines, stacks and people of a mesh.")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand(false)
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => process.stdout.write(fitted(text, process.stdout.columns)),
      writeErr: (text) => process.stderr.write(fitted(text, process.stderr.columns)),
      outputError: (text, write) => write(text.replace(/^error: /, "kite: ").replaceAll("\n(", " (")),
    })
    .addHelpText("after", HELP);
  addKiteCommands(program);
  addReplCommand(program);
  addDocsCommand(program);
  addCompatCommand(program);
  addNewCommand(program);
  addMachineCommands(program);
  addStackCommands(program);
  addPeopleCommands(program);
  addTeamCommands(program);
  addGrantCommands(program);
  addKeyCommands(program);
  addAuditCommand(program);
  addLoginCommand(program);
  addApproveCommand(program);
  addLogoutCommand(program);
  addPasswordCommand(program);
  addGitlabCommands(program);
  addCompletionCommand(program);
  addCandidatesCommand(program);
  addHelpCommand(program);
  for (const command of program.commands) inherit(command, program);
  return program;
}

const HELP = `
Examples:
  kite list --watch
  kite call math square 12
  kite repl math
  kite new greeter
  kite exec hello -- uname -a
  kite ssh hello
  kite stack apply -f deploy/local/hello.yaml
  kite login --kontrol https://kontrol.example.org

The key and the address of the mesh come from kite.key in $KITE_HOME (default: the nearest .kite above this folder that holds one,
then ~/.kite). KITE_KONTROL_URL overrides the address. Exit status: 0 done, 1 failed, 2 used wrongly, 3 no mesh is running, 4 kite compat
found what breaks, 5 kontrol does not answer and what was printed is of another time, 124 --timeout is over; exec: the program's own, 255
when the way to it failed.`;

/** Commands made before a setting do not have it, and commands of commands never do. */
function inherit(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  for (const inner of command.commands) inherit(inner, command);
}
