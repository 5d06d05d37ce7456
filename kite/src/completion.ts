import { KiteError } from "./errors.ts";

/** The shells for which there is a script. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** A command with its subcommands, as commander has them. */
export interface CommandTree {
  name(): string;
  aliases(): readonly string[];
  readonly commands: readonly CommandTree[];
  readonly options: readonly CommandOption[];
  readonly registeredArguments: readonly { readonly argChoices?: readonly string[] | undefined }[];
}

/** An option of a command, as commander has it. */
export interface CommandOption {
  readonly long?: string | undefined;
  readonly short?: string | undefined;
  /** A value comes behind it. */
  readonly required: boolean;
  readonly argChoices?: readonly string[] | undefined;
}

/** What a program completes besides its commands and options. */
export interface CompletedNames {
  /**
   * Statements of bash that may add to `names`, a line for each, where `value` is empty: `path` is the command, `last` the word before
   * `cur`, and `word` is free. A name may be a stranger's: it is quoted.
   */
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
  const places = placesOf(program, names.hidden ?? []);
  const name = program.name();
  if (shell === "bash") return bash(name, places, names.bash);
  if (shell === "zsh") return `#compdef ${name}\nautoload -U +X bashcompinit && bashcompinit\n${bash(name, places, names.bash)}`;
  if (shell === "fish") return fish(name, places, names.fish);
  throw new KiteError("invalid_argument", `a shell was expected (${SHELLS.join(", ")}), got "${shell}"`);
}

/** What may come behind a command. */
interface Place {
  /** `stack apply`, and the same by its other names. */
  readonly paths: readonly string[];
  readonly words: readonly string[];
  readonly flags: readonly string[];
  /** Options behind which a value comes, with those that it may be. */
  readonly values: readonly { readonly names: readonly string[]; readonly choices: readonly string[] }[];
}

function placesOf(command: CommandTree, hidden: readonly string[], paths: readonly string[] = [""]): Place[] {
  const commands = command.commands.filter((child) => !hidden.includes(child.name()));
  const place = {
    paths,
    words: [...commands.map((child) => child.name()), ...(command.registeredArguments[0]?.argChoices ?? [])],
    flags: [...command.options.map(({ long, short }) => long ?? short ?? ""), "--help"],
    values: command.options
      .filter(({ required }) => required)
      .map(({ long, short, argChoices }) => ({ names: [long, short].filter((flag) => flag !== undefined), choices: argChoices ?? [] })),
  };
  const inner = commands.flatMap((child) => {
    const steps = [child.name(), ...child.aliases()];
    return placesOf(
      child,
      hidden,
      paths.flatMap((path) => steps.map((step) => (path === "" ? step : `${path} ${step}`))),
    );
  });
  return [place, ...inner];
}

/** `help` before a command is followed by what the command has. Where there are words to choose from, options wait for a dash. */
function bash(name: string, places: readonly Place[], names?: string): string {
  const paths = places.flatMap((place) => place.paths);
  const values = places.flatMap((place) => place.values.map((value) => ({ ...value, paths: place.paths })));
  const valueCases = values.map(({ paths, names, choices }) => {
    const at = paths.flatMap((path) => names.map((flag) => `"${path}:${flag}"`));
    return `    ${at.join("|")}) value=1 words="${choices.join(" ")}" ;;`;
  });
  const cases = places.map(({ paths, words, flags }) => {
    return `    ${paths.map((path) => `"${path}"`).join("|")}) words="${words.join(" ")}" flags="${flags.join(" ")}" ;;`;
  });
  return `_${name}() {
  local words="" flags="" names="" path="" value="" word quoted first=1 plain='^[[:alnum:]_. -]+$'
  local cur="\${COMP_WORDS[COMP_CWORD]}" last="\${COMP_WORDS[COMP_CWORD-1]}" known="|${paths.filter((path) => path !== "").join("|")}|"
  [[ "\${COMP_WORDS[1]}" == help && COMP_CWORD -gt 1 ]] && first=2
  for word in "\${COMP_WORDS[@]:first:COMP_CWORD-first}"; do
    case "$word" in -*) continue ;; esac
    [[ "$known" == *"|\${path:+$path }$word|"* ]] || break
    path="\${path:+$path }$word"
  done
  case "$path:$last" in
${valueCases.join("\n")}
    *) ;;
  esac
  [[ -n "$value" ]] || case "$path" in
${cases.join("\n")}
    *) ;;
  esac
${names === undefined ? "" : `${names}\n`}  [[ "$cur" == -* || -z "$words$names$value" ]] && words+=" $flags"
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  while IFS= read -r word; do
    printf -v quoted %q "$word"
    case "$cur" in
      # Inside quotes a shell still runs what some characters stand for.
      \\"*|\\'*) [[ "$word" == "\${cur:1}"* && "$word" =~ $plain ]] && COMPREPLY+=("$word") ;;
      *) [[ -n "$word" && ( "$quoted" == "$cur"* || "$word" == "$cur"* ) ]] && COMPREPLY+=("$quoted") ;;
    esac
  done <<< "$names"
}
complete -o default -F _${name} ${name}`;
}

function fish(name: string, places: readonly Place[], names: readonly string[] = []): string {
  const lines = places.map(({ paths: [path = ""], words, flags }) => {
    const steps = path.split(" ").filter((step) => step !== "");
    const condition =
      steps.length === 0 ? "__fish_use_subcommand" : steps.map((step) => `__fish_seen_subcommand_from ${step}`).join("; and ");
    return `complete -c ${name} -n '${condition}' -a '${[...words, ...flags].join(" ")}'`;
  });
  return [`complete -c ${name} -f`, ...lines, ...names].join("\n");
}
