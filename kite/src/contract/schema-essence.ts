import type { JsonSchema } from "./json-schema.ts";

/**
 * A schema without what is only said about it, and with one spelling for what can be spelled in several ways: two schemas
 * that are written alike after this are the same to a caller.
 */
export function essence(schema: unknown): unknown {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) return schema;
  const kept: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(schema)) {
    if (ANNOTATIONS.has(keyword)) continue;
    if (keyword === "const") kept["enum"] = [value];
    else if (SETS.has(keyword) && Array.isArray(value)) kept[keyword] = sorted(value);
    else if (MAPS.has(keyword) && isRecord(value)) kept[keyword] = mapValues(value, essence);
    else if (LISTS.has(keyword) && Array.isArray(value)) kept[keyword] = value.map(essence);
    else if (SCHEMAS.has(keyword)) kept[keyword] = essence(value);
    else kept[keyword] = value;
  }
  for (const [keyword, value] of Object.entries(kept)) if (saysNothing(keyword, value)) delete kept[keyword];
  return single(kept);
}

/** JSON with the properties of every object in one order. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    isRecord(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  );
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const ANNOTATIONS: ReadonlySet<string> = new Set([
  "$schema",
  "$comment",
  "title",
  "description",
  "default",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
]);
const SETS: ReadonlySet<string> = new Set(["required", "type", "enum"]);
const MAPS: ReadonlySet<string> = new Set(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"]);
const LISTS: ReadonlySet<string> = new Set(["anyOf", "oneOf", "allOf", "prefixItems"]);
const SCHEMAS: ReadonlySet<string> = new Set([
  "items",
  "additionalProperties",
  "unevaluatedItems",
  "unevaluatedProperties",
  "contains",
  "propertyNames",
  "not",
  "if",
  "then",
  "else",
]);

function saysNothing(keyword: string, value: unknown): boolean {
  switch (keyword) {
    case "items":
    case "additionalProperties":
      return value === true || (isRecord(value) && Object.keys(value).length === 0);
    case "required":
      return Array.isArray(value) && value.length === 0;
    case "properties":
      return isRecord(value) && Object.keys(value).length === 0;
    case "minLength":
    case "minItems":
    case "minProperties":
      return value === 0;
    default:
      return false;
  }
}

/** A list of one type is that type. */
function single(schema: Record<string, unknown>): JsonSchema {
  const { type } = schema;
  return Array.isArray(type) && type.length === 1 ? { ...schema, type: type[0] } : schema;
}

function sorted(values: readonly unknown[]): unknown[] {
  const byText = new Map(values.map((value) => [canonical(value), value]));
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value);
}

function mapValues(record: Record<string, unknown>, change: (value: unknown) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}
