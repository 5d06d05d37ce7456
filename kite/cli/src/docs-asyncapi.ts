import { formatIdentity, type JsonSchema, type KiteDescription, type MethodDescription } from "@kite-mesh/kite";

/**
 * A kite as an AsyncAPI 3.0 document: every method is a channel on which the kite receives a call and replies to it. Schemas
 * are rewritten from JSON Schema 2020-12 to draft 7, which is what AsyncAPI speaks.
 */
export function asyncapi({ kite, dialects, hash, methods }: KiteDescription): JsonSchema {
  const keys = uniqueKeys(methods);
  const named = methods.map((method, index) => [keys[index] ?? "", method] as const);
  return {
    asyncapi: "3.0.0",
    info: {
      title: kite.name,
      version: kite.version,
      description: `The kite ${formatIdentity(kite)}. A call carries a list of arguments; how both travel is kite's protocol, which frames them.`,
      "x-kite": { identity: kite, dialects, hash },
    },
    defaultContentType: "application/json",
    channels: Object.fromEntries(named.map(([key, method]) => [key, channel(key, method)])),
    operations: Object.fromEntries(named.map(([key, method]) => [key, operation(key, method)])),
    components: {
      schemas: Object.fromEntries(named.flatMap(([key, method]) => schemas(key, method))),
      messages: { error: ERROR },
    },
  };
}

const ERROR = {
  name: "error",
  title: "A call that failed",
  payload: {
    type: "object",
    required: ["code", "message"],
    properties: {
      code: { type: "string" },
      message: { type: "string" },
      outcome: { enum: ["not_run", "unknown"], description: "Whether the call may have run." },
      reason: { type: "string" },
      details: { type: "object" },
    },
  },
};

function channel(key: string, { name, input, required = input.length }: MethodDescription): JsonSchema {
  const items = input.map((_, index) => reference(argumentKey(key, index)));
  const list = { type: "array", items, additionalItems: false, minItems: required };
  return {
    address: name,
    messages: {
      // Draft 7 has no empty list of items.
      call: { name: "call", payload: input.length === 0 ? { type: "array", maxItems: 0 } : list },
      result: { name: "result", payload: reference(resultKey(key)) },
      error: { $ref: "#/components/messages/error" },
    },
  };
}

function operation(key: string, { description, role, repetition }: MethodDescription): JsonSchema {
  const at = `#/channels/${key}`;
  return {
    action: "receive",
    channel: { $ref: at },
    ...(description === undefined ? {} : { summary: description }),
    messages: [{ $ref: `${at}/messages/call` }],
    reply: { channel: { $ref: at }, messages: [{ $ref: `${at}/messages/result` }, { $ref: `${at}/messages/error` }] },
    "x-kite-role": role,
    "x-kite-repetition": repetition,
  };
}

function schemas(key: string, { input, output }: MethodDescription): [string, JsonSchema][] {
  const named = [...input.map((schema, index) => [argumentKey(key, index), schema] as const), [resultKey(key), output] as const];
  return named.map(([name, schema]) => [name, draft7(schema, `#/components/schemas/${name}`)]);
}

const argumentKey = (key: string, index: number): string => `${key}.argument${index + 1}`;
const resultKey = (key: string): string => `${key}.result`;
const reference = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });

/** Keys may have letters, digits, dots, dashes and underscores; two methods that become the same get a number. */
function uniqueKeys(methods: readonly MethodDescription[]): string[] {
  const taken = new Set<string>();
  return methods.map(({ name }) => {
    const plain = name.replaceAll(/[^\w.-]/g, "_");
    let key = plain;
    for (let n = 2; taken.has(key); n++) key = `${plain}_${n}`;
    taken.add(key);
    return key;
  });
}

const ONE_SCHEMA = ["additionalProperties", "contains", "else", "if", "not", "propertyNames", "then", "items"];
const LIST_OF_SCHEMAS = ["allOf", "anyOf", "oneOf"];
const MAP_OF_SCHEMAS = ["properties", "patternProperties"];

/** The same schema in the words of draft 7, with its references pointing to where it now stands. */
function draft7(schema: unknown, base: string): JsonSchema {
  if (!isObject(schema)) return schema as unknown as JsonSchema;
  const inner = (value: unknown) => draft7(value, base);
  const written: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === "$schema" || key === "$id") continue;
    if (key === "$ref" && typeof value === "string")
      written[key] = value.startsWith("#") ? base + value.slice(1).replace("/$defs/", DEFINITIONS) : value;
    else if (key === "$defs" && isObject(value)) written["definitions"] = mapValues(value, inner);
    else if (key === "prefixItems" && Array.isArray(value)) written["items"] = value.map(inner);
    else if (key === "items" && "prefixItems" in schema) written["additionalItems"] = inner(value);
    else if (ONE_SCHEMA.includes(key)) written[key] = inner(value);
    else if (LIST_OF_SCHEMAS.includes(key) && Array.isArray(value)) written[key] = value.map(inner);
    else if (MAP_OF_SCHEMAS.includes(key) && isObject(value)) written[key] = mapValues(value, inner);
    else written[key] = value;
  }
  return written;
}

const DEFINITIONS = "/definitions/";

function mapValues(values: JsonSchema, change: (value: unknown) => unknown): JsonSchema {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value)]));
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
