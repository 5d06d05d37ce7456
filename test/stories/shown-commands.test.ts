import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { createProgram as createKite } from "../../kite/cli/src/main.ts";
import { createProgram as createKontrol } from "../../kontrol/src/command/program.ts";
import { CHECKOUT } from "../mesh.ts";
import { blocksOf, readPage, shellLinesOf } from "../pages.ts";

// Commands that pages mention in passing, or that take minutes: there are such commands, with these options. readme.test.ts runs the others.
type Command = ReturnType<typeof createKite>;
const PAGES = [
  ...["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "deploy/README.md", "kloud/README.md", "gateway/README.md", "klient/README.md"],
  ...["kontrol/README.md", "kite/README.md", "kite/NATS.md", "kite/OBSERVABILITY.md", "kite/DNODE.md", "kite/cli/README.md"],
];
const FOLDERS = ["kite", "kontrol", "klient", "kloud", "gateway", "deploy", "test"];
const testFiles = FOLDERS.flatMap((folder) => filesIn(folder, /[.]test[.]ts$/));
const commands = PAGES.flatMap((page) => commandsOf(page).map((command) => ({ page, command })));

test.each([
  ["kite", /^(?:npx )?kite (.*)$/, createKite()],
  ["kontrol", /^kontrol ([a-z-].*)$/, createKontrol()],
] as const)("every %s that a page mentions is a command with these options", (_, form, program) => {
  const mentioned = matching(form);

  expect(mentioned.filter(({ words }) => !isCommand(program, words)).map(({ page, command }) => `${page}: ${command}`)).toEqual([]);
  expect(mentioned.length).toBeGreaterThan(0);
});

test("what the tables of kontrol/README.md list as commands and flags are these, and all that there are", () => {
  const [, settings = "", listed = ""] = /^## Settings$(.*?)^## Commands$(.*?)^## /ms.exec(readPage("kontrol/README.md")) ?? [];
  const program = createKontrol();
  const serve = program.commands.find((command) => command.name() === "serve");
  const flags = [...settings.matchAll(/^\| `[A-Z_]+` +\| `(--[\w-]+)`/gm)].map(([, flag]) => flag);
  const rows = [...listed.matchAll(/^\| (`.*?) +\|/gm)].map(([, cell = ""]) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code),
  );
  const named = rows.flatMap((row) => row.map((code, at) => wordsIn(row, at, program) ?? [code]));

  expect(named.filter((words) => !isCommand(program, words))).toEqual([]);
  expect(new Set(named.map(([noun]) => noun))).toEqual(
    new Set(program.commands.map((command) => command.name()).filter((name) => name !== "help")),
  );
  expect(flags.filter((flag) => flag !== "--home" && !serve?.options.some(({ long }) => long === flag))).toEqual([]);
  expect(flags.length).toBeGreaterThan(10);
});

test("every script that a page mentions is one, in its workspace", () => {
  const mentioned = matching(/^npm (?:run )?((?!ci\b|install\b|run\b|pack\b|warn\b)[a-z].*)$/);

  expect(mentioned.filter(({ words }) => !isScript(words)).map(({ page, command }) => `${page}: ${command}`)).toEqual([]);
  expect(mentioned.length).toBeGreaterThan(10);
});

test("every run of some tests that a page mentions finds them, and is told by variables that they read", () => {
  const mentioned = matching(/^((?:[A-Z_]+=\S+ )*npx vitest .*)$/);

  expect(mentioned.filter(({ words }) => !isTestRun(words)).map(({ page, command }) => `${page}: ${command}`)).toEqual([]);
  expect(mentioned.length).toBeGreaterThan(5);
});

test("every setting that a page mentions is read, where settings are read", () => {
  const read = FOLDERS.flatMap((folder) => filesIn(folder, /(^|\/)options[.]ts$/)).map((file) =>
    readFileSync(path.join(CHECKOUT, file), "utf8"),
  );
  const settings = PAGES.flatMap((page) =>
    [...readPage(page).matchAll(/\b(?:KITE|KONTROL|KLIENT|KLOUD|GATEWAY|GITLAB)_[A-Z_]+\b/g)].map(([name]) => ({ page, name })),
  );

  expect(settings.filter(({ name }) => !read.some((source) => new RegExp(`\\b${name}\\b`).test(source)))).toEqual([]);
  expect(settings.length).toBeGreaterThan(50);
});

test("CONTRIBUTING.md says of every part of the check what it fails for", () => {
  const { scripts } = packageOf(".");
  const rows = [...readPage("CONTRIBUTING.md").matchAll(/^\| `npm run (\w+)` +\|/gm)].map(([, name]) => name);

  expect(scripts["check"]).toBe(rows.map((name) => `npm run -s ${name}`).join(" && "));
});

test("the options of the benchmarks that CONTRIBUTING.md mentions are theirs", () => {
  const page = readPage("CONTRIBUTING.md");
  const [, speed = "", registry = ""] = /^`npm run bench` (.*?)^`npm run bench:registry` (.*?)^## /ms.exec(page) ?? [];

  for (const [text, main] of [
    [speed, "test/bench/main.ts"],
    [registry, "test/bench/registry/main.ts"],
  ] as const) {
    const options = [...text.matchAll(/`--([\w-]+)[^`]*`/g)].map(([, option = ""]) => option);
    const source = readFileSync(path.join(CHECKOUT, main), "utf8");

    expect(options.length).toBeGreaterThan(1);
    expect(options.filter((option) => !new RegExp(`^ +"?${option}"?: \\{ type: `, "m").test(source))).toEqual([]);
  }
});

/** What stands in a page as code: lines of shell, and what is between backticks in a sentence or a table. */
function commandsOf(page: string): string[] {
  const text = readPage(page).replaceAll(/^ *```.*?^ *```$/gms, "");
  const mentioned = [...text.matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code);
  const lines = blocksOf(page)
    .filter(({ language }) => language === "sh")
    .flatMap(shellLinesOf);
  return [...mentioned, ...lines.flatMap(({ command }) => command.split(" && "))];
}

function matching(form: RegExp): { page: string; command: string; words: string[] }[] {
  return commands.flatMap(({ page, command }) => {
    const [, rest] = form.exec(command) ?? [];
    return rest === undefined ? [] : [{ page, command, words: rest.split(" ") }];
  });
}

/** Whether the first words lead to a command, and all that begins with dashes is an option of it or of what it is in. */
function isCommand(program: Command, words: readonly string[]): boolean {
  let command = program;
  const options = [...program.options];
  for (const word of words.filter((each) => !each.startsWith("-"))) {
    const inner = command.commands.find((each) => each.name() === word || each.aliases().includes(word));
    if (inner === undefined) break;
    command = inner;
    options.push(...command.options);
  }
  // What stands behind two dashes is for another program.
  const own = words.slice(0, words.includes("--") ? words.indexOf("--") : undefined);
  const given = own.filter((word) => /^--?[a-z]/.test(word)).map((word) => word.replace(/=.*/, ""));
  const known = ["--help", ...options.flatMap(({ long, short }) => [long, short])];
  return (command !== program || given.length > 0) && given.every((option) => known.includes(option));
}

/** What a cell such as "`person list`, `show`" means by each of its codes: a verb of the noun before, or an option of the command before. */
function wordsIn(row: readonly string[], at: number, program: Command): string[] | undefined {
  const words = row[at]?.split(" ") ?? [];
  const before = at === 0 ? undefined : wordsIn(row, at - 1, program);
  if (program.commands.some((command) => command.name() === words[0]) || before === undefined) return words;
  return words[0]?.startsWith("-") ? [...before, ...words] : [before[0] ?? "", ...words];
}

function isScript(words: readonly string[]): boolean {
  const folder = words.includes("-w") ? words[words.indexOf("-w") + 1] : ".";
  return packageOf(folder ?? ".").scripts[words[0] ?? ""] !== undefined;
}

function isTestRun(words: readonly string[]): boolean {
  const variables = words.filter((word) => word.includes("=")).map((word) => word.split("=")[0] ?? "");
  const project = words.includes("--project") ? words[words.indexOf("--project") + 1] : undefined;
  const filter = words.at(-1) === project ? "" : (words.at(-1) ?? "");
  const found = testFiles.filter(
    (file) => file.includes(filter) && (project === undefined || (project === "mesh") === file.startsWith("test/")),
  );
  const read = found.map((file) => readFileSync(path.join(CHECKOUT, file), "utf8")).join("\n");
  return found.length > 0 && variables.every((name) => read.includes(name));
}

function filesIn(folder: string, name: RegExp): string[] {
  return readdirSync(path.join(CHECKOUT, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => name.test(file) && !file.includes("node_modules"))
    .map((file) => path.join(folder, file));
}

function packageOf(folder: string): { scripts: Readonly<Record<string, string>> } {
  const { scripts = {} } = JSON.parse(readFileSync(path.join(CHECKOUT, folder, "package.json"), "utf8")) as {
    scripts?: Record<string, string>;
  };
  return { scripts };
}
