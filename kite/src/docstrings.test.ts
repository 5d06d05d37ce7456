import ts from "typescript";
import { expect, test } from "vitest";
import { exportedNames, superclassOf } from "./test-exports.ts";

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

test("every method and getter of an exported class says what it does, whichever class it is inherited from", () => {
  const members = exported.flatMap(({ name, file, node }) => (ts.isClassDeclaration(node) ? openMembers(name, file, node) : []));
  const silent = members.filter(({ node }) => wordsOf(node) === "" && !tagsOf(node).includes("throws"));

  expect(members.map(({ name }) => name)).toEqual(expect.arrayContaining(["Kite.listen", "Kite.connect", "Kite.dial", "Peer.state"]));
  expect(silent.map(({ name }) => name)).toEqual([]);
});

test("every exported function, and every method of an exported class, that throws says what", () => {
  const silent = exported.flatMap(({ name, file, node }) =>
    functionsOf(name, file, node).filter((each) => throws(each.node) && !tagsOf(each.node).includes("throws")),
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

function functionsOf(name: string, file: string, node: ts.Node): Member[] {
  if (ts.isFunctionDeclaration(node)) return [{ name, node }];
  return ts.isClassDeclaration(node) ? openMembers(name, file, node).filter((member) => ts.isMethodDeclaration(member.node)) : [];
}

interface Member {
  readonly name: string;
  readonly node: ts.Node;
}

/** Its own and those that it inherits; not what a language construct calls, such as `using`, and not what says the same as above it. */
function openMembers(name: string, file: string, node: ts.ClassDeclaration): Member[] {
  const own = node.members.filter((member) => ts.isMethodDeclaration(member) || ts.isGetAccessor(member));
  const open = own.filter((member) => isOpen(member) && !ts.isComputedPropertyName(member.name) && !isOverride(member));
  const above = superclassOf(file, node);
  const inherited = above === undefined ? [] : openMembers(name, above.file, above.node);
  return [...open.map((member) => ({ name: `${name}.${member.name.getText()}`, node: member })), ...inherited];
}

function isOverride(member: ts.MethodDeclaration | ts.GetAccessorDeclaration): boolean {
  return ts.getModifiers(member)?.some(({ kind }) => kind === ts.SyntaxKind.OverrideKeyword) ?? false;
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
