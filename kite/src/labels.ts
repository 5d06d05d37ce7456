import { KiteError } from "./errors.ts";

/** What a kite says of itself to help others choose: plain strings. */
export type Labels = Readonly<Record<string, string>>;
/** A change of labels: those that are named get a new value, or go with `null`; the others stay. */
export type LabelChange = Readonly<Record<string, string | null>>;

// Both sides keep them in memory for every kite, and a query is read for every one that it looks at.
const MAX_EXPRESSIONS = 16;
const MAX_LENGTH = 320;
const EXPRESSION = /^(?:(!?)([A-Za-z0-9][\w./-]{0,62})|([A-Za-z0-9][\w./-]{0,62})\s*(!=|<=|>=|=|<|>)\s*(.*))$/;

/**
 * A function that tells whether labels satisfy every expression: `gpu` (there is one), `!gpu` (there is none), `gpu=true`,
 * `zone!=b` (also when there is none), `load<0.7`, `<=`, `>`, `>=`. The last four compare numbers; a label that is missing
 * or is no number satisfies none of them.
 *
 * @throws {KiteError} `invalid_argument` naming the expression that cannot be read.
 * @example labelMatcher(["region=eu", "load<0.7"])({ region: "eu", load: "0.25" }) // true
 */
export function labelMatcher(expressions: readonly string[] = []): (labels: Labels) => boolean {
  if (expressions.length > MAX_EXPRESSIONS)
    throw new KiteError("invalid_argument", `a query has at most ${MAX_EXPRESSIONS} expressions over labels, got ${expressions.length}`);
  const tests = expressions.map(parseExpression);
  return (labels) => tests.every((holds) => holds(labels));
}

/**
 * Labels after a change; what was passed stays as it is.
 *
 * @example changeLabels({ gpu: "true", load: "0.2" }, { load: "0.7", gpu: null }) // { load: "0.7" }
 */
export function changeLabels(labels: Labels, change: LabelChange): Record<string, string> {
  const changed = Object.entries({ ...labels, ...change }).filter((entry): entry is [string, string] => entry[1] !== null);
  return Object.fromEntries(changed);
}

/** The change that makes `after` of `before`; undefined when there is none. */
export function labelDifference(before: Labels, after: Labels): LabelChange | undefined {
  const gone = Object.keys(before).filter((key) => !Object.hasOwn(after, key));
  const set = Object.entries(after).filter(([key, value]) => !Object.hasOwn(before, key) || before[key] !== value);
  if (gone.length + set.length === 0) return undefined;
  return Object.fromEntries([...gone.map((key) => [key, null] as const), ...set]);
}

function parseExpression(text: string): (labels: Labels) => boolean {
  const match = text.length > MAX_LENGTH ? null : EXPRESSION.exec(text.trim());
  if (match === null) throw unreadable(text, 'expected one such as "gpu", "!gpu", "region=eu", "zone!=b" or "load<0.7"');
  const [, absent, present, key = "", operator, wanted = ""] = match;
  if (present !== undefined) return (labels) => Object.hasOwn(labels, present) === (absent === "");
  const value = (labels: Labels) => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  if (operator === "=") return (labels) => value(labels) === wanted;
  if (operator === "!=") return (labels) => value(labels) !== wanted;
  const limit = numberIn(wanted);
  if (Number.isNaN(limit)) throw unreadable(text, `"${operator}" compares with a number`);
  const holds = COMPARE[operator as keyof typeof COMPARE];
  return (labels) => holds(numberIn(value(labels)), limit);
}

/** Comparisons with NaN are false, which is what a label that is no number should be. */
const COMPARE = {
  "<": (a: number, b: number) => a < b,
  "<=": (a: number, b: number) => a <= b,
  ">": (a: number, b: number) => a > b,
  ">=": (a: number, b: number) => a >= b,
};

function numberIn(text: string | undefined): number {
  return text === undefined || text.trim() === "" ? Number.NaN : Number(text);
}

function unreadable(text: string, why: string): KiteError {
  return new KiteError("invalid_argument", `the expression ${JSON.stringify(text.slice(0, 80))} over labels cannot be read: ${why}`);
}
