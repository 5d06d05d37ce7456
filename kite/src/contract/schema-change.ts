import type { JsonSchema } from "./json-schema.ts";
import { canonical, isRecord } from "./schema-essence.ts";

/** What is passed must still be accepted; what comes back must still be expected. */
type Side = "input" | "output";

/**
 * Why a change of a schema may break its callers, a phrase each: `size.width no longer accepts null`. Both schemas are in
 * their essence. An input may only widen and an output only narrow; where neither is certain, it counts as breaking.
 */
export function schemaBreaks(side: Side, before: JsonSchema, after: JsonSchema, at: string): string[] {
  const comparison = side === "input" ? new Comparison(side, after, before) : new Comparison(side, before, after);
  comparison.compare(comparison.wide, comparison.narrow, at);
  return [...new Set(comparison.found)];
}

type Subschema = JsonSchema | boolean;

/** Looks for what `narrow` allows and `wide` does not. */
class Comparison {
  readonly side: Side;
  readonly wide: JsonSchema;
  readonly narrow: JsonSchema;
  readonly #seen: Set<string>;
  readonly found: string[] = [];

  constructor(side: Side, wide: JsonSchema, narrow: JsonSchema, seen = new Set([ROOTS])) {
    this.side = side;
    this.wide = wide;
    this.narrow = narrow;
    this.#seen = seen;
  }

  compare(wideHere: Subschema, narrowHere: Subschema, at: string): void {
    if (narrowHere === false) return;
    if (wideHere === false) return this.#lost(at, "anything");
    const [wide, narrow] = [this.#resolved(wideHere, this.wide), this.#resolved(narrowHere, this.narrow)];
    const pair = `${canonical(wideHere)} ${canonical(narrowHere)}`;
    // A schema that contains itself: what is being compared already is not compared again inside itself.
    if (pair.includes('"$ref"')) {
      if (this.#seen.has(pair)) return;
      this.#seen.add(pair);
    } else if (canonical(wide) === canonical(narrow)) return;
    if (isEmpty(wide) || isEmpty(narrow)) return this.#undescribed(wide, narrow, at);
    const whole = merged(narrow);
    if (wide["allOf"] !== undefined) return this.#compareAll(wide, whole, at);
    if (hasBranches(wide) || hasBranches(whole)) return this.#compareBranches(wide, whole, at);
    this.#compareKeywords(wide, whole, at);
  }

  #compareAll({ allOf, ...rest }: JsonSchema, narrow: JsonSchema, at: string): void {
    for (const part of [...(allOf as Subschema[]), rest]) if (!isEmpty(part)) this.compare(part, narrow, at);
  }

  /** Every branch of the narrow side must fit into one of the wide side. */
  #compareBranches(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const { branches, rest } = split(wide);
    if (branches.length === 0) {
      for (const branch of alternatives(narrow)) this.compare(wide, branch, at);
      return;
    }
    if (!isEmpty(rest)) this.compare(rest, narrow, at);
    for (const branch of alternatives(narrow)) {
      if (!branches.some((candidate) => this.#fits(candidate, branch, at))) this.#lost(at, sketch(branch));
    }
  }

  #compareKeywords(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    if (!this.#compareTypes(wide, narrow, at)) return;
    this.#compareValues(wide, narrow, at);
    const types = typesOf(narrow);
    const may = (type: string) => types === undefined || types.includes(type) || (type === "number" && types.includes("integer"));
    for (const [keyword, type, isUpper] of LIMITS) if (may(type)) this.#compareLimit(keyword, isUpper, wide, narrow, at);
    if (may("object")) this.#compareObjects(wide, narrow, at);
    if (may("array")) this.#compareArrays(wide, narrow, at);
    for (const keyword of new Set([...Object.keys(wide), ...Object.keys(narrow)])) {
      if (KNOWN.has(keyword) || canonical(wide[keyword]) === canonical(narrow[keyword])) continue;
      if (wide[keyword] === undefined && CONSTRAINTS.has(keyword)) continue;
      this.#say(at, `has another ${keyword} now, which may break callers`);
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

  #compareValues(wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const [wanted, given] = [wide["enum"], narrow["enum"]] as [unknown[] | undefined, unknown[] | undefined];
    if (wanted === undefined) {
      const bounds = given === undefined ? [] : Object.keys(wide).filter((keyword) => keyword !== "type" && !keyword.startsWith("$"));
      for (const keyword of bounds) this.#say(at, `has ${keyword} instead of a list of values now, which may break callers`);
      return;
    }
    if (given === undefined) {
      const list = wanted.map((value) => JSON.stringify(value)).join(", ");
      return this.#say(at, this.side === "input" ? `accepts only ${list} now` : `may be other than ${list} now`);
    }
    const known = new Set(wanted.map(canonical));
    for (const value of given) if (!known.has(canonical(value))) this.#lost(at, JSON.stringify(value));
  }

  #compareLimit(keyword: string, isUpper: boolean, wide: JsonSchema, narrow: JsonSchema, at: string): void {
    const [bound, given] = [wide[keyword], narrow[keyword]];
    if (typeof bound !== "number" || narrow["enum"] !== undefined) return;
    if (typeof given === "number" && (isUpper ? given <= bound : given >= bound)) return;
    const [was, is] = this.side === "input" ? [given, bound] : [bound, given];
    this.#say(at, `had ${was === undefined ? "no" : `the`} ${keyword}${was === undefined ? "" : ` ${was}`} and has ${is ?? "none"} now`);
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
      if (name in wanted || rest === undefined) continue;
      if (rest !== false) this.compare(rest, schema, join(at, name));
      // More than was promised breaks no caller; more than is accepted does.
      else if (this.side === "input") this.#say(join(at, name), "is no longer accepted");
    }
    this.#compareRest(rest, narrow["additionalProperties"] as Subschema | undefined, at);
  }

