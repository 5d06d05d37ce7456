import type { Command } from "commander";
import { EXIT, Failure } from "./failure.ts";

/** `kite help stack apply`. Commander's own prints the help of everything for a command that is not there, and says nothing of it. */
export function addHelpCommand(program: Command): void {
  program
    .command("help")
    .argument("[command...]", "such as call, or stack apply")
    .description("print help for a command")
    .action((words: string[]) => helpFor(program, words));
}

async function helpFor(program: Command, words: readonly string[]): Promise<void> {
  let command = program;
  for (const word of words) {
    const found = command.commands.find((inner) => inner.name() === word || inner.aliases().includes(word));
    command = found ?? (await unknownCommand(command, word));
  }
  command.outputHelp();
}

async function unknownCommand(command: Command, word: string): Promise<never> {
  const { nearest } = await import("@kite-mesh/kite");
  const names = command
    .createHelp()
    .visibleCommands(command)
    .map((inner) => inner.name());
  const guess = nearest(word, names);
  throw new Failure(`unknown command '${word}'${guess === undefined ? "" : ` (Did you mean ${guess}?)`}`, EXIT.usage);
}

/** The same text for a narrower terminal, which would break words: paragraphs are filled again, what is indented stays as it is. */
export function fitted(text: string, columns: number | undefined): string {
  if (columns === undefined) return text;
  const done: string[] = [];
  let paragraph: string[] = [];
  const flush = () => {
    done.push(...(paragraph.some((line) => line.length > columns) ? fill(paragraph.join(" "), columns) : paragraph));
    paragraph = [];
  };
  for (const line of text.split("\n")) {
    if (/^\S/.test(line)) {
      paragraph.push(line);
      continue;
    }
    flush();
    done.push(line);
  }
  flush();
  return done.join("\n");
}

function fill(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
