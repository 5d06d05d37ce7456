import { readFileSync } from "node:fs";
import path from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import PACKAGE from "../package.json" with { type: "json" };

// What people read when they point at a name in their editor. Read from the sources alone: what is of interest stands beside them.
const ROOT = path.join(import.meta.dirname, "..");
const sources = new Map<string, ts.SourceFile>();
const entries = Object.values(PACKAGE.exports).map((entry) => path.join(ROOT, entry["mesh-source"]));
const exported = [...new Map(entries.flatMap(exportsOf).map((found) => [`${found.name} of ${found.file}`, found])).values()];

test("what is exported is found by this test", () => {
  const names = exported.map(({ name }) => name);

  expect(names).toEqual(
    expect.arrayContaining(["openKite", "Kite", "KiteOptions", "LIMITS", "natsDialer", "breaker", "tracing", "fakeClock", "Register"]),
  );
  expect(names.length).toBeGreaterThan(150);
});

test("every exported name says what it is", () => {
  expect(exported.filter(({ node }) => wordsOf(node) === "").map(({ name }) => name)).toEqual([]);
});

test("every exported function and class has an example", () => {
  const without = exported.filter(({ node }) => isCode(node) && !tagsOf(node).includes("example"));

  expect(without.map(({ name }) => name)).toEqual([]);
});

test("every exported function, and every method of an exported class, that throws says what", () => {
  const silent = exported.flatMap(({ name, node }) =>
    methodsOf(name, node).filter((each) => throws(each.node) && !tagsOf(each.node).includes("throws")),
  );

  expect(silent.map(({ name }) => name)).toEqual([]);
});

test("every number in an option or a result has its unit in its name, or says what it counts", () => {
  const bare = exported.flatMap(({ name, node }) => numbersOf(node).map((member) => `${name}.${member}`));

  expect(bare).toEqual([]);
});

interface Exported {
  readonly name: string;
  readonly file: string;
  readonly node: ts.Node;
}

/** What a module exports, with the declarations where they stand; `export …  from` is followed. */
function exportsOf(file: string): Exported[] {
  return sourceOf(file).statements.flatMap((statement) => {
    if (isExported(statement)) return declarationsOf(statement).map(([name, node]) => ({ name, file, node }));
    if (!ts.isExportDeclaration(statement) || statement.moduleSpecifier === undefined) return [];
    const from = exportsOf(path.join(path.dirname(file), (statement.moduleSpecifier as ts.StringLiteral).text));
    const { exportClause } = statement;
    if (exportClause === undefined || !ts.isNamedExports(exportClause)) return from;
    return exportClause.elements.map(({ name, propertyName = name }) => {
      const found = from.find((each) => each.name === propertyName.text);
      if (found === undefined) throw new Error(`${file} exports ${propertyName.text}, which is not where it says`);
      return found;
    });
  });
}

function sourceOf(file: string): ts.SourceFile {
  const known = sources.get(file) ?? ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ESNext, true);
  sources.set(file, known);
  return known;
}

function isExported(node: ts.Statement): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) ?? false);
}

function declarationsOf(statement: ts.Statement): [string, ts.Node][] {
  // What is said of a constant stands before the whole statement.
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations.map(({ name }) => [name.getText(), statement]);
  return [[(statement as ts.DeclarationStatement).name?.getText() ?? "", statement]];
}

function wordsOf(node: ts.Node): string {
  const [doc] = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc);
  return (ts.getTextOfJSDocComment(doc?.comment) ?? "").trim();
}

function tagsOf(node: ts.Node): string[] {
  return ts.getJSDocTags(node).map(({ tagName }) => tagName.text);
}

function isCode(node: ts.Node): boolean {
  return ts.isFunctionDeclaration(node) || ts.isClassDeclaration(node);
}

function methodsOf(name: string, node: ts.Node): { name: string; node: ts.Node }[] {
  if (ts.isFunctionDeclaration(node)) return [{ name, node }];
  if (!ts.isClassDeclaration(node)) return [];
  const open = node.members.filter((member) => ts.isMethodDeclaration(member) && isOpen(member));
  return open.map((member) => ({ name: `${name}.${member.name?.getText()}`, node: member }));
}

/** Of a function that it makes or passes on, that one's caller learns; so only what it throws itself counts. */
function throws(node: ts.Node): boolean {
  const body = (node as ts.FunctionLikeDeclaration).body;
  const look = (inner: ts.Node): boolean =>
    ts.isThrowStatement(inner) || (!ts.isFunctionLike(inner) && (ts.forEachChild(inner, look) ?? false));
  return body !== undefined && look(body);
}

function numbersOf(node: ts.Node): string[] {
  if (!ts.isInterfaceDeclaration(node) && !ts.isClassDeclaration(node)) return [];
  const members: readonly (ts.ClassElement | ts.TypeElement)[] = node.members;
  const numbers = members.filter((member) => isOpen(member) && /^number\b/.test((member as ts.PropertySignature).type?.getText() ?? ""));
  return numbers
    .filter((member) => wordsOf(member) === "")
    .map((member) => member.name?.getText() ?? "")
    .filter((name) => !/(Ms|Bytes)$/.test(name));
}

function isOpen(member: ts.ClassElement | ts.TypeElement): boolean {
  const hidden = [ts.SyntaxKind.PrivateKeyword, ts.SyntaxKind.ProtectedKeyword];
  const modifiers = ts.canHaveModifiers(member) ? (ts.getModifiers(member) ?? []) : [];
  return member.name !== undefined && !ts.isPrivateIdentifier(member.name) && !modifiers.some(({ kind }) => hidden.includes(kind));
}