  #compareRest(rest: Subschema | undefined, other: Subschema | undefined, at: string): void {
    if (rest === undefined || other === false) return;
    if (rest !== false) return this.compare(rest, other ?? {}, join(at, "*"));
    if (this.side === "input") this.#say(at, "no longer accepts properties that it does not name");
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
    const trial = new Comparison(this.side, this.wide, this.narrow, new Set(this.#seen));
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

  #lost(at: string, what: string): void {
    this.#say(at, this.side === "input" ? `no longer accepts ${what}` : `may now be ${what}`);
  }

  #say(at: string, phrase: string): void {
    this.found.push(`${at} ${phrase}`);
  }
}

const MAX_REFERENCES = 32;
// What `#` leads to on both sides is what the comparison begins with.
const ROOTS = `${canonical({ $ref: "#" })} ${canonical({ $ref: "#" })}`;

const LIMITS: readonly (readonly [keyword: string, type: string, isUpper: boolean])[] = [
  ["maximum", "number", true],
  ["exclusiveMaximum", "number", true],
  ["minimum", "number", false],
  ["exclusiveMinimum", "number", false],
  ["maxLength", "string", true],
  ["minLength", "string", false],
  ["maxItems", "array", true],
  ["minItems", "array", false],
  ["maxProperties", "object", true],
  ["minProperties", "object", false],
];

const KNOWN: ReadonlySet<string> = new Set([
  ...LIMITS.map(([keyword]) => keyword),
  ...["type", "enum", "properties", "required", "additionalProperties", "items", "prefixItems", "$defs", "definitions"],
]);

/** Without one of these a schema only accepts more. Of other keywords nothing is known. */
const CONSTRAINTS: ReadonlySet<string> = new Set([
  "pattern",
  "format",
  "multipleOf",
  "uniqueItems",
  "propertyNames",
  "dependentRequired",
  "dependentSchemas",
  "not",
  "contentEncoding",
  "contentMediaType",
]);

