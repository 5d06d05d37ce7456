import type { JsonSchema } from "./json-schema.ts";
import { canonical, isRecord } from "./schema-essence.ts";

export type Subschema = JsonSchema | boolean;

export function isEmpty(schema: Subschema): boolean {
  return schema === true || (isRecord(schema) && Object.keys(schema).every((keyword) => keyword === "$defs"));
}

export function hasBranches(schema: JsonSchema): boolean {
  return schema["anyOf"] !== undefined || schema["oneOf"] !== undefined;
}

/** Libraries write `oneOf` for unions whose branches exclude each other, so it is taken for `anyOf`. */
export function split({ anyOf, oneOf, ...rest }: JsonSchema): { branches: Subschema[]; rest: JsonSchema } {
  return { branches: [anyOf, oneOf].flatMap((list) => (Array.isArray(list) ? (list as Subschema[]) : [])), rest };
}

/** The cases of a schema: its branches, its types or its values. What stands beside them holds for each. */
export function alternatives(schema: JsonSchema): Subschema[] {
  const { branches, rest } = split(schema);
  if (branches.length > 0) {
    // A branch alone allows at least as much as it does together with the rest, which is the safe side.
    return branches.flatMap((branch) =>
      isRecord(branch) ? alternatives(disjoint(rest, branch) ? { ...rest, ...branch } : branch) : [branch],
    );
  }
  const { enum: values, type } = schema;
  if (Array.isArray(values)) return byValue(schema, values);
  return Array.isArray(type) ? type.map((each) => ({ ...schema, type: each as unknown })) : [schema];
}

/** The same once more: yes and no, or an object for each value of the property that tells the wide side's branches apart. */
export function finerCases(schema: JsonSchema, branches: readonly JsonSchema[]): Subschema[] {
  if (schema["type"] === "boolean" && schema["enum"] === undefined) return byValue(schema, [true, false]);
  const properties = propertiesOf(schema);
  for (const name of namesIn(schema["required"])) {
    const property = properties[name];
    const values = valuesOf(property);
    if (values.length < 2 || !branches.some((branch) => valuesOf(propertiesOf(branch)[name]).length > 0)) continue;
    return values.map((value) => ({ ...schema, properties: { ...properties, [name]: { enum: [value] } } }));
  }
  return [];
}

/** Whether types, or the values listed for a property, show that a value of one is none of the other. */
export function areApart(a: JsonSchema, b: JsonSchema): boolean {
  const [some, others] = [typesOf(a), typesOf(b)];
  const numbers = (types: readonly string[]) => types.map((type) => (type === "integer" ? "number" : type));
  if (some !== undefined && others !== undefined && !numbers(some).some((type) => numbers(others).includes(type))) return true;
  const properties = propertiesOf(b);
  return Object.entries(propertiesOf(a)).some(([name, property]) => {
    const [listed, known] = [valuesOf(property), new Set(valuesOf(properties[name]).map(canonical))];
    return listed.length > 0 && known.size > 0 && !listed.some((value) => known.has(canonical(value)));
  });
}

/** The property by which people tell a case of a union from the others: ` (kind "circle")`. */
export function label(schema: JsonSchema): string {
  const required = namesIn(schema["required"]);
  for (const [name, property] of Object.entries(propertiesOf(schema))) {
    const values = valuesOf(property);
    if (required.has(name) && values.length === 1) return ` (${name} ${JSON.stringify(values[0])})`;
  }
  return "";
}

/**
 * One schema for all parts of `allOf`; where two say different things, the last one is believed. That allows at least as much as
 * both together.
 */
export function merged({ allOf, ...rest }: JsonSchema, resolve: (part: Subschema) => JsonSchema, depth = 0): JsonSchema {
  // A schema that is made of itself is a mistake, and adds nothing.
  if (!Array.isArray(allOf) || depth > MAX_PARTS_DEEP) return rest;
  let whole: JsonSchema = rest;
  for (const part of allOf as Subschema[]) {
    if (!isRecord(part)) continue;
    const inner = merged(resolve(part), resolve, depth + 1);
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

const MAX_PARTS_DEEP = 32;

export function typesOf({ type, enum: values }: JsonSchema): string[] | undefined {
  if (typeof type === "string") return [type];
  if (Array.isArray(type)) return type as string[];
  return Array.isArray(values) ? typesOfValues(values) : undefined;
}

export function typesOfValues(values: readonly unknown[]): string[] {
  return [...new Set(values.map(typeOf))];
}

export function propertiesOf({ properties }: JsonSchema): Record<string, Subschema> {
  return isRecord(properties) ? (properties as Record<string, Subschema>) : {};
}

export function namesIn(required: unknown): Set<string> {
  return new Set(Array.isArray(required) ? (required as string[]) : []);
}

export function itemsOf({ prefixItems, items = {} }: JsonSchema): { first: Subschema[]; rest: Subschema } {
  return { first: Array.isArray(prefixItems) ? (prefixItems as Subschema[]) : [], rest: items as Subschema };
}

/** Follows a JSON pointer such as `#/$defs/node`. */
export function lookUp(root: JsonSchema, reference: string): unknown {
  if (!reference.startsWith("#/")) return undefined;
  let found: unknown = root;
  for (const step of reference.slice(2).split("/")) {
    found = isRecord(found) ? found[decoded(step).replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return found;
}

/** As it stands where it is not encoded as it should be: a stranger may have written it. */
function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

/** A few words for what a schema allows. */
export function sketch(schema: Subschema): string {
  if (!isRecord(schema)) return "anything";
  const { enum: values, type } = schema;
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(", ");
  const kind = label(schema);
  if (kind !== "") return `an object${kind}`;
  if (typeof type === "string" && type !== "object" && type !== "array") return type;
  const text = canonical(schema);
  return text.length <= MAX_SKETCH ? text : `${text.slice(0, MAX_SKETCH)}…`;
}

const MAX_SKETCH = 120;

function byValue(schema: JsonSchema, values: readonly unknown[]): JsonSchema[] {
  return values.map((value) => ({ ...schema, enum: [value], ...(schema["type"] === undefined ? {} : { type: typeOf(value) }) }));
}

function valuesOf(property: Subschema | undefined): unknown[] {
  return isRecord(property) && Array.isArray(property["enum"]) ? property["enum"] : [];
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function disjoint(a: JsonSchema, b: JsonSchema): boolean {
  return Object.keys(a).every((keyword) => !(keyword in b));
}
