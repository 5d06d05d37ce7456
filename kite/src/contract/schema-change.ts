import type { JsonSchema } from "./json-schema.ts";
import { BOUND_KEYWORDS, boundOf, isInside, isWithin, RANGES, type Range } from "./schema-bounds.ts";
import {
  alternatives,
  areApart,
  finerCases,
  hasBranches,
  isEmpty,
  itemsOf,
  label,
  lookUp,
  merged,
  namesIn,
  propertiesOf,
  type Subschema,
  sketch,
  split,
  typesOf,
  typesOfValues,
} from "./schema-cases.ts";
import { canonical, isRecord } from "./schema-essence.ts";

/** What is passed must still be accepted; what comes back must still be expected. */
type Side = "input" | "output";

/** What a change of a schema means for its callers, a phrase each: `size.width no longer accepts null`. */
export interface SchemaChange {
  /** Why it may break them. */
  readonly breaks: readonly string[];
  /** What they should know all the same. */
  readonly notes: readonly string[];
}

/**
 * Compares two schemas, both in their essence. An input may only widen and an output only narrow; where neither is certain, it
 * counts as breaking.
 */
export function schemaChange(side: Side, before: JsonSchema, after: JsonSchema, at: string): SchemaChange {
  const comparison = side === "input" ? new Comparison(side, after, before) : new Comparison(side, before, after);
  comparison.compare(comparison.wide, comparison.narrow, at);
  return { breaks: [...new Set(comparison.found)], notes: [...new Set(comparison.notes)] };
}

/** Looks for what `narrow` allows and `wide` does not. */
class Comparison {
  readonly side: Side;
  readonly wide: JsonSchema;
  readonly narrow: JsonSchema;
  readonly #seen: Set<string>;
  readonly #budget: { left: number; deep: number };
  readonly found: string[] = [];
  readonly notes: string[] = [];

  constructor(side: Side, wide: JsonSchema, narrow: JsonSchema, seen = new Set([ROOTS]), budget = { left: MAX_COMPARISONS, deep: 0 }) {
    this.side = side;
    this.wide = wide;
    this.narrow = narrow;
    this.#seen = seen;
    this.#budget = budget;
  }

