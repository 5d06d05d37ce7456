import { type CST, isAlias, isMap, isPair, isScalar, isSeq, LineCounter, type Node, Parser, parseDocument, visit } from "yaml";

/** Where something stands in a stack file: `line 3, column 5`. */
export type Place = string;

/** A value of a stack file together with the place where it was written. */
export type Sourced =
  | { kind: "map"; place: Place; entries: readonly Entry[] }
  | { kind: "list"; place: Place; items: readonly Sourced[] }
  | { kind: "scalar"; place: Place; value: unknown };
export interface Entry {
  key: string;
  place: Place;
  value: Sourced;
}
export type SourcedMap = Extract<Sourced, { kind: "map" }>;

// A stack file is written by a person; a megabyte of it is a mistake, and parsing it would hold up everybody else.
const MAX_CHARACTERS = 256 * 1024;
// The deepest stack file has six levels. Thousands would exhaust the call stack of whoever walks them, and so end the process.
const MAX_DEPTH = 50;

/**
 * Reads YAML into values that remember their places. A key that is written twice in one map stays twice in `entries`:
 * the reader of the template says what that means.
 *
 * @throws {TemplateError} with line and column.
 */
export function readSource(text: string): Sourced {
  if (text.length > MAX_CHARACTERS) throw invalid(`a stack file may have ${MAX_CHARACTERS} characters, this one has ${text.length}`);
  if (isDeeperThan(MAX_DEPTH, text)) throw invalid(`a stack file is nested at most ${MAX_DEPTH} levels deep, and this one is deeper`);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false });
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return `line ${line}, column ${col}`;
  };
  const [error] = document.errors;
  if (error !== undefined) throw invalid(`the stack file is not YAML: ${error.message} at ${place(error.pos[0])}`);
  if (document.contents === null) throw invalid("the stack file is empty; it needs at least a `name` and a `resource` section");
  visit(document, {
    // Anchors can make a small file stand for an endless one, and stack files have no need of them.
    Alias: (_, node) => {
      throw invalid(`aliases (*${node.source}) cannot be used in a stack file, at ${place(node.range?.[0] ?? 0)}; write the value out`);
    },
  });
  return sourced(document.contents, place);
}

/** A mistake in a stack file, or in the values for its variables. */
export class TemplateError extends Error {
  override readonly name = "TemplateError";
}

/** The error of every mistake in a stack file. */
export function invalid(message: string): TemplateError {
  return new TemplateError(message);
}

/** Looks at the tokens of the text, which are found without recursion; composing values of them is not. */
function isDeeperThan(limit: number, text: string): boolean {
  let level: readonly CST.Token[] = [...new Parser().parse(text)];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    level = level.flatMap(childrenOf);
  }
  return false;
}

function childrenOf(token: CST.Token): CST.Token[] {
  if (token.type === "document") return token.value === undefined ? [] : [token.value];
  if (!("items" in token)) return [];
  return token.items.flatMap(({ key, value }) => [key, value]).filter((child) => child !== undefined && child !== null);
}

function sourced(node: Node, placeOf: (offset: number) => Place): Sourced {
  const place = placeOf(node.range?.[0] ?? 0);
  if (isMap(node)) {
    const entries = node.items.map((pair): Entry => {
      if (!isPair(pair) || !isScalar(pair.key)) throw invalid(`a key must be a plain word, at ${place}`);
      const at = placeOf(pair.key.range?.[0] ?? 0);
      const value: Sourced = isNode(pair.value) ? sourced(pair.value, placeOf) : { kind: "scalar", place: at, value: null };
      return { key: String(pair.key.value), place: at, value };
    });
    return { kind: "map", place, entries };
  }
  if (isSeq(node)) return { kind: "list", place, items: node.items.filter(isNode).map((item) => sourced(item, placeOf)) };
  return { kind: "scalar", place, value: isScalar(node) ? node.value : null };
}

function isNode(value: unknown): value is Node {
  return isMap(value) || isSeq(value) || isScalar(value) || isAlias(value);
}
