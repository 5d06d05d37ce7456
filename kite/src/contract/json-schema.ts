import type { Schema } from "./standard-schema.ts";

/** A JSON Schema, draft 2020-12. `{}` accepts anything: what a contract does not say, or a schema that cannot be written as JSON. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/**
 * Writes a Standard Schema as JSON Schema: what a caller passes to it, or what it makes of that. Schemas of zod and arktype
 * can be written; valibot's when they were wrapped by `toStandardJsonSchema` of `@valibot/to-json-schema`. It never throws:
 * what cannot be written, such as a Date or a function, is `{}`, where it stands or as a whole.
 */
export function jsonSchemaOf(schema: Schema, side: "input" | "output"): JsonSchema {
  const write = schema["~standard"].jsonSchema?.[side];
  if (write === undefined) return {};
  try {
    // Through text: what a library adds that is no JSON could not be sent.
    const { $schema: _, ...written } = JSON.parse(JSON.stringify(write(TARGET))) as Record<string, unknown>;
    return written;
  } catch {
    return {};
  }
}

// One Date must not hide the object around it: the words that zod and valibot have for "write {} and go on".
const TARGET = { target: "draft-2020-12", libraryOptions: { unrepresentable: "any", errorMode: "ignore" } } as const;

/** Whether a method does without this argument. Asked of the schema itself, since JSON Schema has no word for it. */
export function isOptional(schema: Schema): boolean {
  try {
    const result = schema["~standard"].validate(undefined);
    return !(result instanceof Promise) && result.issues === undefined;
  } catch {
    return false;
  }
}