  compare(wideHere: Subschema, narrowHere: Subschema, at: string): void {
    if (this.#budget.left-- <= 0 || this.#budget.deep > MAX_DEPTH)
      return this.#say(at, "is too intricate to be compared, which may break callers");
    this.#budget.deep++;
    this.#compareHere(wideHere, narrowHere, at);
    this.#budget.deep--;
  }

  #compareHere(wideHere: Subschema, narrowHere: Subschema, at: string): void {
    if (narrowHere === false) return;
    if (wideHere === false) return this.#lost(at, "anything");
    const [wide, narrow] = [this.#resolved(wideHere, this.wide), this.#resolved(narrowHere, this.narrow)];
    const pair = `${written(wideHere)} ${written(narrowHere)}`;
    // A schema that contains itself: what is being compared already is not compared again inside itself.
    if (pair.includes('"$ref"')) {
      if (this.#seen.has(pair)) return;
      this.#seen.add(pair);
    } else if (written(wide) === written(narrow)) return;
    if (isEmpty(wide) || isEmpty(narrow)) return this.#undescribed(wide, narrow, at);
    if (wide["allOf"] !== undefined) return this.#compareAll(wide, narrow, at);
    // What is allowed by all parts is allowed by each: one that fits is enough.
    if (Array.isArray(narrow["allOf"]) && this.#partFits(wide, narrow, at)) return;
    const whole = merged(narrow, (part) => this.#resolved(part, this.narrow));
    if (hasBranches(wide) || hasBranches(whole)) return this.#compareBranches(wide, whole, at);
    this.#compareKeywords(wide, whole, at);
  }

  #compareAll({ allOf, ...rest }: JsonSchema, narrow: JsonSchema, at: string): void {
    for (const part of [...(allOf as Subschema[]), rest]) if (!isEmpty(part)) this.compare(part, narrow, at);
  }

  #partFits(wide: JsonSchema, { allOf, ...rest }: JsonSchema, at: string): boolean {
    return (allOf as Subschema[]).some((part) => this.#fits(wide, isRecord(part) ? { ...rest, ...part } : part, at));
  }

  /** Every branch of the narrow side must fit into one of the wide side. */
  #compareBranches(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const { branches, rest } = split(wide);
    if (branches.length === 0) {
      for (const branch of alternatives(narrow)) this.compare(wide, branch, at);
      return;
    }
    if (!isEmpty(rest)) this.compare(rest, narrow, at);
    const candidates = branches.map((branch) => this.#resolved(branch, this.wide));
    const fitsOne = (branch: Subschema) => {
      const given = this.#resolved(branch, this.narrow);
      return candidates.some((candidate, index) => !areApart(candidate, given) && this.#fits(branches[index] ?? true, branch, at));
    };
    for (const branch of alternatives(narrow)) {
      if (fitsOne(branch)) continue;
      const given = this.#resolved(branch, this.narrow);
      const finer = finerCases(given, candidates);
      if (finer.length === 0 || !finer.every(fitsOne)) this.#compareWithMeant(candidates, given, at);
    }
  }

  /** Where only one branch can be the one that was meant, what does not fit is told of it. */
  #compareWithMeant(candidates: readonly JsonSchema[], narrow: JsonSchema, at: string): void {
    const meant = candidates.filter((candidate) => !areApart(candidate, narrow));
    const told = this.found.length;
    if (meant.length === 1 && meant[0] !== undefined) this.compare(meant[0], narrow, `${at}${label(narrow)}`);
    if (this.found.length === told) this.#lost(at, sketch(narrow));
  }

  #compareKeywords(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const { enum: values } = narrow;
    if (Array.isArray(values)) return this.#compareListed(wide, narrow, values, at);
    if (!this.#compareTypes(wide, narrow, at) || !this.#compareValues(wide, narrow, at)) return;
    const types = typesOf(narrow);
    const may = (type: string) => types === undefined || types.includes(type) || (type === "number" && types.includes("integer"));
    for (const range of RANGES) if (may(range.type)) this.#compareBounds(range, wide, narrow, at);
    if (may("number")) this.#compareSteps(wide, narrow, at);
    if (may("object")) this.#compareObjects(wide, narrow, at);
    if (may("array")) this.#compareArrays(wide, narrow, at);
    for (const keyword of new Set([...Object.keys(wide), ...Object.keys(narrow)])) {
      if (KNOWN.has(keyword) || canonical(wide[keyword]) === canonical(narrow[keyword])) continue;
      if (wide[keyword] === undefined && CONSTRAINTS.has(keyword)) continue;
      this.#say(at, `${changed(keyword, ...this.#inTime(narrow[keyword], wide[keyword]))}, which may break callers`);
    }
  }

  /** Listed values on the narrow side are held, each by itself, against what the wide side asks for. */
  #compareListed(wide: JsonSchema, narrow: JsonSchema, values: readonly unknown[], at: string): void {
    const { enum: listed } = wide;
    const known = Array.isArray(listed) ? new Set(listed.map(canonical)) : undefined;
    const lost = values.filter((value) => (known !== undefined && !known.has(canonical(value))) || !meetsTypeAndBounds(wide, value));
    for (const value of lost) this.#lost(at, JSON.stringify(value));
    if (lost.length > 0) return;
    const isPlain = values.every((value) => typeof value !== "object" || value === null);
    for (const keyword of Object.keys(wide)) {
      if (NEVER_UNCLEAR.has(keyword) || canonical(wide[keyword]) === canonical(narrow[keyword])) continue;
      if (isPlain && (SIZES.has(keyword) || STRUCTURE.has(keyword))) continue;
      this.#say(at, `has ${keyword} instead of a list of values now, which may break callers`);
    }
  }

  /** False when types are lost, and the rest need not be looked at. */
  #compareTypes(wide: JsonSchema, narrow: JsonSchema, at: string): boolean {
    const [wanted, given] = [typesOf(wide), typesOf(narrow)];
    if (wanted === undefined) return true;
    const lost = given?.filter((type) => !wanted.includes(type) && !(type === "integer" && wanted.includes("number")));
    if (lost === undefined) this.#say(at, this.side === "input" ? `accepts only ${wanted.join(", ")} now` : "may be of any type now");
    else for (const type of lost) this.#lost(at, type === "number" && wanted.includes("integer") ? "a number that is no integer" : type);
    return lost?.length === 0;
  }

  /** False when any value may be there where some are listed. */
  #compareValues({ enum: wanted }: JsonSchema, narrow: JsonSchema, at: string): boolean {
    if (!Array.isArray(wanted)) return true;
    const known = wanted.map((value) => JSON.stringify(value));
    if (typesOf(narrow)?.join() === "boolean" && known.includes("true") && known.includes("false")) return true;
    this.#say(at, this.side === "input" ? `accepts only ${known.join(", ")} now` : `may be other than ${known.join(", ")} now`);
    return false;
  }

