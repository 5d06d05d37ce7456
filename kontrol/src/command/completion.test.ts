import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { completionScript } from "@kite-mesh/kite/completion";
import type { Command } from "commander";
import { expect, test, vi } from "vitest";
import { createProgram, runProgram } from "./program.ts";

const run = promisify(execFile);

test("bash completes every command with its own commands and options", async () => {
  const program = createProgram();
  const all = paths(program);
  const asked = all.map(
    ([path]) => `COMP_WORDS=(kontrol ${path} ""); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _kontrol; echo "\${COMPREPLY[@]}"`,
  );

  const { stdout } = await run("bash", ["-c", [completionScript(program, "bash"), ...asked].join("\n")]);

  expect(all.length).toBeGreaterThan(25);
  expect(stdout.trimEnd().split("\n")).toEqual(all.map(([, words]) => words.join(" ")));
});

test("a word that was begun is completed, behind flags and their values too", async () => {
  const words = `COMP_WORDS=(kontrol key --json re); COMP_CWORD=3; _kontrol; echo "\${COMPREPLY[@]}"`;

  const { stdout } = await run("bash", ["-c", `${completionScript(createProgram(), "bash")}\n${words}`]);

  expect(stdout).toBe("retire revoke\n");
});

test("zsh takes the script of bash, and fish has a line for every command", () => {
  const program = createProgram();

  expect(completionScript(program, "zsh")).toBe(
    `#compdef kontrol\nautoload -U +X bashcompinit && bashcompinit\n${completionScript(program, "bash")}`,
  );
  const fish = completionScript(program, "fish").split("\n");
  expect(fish).toHaveLength(paths(program).length + 1);
  expect(fish).toContain(
    "complete -c kontrol -n '__fish_seen_subcommand_from key; and __fish_seen_subcommand_from retire' -a '--now --json --database-url --key-grace --help'",
  );
});

test("the command prints the script without a database, and refuses a shell that it does not know", async () => {
  expect(await printed("completion", "fish")).toEqual({ code: 0, text: `${completionScript(createProgram(), "fish")}\n` });
  expect(await printed("completion", "csh")).toMatchObject({
    code: 2,
    text: expect.stringContaining("Allowed choices are bash, zsh, fish"),
  });
});

/** Every command by its words, and what comes behind it. */
function paths(command: Command, path: readonly string[] = []): [string, string[]][] {
  const words = [...command.commands.map((inner) => inner.name()), ...(command.registeredArguments[0]?.argChoices ?? [])];
  // Where there are words to choose from, options wait for a dash.
  const own = words.length > 0 ? words : [...command.options.map(({ long }) => String(long)), "--help"];
  return [[path.join(" "), own], ...command.commands.flatMap((inner) => paths(inner, [...path, inner.name()]))];
}

async function printed(...args: string[]): Promise<{ code: number; text: string }> {
  let text = "";
  const write = (said: unknown) => {
    text += String(said);
    return true;
  };
  const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, "write").mockImplementation(write));
  const before = process.exitCode;
  try {
    process.exitCode = 0;
    await runProgram(["node", "kontrol", ...args]);
    return { code: Number(process.exitCode), text };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = before;
  }
}
