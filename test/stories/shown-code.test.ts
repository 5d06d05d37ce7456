import path from "node:path";
import { parseIdentity } from "@kite-mesh/kite";
import ts from "typescript";
import { expect, test } from "vitest";
import { exportedNames, exportsOf } from "../../kite/src/test-exports.ts";
import { allExamples, type Example, KNOWN_NAMES } from "../examples.ts";
import { CHECKOUT } from "../mesh.ts";
import { blocksOf } from "../pages.ts";
import { LINES } from "./page-lines.ts";

// What is shown to readers, on pages and beside names, is typed as it stands. One program for all of it: what it imports is read once.
const PROGRAMS = Object.keys(LINES)
  .flatMap(blocksOf)
  .filter(({ file }) => file !== undefined);
const examples = allExamples();
const exported = exportedNames();

test("the programs of the pages and every example of a docstring are typed as they stand", { timeout: 120_000 }, () => {
  const files = new Map([
    ...PROGRAMS.map(({ page, file = "", code }) => [path.join(CHECKOUT, `test/shown/${page}/${file}`), code] as const),
    [path.join(CHECKOUT, "test/shown/names.d.ts"), KNOWN_NAMES],
    ...examples.map((example) => [moduleOf(example), typedExample(example)] as const),
  ]);

  expect(complaints(files)).toEqual([]);
  expect(examples.length).toBeGreaterThan(80);
});

// One call, and behind it what it gives.
const ANSWERED = /^(\w+\(.*\)(?:\.\w+)?);?\s*\/\/ (.*)$/s;
const answered = examples.flatMap(({ code, path: file }) => {
  const [, expression = "", shown = ""] = ANSWERED.exec(code.trim()) ?? [];
  return expression === "" ? [] : [{ expression, shown, file }];
});

test.each(answered)("an example gives what stands behind it: $expression", async ({ expression, shown, file }) => {
  const kite = { identity: parseIdentity("/alice/dev/math/1.0.0/eu/host1/5f0c") };
  const names = { kite, ...(await import("@kite-mesh/kite")), ...(await import(path.join(CHECKOUT, file))) } as Record<string, unknown>;

  expect(evaluated(expression, names)).toEqual(evaluated(shown, {}));
});

/** A module of its own beside the file that the example is from. */
function moduleOf({ path: file, line }: Example): string {
  return path.join(CHECKOUT, file.replace(/[.]ts$/, `.line-${line}.ts`));
}

/** The example within a function, so that it may await and return, and with imports of what it names. */
function typedExample({ path: file, code }: Example): string {
  const own = code.match(/^import .*$/gm)?.join("\n") ?? "";
  const body = code.replaceAll(/^import .*$/gm, "");
  const names = [...namesIn(body)].filter((name) => !namesIn(own).has(name));
  const imports = names.map((name) => importOf(name, path.join(CHECKOUT, file)));
  return [own, ...imports, `export async function example() {\n${body}\n}`].join("\n");
}

function namesIn(code: string): Set<string> {
  const names = new Set<string>();
  const look = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) names.add(node.text);
    ts.forEachChild(node, look);
  };
  look(ts.createSourceFile("example.ts", code, ts.ScriptTarget.ESNext, true));
  return names;
}

/** Where a reader has it from: the file that is being read, the package, or what every reader knows. One that an example declares itself hides the import. */
function importOf(name: string, file: string): string {
  if (exportsOf(file).some((found) => found.name === name)) return `import { ${name} } from "./${path.basename(file)}";`;
  const from = exported.find((found) => found.name === name)?.from;
  return from === undefined ? "" : `import { ${name} } from "${from}";`;
}

function complaints(files: ReadonlyMap<string, string>): string[] {
  const { config } = ts.readConfigFile(path.join(CHECKOUT, "tsconfig.json"), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: ["none"] }, ts.sys, CHECKOUT);
  // Types and values are imported alike here.
  options.verbatimModuleSyntax = false;
  const host = ts.createCompilerHost(options);
  // They are in no folder that is there.
  delete host.directoryExists;
  const { readFile, fileExists, getSourceFile } = host;
  host.fileExists = (file) => files.has(file) || fileExists(file);
  host.readFile = (file) => files.get(file) ?? readFile(file);
  host.getSourceFile = (file, language, ...rest) => {
    const text = files.get(file);
    return text === undefined ? getSourceFile(file, language, ...rest) : ts.createSourceFile(file, text, language);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  return [...files.keys()].flatMap((file) => {
    const source = program.getSourceFile(file);
    return ts.getPreEmitDiagnostics(program, source).map(({ messageText, start = 0 }) => {
      const { line = 0 } = source?.getLineAndCharacterOfPosition(start) ?? {};
      return `${path.relative(CHECKOUT, file)}: ${ts.flattenDiagnosticMessageText(messageText, " ")}: ${source?.text.split("\n")[line]?.trim()}`;
    });
  });
}

function evaluated(code: string, names: Record<string, unknown>): unknown {
  const values = Object.entries(names);
  return new Function(...values.map(([name]) => name), `return (${code});`)(...values.map(([, value]) => value));
}