  #compareBounds(range: Range, wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const [bound, given] = [boundOf(wide, range), boundOf(narrow, range)];
    if (bound === undefined) return;
    if (given !== undefined && isInside(given, bound, range, typesOf(narrow)?.join() === "integer")) return;
    const [was, is] = this.#inTime(given, bound);
    const had = was === undefined ? `no ${is?.keyword}` : `the ${was.keyword} ${was.value}`;
    const has = is === undefined ? "none" : was === undefined || was.keyword === is.keyword ? is.value : `the ${is.keyword} ${is.value}`;
    this.#say(at, `had ${had} and has ${has} now`);
  }

  /** Every fourth number is a second one, too. */
  #compareSteps({ multipleOf: wanted }: JsonSchema, narrow: JsonSchema, at: string): void {
    if (typeof wanted !== "number") return;
    const given = narrow["multipleOf"] ?? (typesOf(narrow)?.join() === "integer" ? 1 : undefined);
    if (typeof given === "number" && Number.isInteger(given / wanted)) return;
    const [was, is] = this.#inTime(narrow["multipleOf"], wanted);
    this.#say(at, `had ${was === undefined ? "no multipleOf" : `the multipleOf ${was}`} and has ${is ?? "none"} now`);
  }

  #compareObjects(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const [wanted, given] = [propertiesOf(wide), propertiesOf(narrow)];
    const [needed, promised] = [namesIn(wide["required"]), namesIn(narrow["required"])];
    for (const name of needed) {
      if (!promised.has(name)) this.#say(join(at, name), this.side === "input" ? "must be given now" : "may be missing now");
    }
    for (const [name, schema] of Object.entries(wanted)) {
      const other = given[name] ?? (isRecord(narrow["additionalProperties"]) ? narrow["additionalProperties"] : undefined);
      if (other !== undefined) this.compare(schema, other, join(at, name));
      else if (this.side === "output" && !needed.has(name)) this.#say(join(at, name), "is no longer there");
    }
    const { additionalProperties: rest } = wide as { additionalProperties?: Subschema };
    for (const [name, schema] of Object.entries(given)) {
      if (name in wanted) continue;
      if (rest === undefined) this.#unnamed(join(at, name));
      else if (rest !== false) this.compare(rest, schema, join(at, name));
      // More than was promised breaks no caller; more than is accepted does.
      else if (this.side === "input") this.#say(join(at, name), "is no longer accepted");
    }
    this.#compareRest(rest, narrow["additionalProperties"] as Subschema | undefined, at);
    this.#compareNames(wide, narrow, at);
  }

  /** It may be one of any that are taken; more likely nobody looks at it any more. */
  #unnamed(at: string): void {
    if (this.side === "input") this.notes.push(`${at} is not named any more, and may be ignored`);
  }

  #compareRest(rest: Subschema | undefined, other: Subschema | undefined, at: string): void {
    if (rest === undefined || other === false) return;
    if (rest !== false) return this.compare(rest, other ?? {}, join(at, "*"));
    if (this.side === "input") this.#say(at, "no longer accepts properties that it does not name");
  }

  /** Names are strings, said or not. */
  #compareNames(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const wanted = wide["propertyNames"] as Subschema | undefined;
    if (wanted === undefined) return;
    const isClosed = narrow["additionalProperties"] === false;
    const named = { type: "string", enum: Object.keys(propertiesOf(narrow)) };
    this.compare(wanted, isClosed ? named : ((narrow["propertyNames"] as Subschema | undefined) ?? { type: "string" }), `a name in ${at}`);
  }

  #compareArrays(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const [wanted, given] = [itemsOf(wide), itemsOf(narrow)];
    const most = typeof narrow["maxItems"] === "number" ? narrow["maxItems"] : Number.POSITIVE_INFINITY;
    const places = Math.max(wanted.first.length, given.first.length);
    for (let index = 0; index < Math.min(places, most); index++) {
      this.compare(wanted.first[index] ?? wanted.rest, given.first[index] ?? given.rest, `${at}[${index}]`);
    }
    if (most > places) this.compare(wanted.rest, given.rest, `${at}[]`);
  }

  #undescribed(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    // `{}` is also what stands for a schema that cannot be written, so what it says is less than "anything".
    const after = this.side === "input" ? wide : narrow;
    if (isEmpty(after)) return this.#say(at, "is not described any more, which may break callers");
    if (this.side === "input") this.#say(at, `was not described before and accepts only ${sketch(wide)} now, which may break callers`);
  }

  /** Whether there is nothing to say; nothing is kept of it. */
  #fits(wide: Subschema, narrow: Subschema, at: string): boolean {
    const trial = new Comparison(this.side, this.wide, this.narrow, new Set(this.#seen), this.#budget);
    trial.compare(wide, narrow, at);
    return trial.found.length === 0;
  }

  #resolved(schema: Subschema, root: JsonSchema): JsonSchema {
    let current: unknown = schema;
    // A reference that leads to another is rare, one that leads in a circle a mistake.
    for (let steps = 0; steps < MAX_REFERENCES && isRecord(current) && typeof current["$ref"] === "string"; steps++) {
      const { $ref, ...beside }: Record<string, unknown> = current;
      const target = $ref === "#" ? root : lookUp(root, $ref as string);
      if (target === undefined) return current;
      current = isRecord(target) ? { ...target, ...beside } : target;
    }
    return isRecord(current) ? current : {};
  }

  /** What was first, then what is now. */
  #inTime<T>(narrow: T, wide: T): [was: T, is: T] {
    return this.side === "input" ? [narrow, wide] : [wide, narrow];
  }

  #lost(at: string, what: string): void {
    this.#say(at, this.side === "input" ? `no longer accepts ${what}` : `may now be ${what}`);
  }

  #say(at: string, phrase: string): void {
    this.found.push(`${at} ${phrase}`);
  }
}

