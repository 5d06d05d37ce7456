import type { Command, Option } from "commander";
import { CANDIDATES } from "./candidates.ts";
import { EXIT, Failure } from "./failure.ts";
import { print } from "./output.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** `kite completion bash`: a script for the shell, made from the commands themselves. */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion")
    .argument("[shell]", SHELLS.join(", "))
    .description("a script that completes commands and options")
    .addHelpText("after", EXAMPLES)
    .action((shell = "") => print(completionScript(program, shell)));
}

const EXAMPLES = `
Examples:
  source <(kite completion bash)
  kite completion zsh > "\${fpath[1]}/_kite"
  kite completion fish > ~/.config/fish/completions/kite.fish`;

/** The script, from the tree of commands: what is added there is completed without a word here. */
export function completionScript(program: Command, shell: string): string {
  const words = wordsByPath(program);
  if (shell === "bash") return bash(words);
  if (shell === "zsh") return `#compdef kite\nautoload -U +X bashcompinit && bashcompinit\n${bash(words)}`;
  if (shell === "fish") return fish(words);
  throw new Failure(`a shell was expected (${SHELLS.join(", ")}), got "${shell}"`, EXIT.usage);
}

/** `"stack apply"` → its subcommands and long options. */
function wordsByPath(command: Command, path: readonly string[] = []): Map<string, string[]> {
  const options = command.options.map((option: Option) => option.long ?? option.short ?? "");
  const commands = command.commands.filter((child) => child.name() !== CANDIDATES);
  const own = [...commands.map((child) => child.name()), ...options, "--help"];
  const inner = commands.flatMap((child) => [...wordsByPath(child, [...path, child.name()])]);
  return new Map([[path.join(" "), own], ...inner]);
}

function bash(words: Map<string, string[]>): string {
  const cases = [...words].map(([path, own]) => `    "${path}") words="${own.join(" ")}" ;;`);
  return `_kite() {
  local words path="" word known=" ${[...words.keys()].filter((path) => path !== "").join(" ")} "
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) continue ;; esac
    [[ "$known" == *" $word "* ]] || break
    path="\${path:+$path }$word"
  done
  case "$path" in
${cases.join("\n")}
    *) words="" ;;
  esac
${bashNames()}
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _kite kite`;
}

/** Which commands take the name of a kite, and at which places; the second word of a command is at the first. */
const TAKE_KITES = ["call:0", "repl:0", "docs:0", "compat:0", "compat:1", "why:0", "grant add:1"];
const TAKE_TEAMS = ["show", "remove", "add", "leave", "remove-member"].map((command) => `team ${command}:1`);
const TAKE_VALUES = ["--timeout", "--format", "--output", "-o", "--team", "--role", "--until", "--maintainer", "--label"];

/** Kites and their methods are asked for; whatever does not come at once is left out. */
function bashNames(): string {
  return `  local -a given=()
  local skip=""
  for word in "\${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
    if [[ -n "$skip" ]]; then skip=""; continue; fi
    case "$word" in ${TAKE_VALUES.join("|")}) skip=1 ;; -*) ;; *) given+=("$word") ;; esac
  done
  if [[ "\${COMP_WORDS[COMP_CWORD]}" != -* && -z "$skip" ]]; then
    case "$path:\${#given[@]}" in
      ${bashPlaces(TAKE_KITES)}) words+=" $(kite ${CANDIDATES} kites 2>/dev/null)" ;;
      ${bashPlaces(TAKE_TEAMS)}) words+=" $(kite ${CANDIDATES} teams 2>/dev/null)" ;;
      call:1) words+=" $(kite ${CANDIDATES} methods "\${given[0]}" 2>/dev/null)" ;;
    esac
  fi
  [[ "\${COMP_WORDS[COMP_CWORD-1]}" == --team ]] && words="$(kite ${CANDIDATES} teams 2>/dev/null)"`;
}

function bashPlaces(places: readonly string[]): string {
  return places.map((place) => `"${place}"`).join("|");
}

function fish(words: Map<string, string[]>): string {
  const lines = [...words].map(([path, own]) => {
    const steps = path.split(" ").filter((step) => step !== "");
    const condition =
      steps.length === 0 ? "__fish_use_subcommand" : steps.map((step) => `__fish_seen_subcommand_from ${step}`).join("; and ");
    return `complete -c kite -n '${condition}' -a '${own.join(" ")}'`;
  });
  const take = (places: readonly string[], what: string) =>
    places.map((place) => {
      const [command = "", index = "0"] = place.split(":");
      return fishNames(command, Number(index), `${CANDIDATES} ${what}`);
    });
  const methods = fishNames("call", 1, `${CANDIDATES} methods (commandline -opc)[3]`);
  const team = `complete -c kite -n '__fish_seen_subcommand_from grant' -l team -x -a '(kite ${CANDIDATES} teams 2>/dev/null)'`;
  return ["complete -c kite -f", ...lines, ...take(TAKE_KITES, "kites"), ...take(TAKE_TEAMS, "teams"), methods, team].join("\n");
}

function fishNames(command: string, index: number, question: string): string {
  const seen = command.split(" ").map((word) => `__fish_seen_subcommand_from ${word}; and`);
  const place = `${seen.join(" ")} test (count (commandline -opc)) -eq ${index + 2}`;
  return `complete -c kite -n '${place}' -a '(kite ${question} 2>/dev/null)'`;
}
