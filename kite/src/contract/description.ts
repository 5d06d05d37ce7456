import type { Identity } from "../identity.ts";
import { flattenMethods, inputSchemas, type Methods, type Repetition, type Role } from "../method.ts";
import { isOptional, type JsonSchema, jsonSchemaOf } from "./json-schema.ts";

/** What a method says of itself, as plain data. */
export interface MethodDescription {
  readonly name: string;
  readonly description?: string | undefined;
  readonly role: Role | "anyone";
  /** What may be done when an answer did not come; see {@link Repetition}. */
  readonly repetition: Repetition;
  /** One schema for each positional argument, as the caller writes it. */
  readonly input: readonly JsonSchema[];
  /** How many of them must be given, where those after may be left out; undefined: all. */
  readonly required?: number | undefined;
  /** What the caller gets. */
  readonly output: JsonSchema;
}

/** The answer of `kite.describe`. */
export interface KiteDescription {
  readonly kite: Identity;
  /** The dialects that it speaks. */
  readonly dialects: readonly string[];
  /** SHA-256 in hexadecimal over what callers depend on: equal hashes are equal contracts. */
  readonly hash: string;
  /** By name; the built-in `kite.*` methods are left out. */
  readonly methods: readonly MethodDescription[];
}

/** What a tree of methods says of itself, by name. */
export function describeMethods(methods: Methods): MethodDescription[] {
  const flat = [...flattenMethods(methods)].sort(([a], [b]) => (a < b ? -1 : 1));
  return flat.map(([name, { options }]) => {
    const { description, role = "owner", repetition = "once", output } = options;
    const schemas = inputSchemas(options.input);
    const required = schemas.findLastIndex((schema) => !isOptional(schema)) + 1;
    return {
      name,
      ...(description === undefined ? {} : { description }),
      role,
      repetition,
      input: schemas.map((schema) => jsonSchemaOf(schema, "input")),
      ...(required < schemas.length ? { required } : {}),
      output: output === undefined ? {} : jsonSchemaOf(output, "output"),
    };
  });
}