/** Kept, since each branch of a union is held against many others. */
function written(schema: Subschema): string {
  if (typeof schema === "boolean") return String(schema);
  const known = texts.get(schema);
  const text = known ?? canonical(schema);
  if (known === undefined) texts.set(schema, text);
  return text;
}

const texts = new WeakMap<JsonSchema, string>();

/** As far as can be seen without running a stranger's pattern. */
function meetsTypeAndBounds(schema: JsonSchema, value: unknown): boolean {
  const types = typesOf(schema);
  const [type = ""] = typesOfValues([value]);
  if (types !== undefined && !types.includes(type) && !(type === "integer" && types.includes("number"))) return false;
  const { multipleOf } = schema;
  if (typeof value === "number" && typeof multipleOf === "number" && !Number.isInteger(value / multipleOf)) return false;
  if (typeof value !== "number" && typeof value !== "string") return true;
  const size = typeof value === "number" ? value : value.length;
  return RANGES.every((range) => {
    const bound = range.type === typeof value ? boundOf(schema, range) : undefined;
    return bound === undefined || isWithin(size, bound, range);
  });
}

function join(at: string, name: string): string {
  return `${at}.${name}`;
}

function changed(keyword: string, was: unknown, is: unknown): string {
  if (keyword === "x-kite")
    return was === undefined ? `is a ${is} now` : `was a ${was} and is ${is === undefined ? "none" : `a ${is}`} now`;
  if (was === undefined) return `has a ${keyword} now`;
  return is === undefined ? `has no ${keyword} any more` : `has another ${keyword} now`;
}

const MAX_REFERENCES = 32;
// Real contracts need some hundreds. Unions inside unions multiply, and who wrote them may be a stranger.
const MAX_COMPARISONS = 10_000;
const MAX_DEPTH = 500;
// What `#` leads to on both sides is what the comparison begins with.
const ROOTS = `${canonical({ $ref: "#" })} ${canonical({ $ref: "#" })}`;

const SIZES: ReadonlySet<string> = new Set([...BOUND_KEYWORDS, "multipleOf"]);
/** What says nothing of a value that is neither an object nor a list. */
const STRUCTURE: ReadonlySet<string> = new Set([
  ...["properties", "required", "additionalProperties", "propertyNames", "patternProperties", "items", "prefixItems", "uniqueItems"],
]);
const NEVER_UNCLEAR: ReadonlySet<string> = new Set(["type", "enum", "$defs", "definitions"]);
const KNOWN: ReadonlySet<string> = new Set([
  ...NEVER_UNCLEAR,
  ...SIZES,
  ...["properties", "required", "additionalProperties", "propertyNames", "items", "prefixItems"],
]);

/** Without one of these a schema only accepts more. Of other keywords nothing is known. */
const CONSTRAINTS: ReadonlySet<string> = new Set([
  "pattern",
  "format",
  "uniqueItems",
  "dependentRequired",
  "dependentSchemas",
  "not",
  "contentEncoding",
  "contentMediaType",
]);
