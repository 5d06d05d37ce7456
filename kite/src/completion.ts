import { KiteError } from "./errors.ts";

/** The shells for which there is a script. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** A command with its subcommands, as commander has them. */
export interface CommandTree {
  name(): string;
  readonly commands: readonly CommandTree[];
  readonly options: readonly { readonly long?: string | undefined; readonly short?: string | undefined }[];
}

/** What a program completes besides its commands and options. */
export interface CompletedNames {
  /** Statements of bash that may add to `words`: `path` is the command, `word` and `known` are free. */
  readonly bash?: string | undefined;
  /** Lines of fish. */
  readonly fish?: readonly string[] | undefined;
  /** Commands that are not offered. */
  readonly hidden?: readonly string[] | undefined;
}

/**
 * The script with which a shell completes a program, from the tree of its commands, such as commander's `program`: what is added
 * there is completed without a word here.
 *
 * @throws {KiteError} `invalid_argument` for another shell.
 * @example console.log(completionScript(program, "bash"));
 */
export function completionScript(program: CommandTree, shell: string, names: CompletedNames = {}): string {
  const words = wordsByPath(program, names.hidden ?? []);
  const name = program.name();
  if (shell === "bash") return bash(name, words, names.bash);
  if (shell === "zsh") return `#compdef ${name}\nautoload -U +X bashcompinit && bashcompinit\n${bash(name, words, names.bash)}`;
  if (shell === "fish") return fish(name, words, names.fish);
  throw new KiteError("invalid_argument", `a shell was expected (${SHELLS.join(", ")}), got "${shell}"`);
}

/** `"stack apply"` → its subcommands and long options. */
function wordsByPath(command: CommandTree, hidden: readonly string[], path: readonly string[] = []): Map<string, string[]> {
  const options = command.options.map(({ long, short }) => long ?? short ?? "");
  const commands = command.commands.filter((child) => !hidden.includes(child.name()));
  const own = [...commands.map((child) => child.name()), ...options, "--help"];
  const inner = commands.flatMap((child) => [...wordsByPath(child, hidden, [...path, child.name()])]);
  return new Map([[path.join(" "), own], ...inner]);
}

function bash(name: string, words: Map<string, string[]>, names?: string): string {
  const cases = [...words].map(([path, own]) => `    "${path}") words="${own.join(" ")}" ;;`);
  const known = new Set([...words.keys()].flatMap((path) => path.split(" ")).filter((word) => word !== ""));
  return `_${name}() {
  local words path="" word known=" ${[...known].join(" ")} "
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) continue ;; esac
    [[ "$known" == *" $word "* ]] || break
    path="\${path:+$path }$word"
  done
  case "$path" in
${cases.join("\n")}
    *) words="" ;;
  esac
${names === undefined ? "" : `${names}\n`}  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _${name} ${name}`;
}

function fish(name: string, words: Map<string, string[]>, names: readonly string[] = []): string {
  const lines = [...words].map(([path, own]) => {
    const steps = path.split(" ").filter((step) => step !== "");
    const condition =
      steps.length === 0 ? "__fish_use_subcommand" : steps.map((step) => `__fish_seen_subcommand_from ${step}`).join("; and ");
    return `complete -c ${name} -n '${condition}' -a '${own.join(" ")}'`;
  });
  return [`complete -c ${name} -f`, ...lines, ...names].join("\n");
}