function isEmpty(schema: Subschema): boolean {
  return schema === true || (isRecord(schema) && Object.keys(schema).every((keyword) => keyword === "$defs"));
}

function hasBranches(schema: JsonSchema): boolean {
  return schema["anyOf"] !== undefined || schema["oneOf"] !== undefined;
}

/** Libraries write `oneOf` for unions whose branches exclude each other, so it is taken for `anyOf`. */
function split({ anyOf, oneOf, ...rest }: JsonSchema): { branches: Subschema[]; rest: JsonSchema } {
  return { branches: [anyOf, oneOf].flatMap((list) => (Array.isArray(list) ? (list as Subschema[]) : [])), rest };
}

/** The cases of a schema: its branches, its types or its values. What stands beside them holds for each. */
function alternatives(schema: JsonSchema): Subschema[] {
  const { branches, rest } = split(schema);
  if (branches.length > 0) {
    // A branch alone allows at least as much as it does together with the rest, which is the safe side.
    return branches.flatMap((branch) =>
      isRecord(branch) ? alternatives(disjoint(rest, branch) ? { ...rest, ...branch } : branch) : [branch],
    );
  }
  const { enum: values, type } = schema;
  if (Array.isArray(values))
    return values.map((value) => ({ ...schema, enum: [value], ...(type === undefined ? {} : { type: typeOf(value) }) }));
  return Array.isArray(type) ? type.map((each) => ({ ...schema, type: each as unknown })) : [schema];
}

function disjoint(a: JsonSchema, b: JsonSchema): boolean {
  return Object.keys(a).every((keyword) => !(keyword in b));
}

/** One schema for all parts of `allOf`; where two say different things of one property, the last one is believed. */
function merged({ allOf, ...rest }: JsonSchema): JsonSchema {
  if (!Array.isArray(allOf)) return rest;
  let whole: JsonSchema = rest;
  for (const part of allOf as Subschema[]) {
    if (!isRecord(part)) continue;
    const inner = merged(part);
    const properties = { ...propertiesOf(whole), ...propertiesOf(inner) };
    const required = [...new Set([...namesIn(whole["required"]), ...namesIn(inner["required"])])];
    whole = {
      ...whole,
      ...inner,
      ...(Object.keys(properties).length > 0 ? { properties } : {}),
      ...(required.length > 0 ? { required } : {}),
    };
  }
  return whole;
}

function typesOf({ type, enum: values }: JsonSchema): string[] | undefined {
  if (typeof type === "string") return [type];
  if (Array.isArray(type)) return type as string[];
  return Array.isArray(values) ? [...new Set(values.map(typeOf))] : undefined;
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function propertiesOf({ properties }: JsonSchema): Record<string, Subschema> {
  return isRecord(properties) ? (properties as Record<string, Subschema>) : {};
}

function namesIn(required: unknown): Set<string> {
  return new Set(Array.isArray(required) ? (required as string[]) : []);
}

function itemsOf({ prefixItems, items = {} }: JsonSchema): { first: Subschema[]; rest: Subschema } {
  return { first: Array.isArray(prefixItems) ? (prefixItems as Subschema[]) : [], rest: items as Subschema };
}

/** Follows a JSON pointer such as `#/$defs/node`. */
function lookUp(root: JsonSchema, reference: string): unknown {
  if (!reference.startsWith("#/")) return undefined;
  let found: unknown = root;
  for (const step of reference.slice(2).split("/")) {
    found = isRecord(found) ? found[decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return found;
}

function join(at: string, name: string): string {
  return `${at}.${name}`;
}

/** A few words for what a schema allows. */
function sketch(schema: Subschema): string {
  if (!isRecord(schema)) return "anything";
  const { enum: values, type } = schema;
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(", ");
  if (typeof type === "string" && type !== "object" && type !== "array") return type;
  const text = canonical(schema);
  return text.length <= MAX_SKETCH ? text : `${text.slice(0, MAX_SKETCH)}…`;
}

const MAX_SKETCH = 120;
