import { SHELLS, completionScript as scriptOf } from "@kite-mesh/kite/completion";
import { Argument, type Command } from "commander";
import { CANDIDATES } from "./candidates.ts";
import { EXIT, Failure } from "./failure.ts";
import { print } from "./output.ts";

/** `kite completion bash`: a script for the shell, made from the commands themselves. */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion")
    .addArgument(new Argument("<shell>", "whose script").choices(SHELLS))
    .description("a script that completes commands and options")
    .addHelpText("after", EXAMPLES)
    .action((shell: string) => print(completionScript(program, shell)));
}

const EXAMPLES = `
Examples:
  source <(kite completion bash)
  kite completion zsh > "\${fpath[1]}/_kite"
  kite completion fish > ~/.config/fish/completions/kite.fish`;

/** The script, with what only the mesh knows: names of kites, methods and teams. */
export function completionScript(program: Command, shell: string): string {
  if (!isShell(shell)) throw new Failure(`a shell was expected (${SHELLS.join(", ")}), got "${shell}"`, EXIT.usage);
  return scriptOf(program, shell, { bash: bashNames(), fish: fishLines(), hidden: [CANDIDATES] });
}

function isShell(shell: string): boolean {
  return SHELLS.some((known) => known === shell);
}

/** Which commands take the name of a kite, and at which places; the second word of a command is at the first. */
const TAKE_KITES = ["call:0", "repl:0", "docs:0", "compat:0", "compat:1", "why:0", "grant add:1"];
const TAKE_TEAMS = ["show", "remove", "add", "leave", "remove-member"].map((command) => `team ${command}:1`);
const TAKE_MACHINES = ["ssh:0", "exec:0", ...["info", "start", "stop", "sessions"].map((command) => `machine ${command}:1`)];
const TAKE_STACKS = ["stack show:1", "stack destroy:1"];
const TAKE_VALUES = [
  ...["--timeout", "--format", "--output", "-o", "--team", "--role", "--until", "--maintainer", "--label"],
  ...["--cwd", "--env", "--session"],
];

/** Kites and their methods are asked for; whatever does not come at once is left out. Bash takes `math@^1.2` for three words. */
function bashNames(): string {
  return `  local -a given=()
  local skip="" glue=""
  for word in "\${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
    if [[ -n "$skip" ]]; then skip=""; continue; fi
    if [[ -n "$glue" || "$word" == @ ]] && (( \${#given[@]} > 0 )); then
      given[\${#given[@]}-1]+="$word"
      [[ "$word" == @ ]] && glue=1 || glue=""
      continue
    fi
    case "$word" in ${TAKE_VALUES.join("|")}) skip=1 ;; -*) ;; *) given+=("$word") ;; esac
  done
  if [[ "$cur" != -* && -z "$skip$value$glue" ]]; then
    case "$path:\${#given[@]}" in
      ${bashPlaces(TAKE_KITES)}) names="$(kite ${CANDIDATES} kites --raw 2>/dev/null)" ;;
      ${bashPlaces(TAKE_TEAMS)}) names="$(kite ${CANDIDATES} teams --raw 2>/dev/null)" ;;
      ${bashPlaces(TAKE_MACHINES)}) names="$(kite ${CANDIDATES} machines --raw 2>/dev/null)" ;;
      ${bashPlaces(TAKE_STACKS)}) names="$(kite ${CANDIDATES} stacks --raw 2>/dev/null)" ;;
      call:1) names="$(kite ${CANDIDATES} methods "\${given[0]}" --raw 2>/dev/null)" ;;
    esac
  fi
  [[ "$last" == --team ]] && names="$(kite ${CANDIDATES} teams --raw 2>/dev/null)"`;
}

function bashPlaces(places: readonly string[]): string {
  return places.map((place) => `"${place}"`).join("|");
}

function fishLines(): string[] {
  const take = (places: readonly string[], what: string) =>
    places.map((place) => {
      const [command = "", index = "0"] = place.split(":");
      return fishNames(command, Number(index), `${CANDIDATES} ${what}`);
    });
  const methods = fishNames("call", 1, `${CANDIDATES} methods (commandline -opc)[3]`);
  const team = `complete -c kite -n '__fish_seen_subcommand_from grant' -l team -x -a '(kite ${CANDIDATES} teams 2>/dev/null)'`;
  const rest = [...take(TAKE_MACHINES, "machines"), ...take(TAKE_STACKS, "stacks"), methods, team];
  return [...take(TAKE_KITES, "kites"), ...take(TAKE_TEAMS, "teams"), ...rest];
}

function fishNames(command: string, index: number, question: string): string {
  const seen = command.split(" ").map((word) => `__fish_seen_subcommand_from ${word}; and`);
  const place = `${seen.join(" ")} test (count (commandline -opc)) -eq ${index + 2}`;
  return `complete -c kite -n '${place}' -a '(kite ${question} 2>/dev/null)'`;
}
