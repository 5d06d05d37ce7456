import ts from "typescript";
import { expect, test } from "vitest";
import { exportedNames } from "./test-exports.ts";

// What people read when they point at a name in their editor.
const exported = [...new Map(exportedNames().map((found) => [`${found.name} of ${found.file}`, found])).values()];

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
