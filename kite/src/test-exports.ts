import { readFileSync } from "node:fs";
import path from "node:path";
import ts from "typescript";
import PACKAGE from "../package.json" with { type: "json" };

/** A name that the package exports, and the declaration behind it. */
export interface Exported {
  readonly name: string;
  /** The module by which it is imported, such as `@kite-mesh/kite/nats`. */
  readonly from: string;
  /** Where it is declared. */
  readonly file: string;
  readonly node: ts.Node;
}

const ROOT = path.join(import.meta.dirname, "..");
const sources = new Map<string, ts.SourceFile>();

/** Everything that the package and its subpaths export, each name as often as it can be imported. Read from the sources alone: what is of interest stands in them. */
export function exportedNames(): Exported[] {
  return Object.entries(PACKAGE.exports).flatMap(([subpath, entry]) =>
    exportsOf(path.join(ROOT, entry["mesh-source"])).map((found) => ({ ...found, from: path.posix.join(PACKAGE.name, subpath) })),
  );
}

function sourceOf(file: string): ts.SourceFile {
  const known = sources.get(file) ?? ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ESNext, true);
  sources.set(file, known);
  return known;
}

/** What a module exports, with the declarations where they stand; `export …  from` is followed. */
export function exportsOf(file: string): Omit<Exported, "from">[] {
  return sourceOf(file).statements.flatMap((statement) => {
    if (isExported(statement)) return declarationsOf(statement).map(([name, node]) => ({ name, file, node }));
    if (!ts.isExportDeclaration(statement) || statement.moduleSpecifier === undefined) return [];
    const from = exportsOf(path.join(path.dirname(file), (statement.moduleSpecifier as ts.StringLiteral).text));
    const { exportClause } = statement;
    if (exportClause === undefined || !ts.isNamedExports(exportClause)) return from;
    return exportClause.elements.map(({ name, propertyName = name }) => {
      const found = from.find((each) => each.name === propertyName.text);
      if (found === undefined) throw new Error(`${file} exports ${propertyName.text}, which is not where it says`);
      return { ...found, name: name.text };
    });
  });
}

/** The class that a class of this file extends, where it is one of ours. */
export function superclassOf(file: string, node: ts.ClassDeclaration): { file: string; node: ts.ClassDeclaration } | undefined {
  const name = node.heritageClauses?.find(({ token }) => token === ts.SyntaxKind.ExtendsKeyword)?.types[0]?.expression.getText();
  for (const statement of sourceOf(file).statements) {
    if (!ts.isImportDeclaration(statement)) continue;
    const from = (statement.moduleSpecifier as ts.StringLiteral).text;
    const { namedBindings } = statement.importClause ?? {};
    if (!from.startsWith(".") || namedBindings === undefined || !ts.isNamedImports(namedBindings)) continue;
    if (!namedBindings.elements.some((element) => element.name.text === name)) continue;
    const above = path.join(path.dirname(file), from);
    const found = exportsOf(above).find((each) => each.name === name)?.node;
    if (found !== undefined && ts.isClassDeclaration(found)) return { file: above, node: found };
  }
  return undefined;
}

function isExported(node: ts.Statement): boolean {
  return ts.canHaveModifiers(node) && (ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) ?? false);
}

function declarationsOf(statement: ts.Statement): [string, ts.Node][] {
  // What is said of a constant stands before the whole statement.
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations.map(({ name }) => [name.getText(), statement]);
  return [[(statement as ts.DeclarationStatement).name?.getText() ?? "", statement]];
}
