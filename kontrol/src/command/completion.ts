import { completionScript, SHELLS } from "@kite-mesh/kite/completion";
import { Argument, type Command } from "commander";
import { print } from "./output.ts";

/** `kontrol completion bash`: a script for the shell, made from the commands themselves. */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion")
    .addArgument(new Argument("<shell>", SHELLS.join(", ")).choices(SHELLS))
    .description("a script that completes commands and options")
    .addHelpText("after", EXAMPLES)
    .action((shell: string) => print(completionScript(program, shell)));
}

const EXAMPLES = `
Examples:
  source <(kontrol completion bash)
  kontrol completion zsh > "\${fpath[1]}/_kontrol"
  kontrol completion fish > ~/.config/fish/completions/kontrol.fish`;
