import type { Command, Option } from "commander";
import { EXIT, Failure } from "./failure.ts";
import { print } from "./output.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** `kite completion bash`: a script for the shell, made from the commands themselves. */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion")
    .argument("<shell>", SHELLS.join(", "))
    .description("a script that completes commands and options")
    .addHelpText("after", EXAMPLES)
    .action((shell: string) => print(completionScript(program, shell)));
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
  const own = [...command.commands.map((inner) => inner.name()), ...options, "--help"];
  const inner = command.commands.flatMap((child) => [...wordsByPath(child, [...path, child.name()])]);
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
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _kite kite`;
}

function fish(words: Map<string, string[]>): string {
  const lines = [...words].map(([path, own]) => {
    const steps = path.split(" ").filter((step) => step !== "");
    const condition =
      steps.length === 0 ? "__fish_use_subcommand" : steps.map((step) => `__fish_seen_subcommand_from ${step}`).join("; and ");
    return `complete -c kite -n '${condition}' -a '${own.join(" ")}'`;
  });
  return ["complete -c kite -f", ...lines].join("\n");
}
