import type { JsonSchema, MethodDescription } from "@kite-mesh/kite";

// A type that is deeper than this is read in its JSON Schema; on one line nobody could follow it.
const MAX_DEPTH = 8;

/**
 * A JSON Schema as a TypeScript reader would write it. What the words of TypeScript cannot say (a pattern, a minimum) is left out.
 *
 * @example typeText({ type: "array", items: { type: "number" } }) // "number[]"
 */
export function typeText(schema: unknown): string {
  return write(schema, { root: schema, depth: 0, refs: [] }).text;
}

/**
 * One line that says how a method is called.
 *
 * @example signature(square) // "square(value: number): Promise<number>"
 */
export function signature({ name, input, required = input.length, output }: MethodDescription): string {
  const args = input.map((schema, index) => {
    return `${argumentName(schema, index, input.length)}${index < required ? "" : "?"}: ${typeText(schema)}`;
  });
  return `${name}(${args.join(", ")}): Promise<${typeText(output)}>`;
}

/** What an argument is called: contracts give types, and names only where a schema has a title. */
export function argumentName(schema: JsonSchema, index: number, count: number): string {
  const title = schema["title"];
  if (typeof title === "string" && IDENTIFIER.test(title)) return title;
  return count === 1 ? "value" : `value${index + 1}`;
}

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

interface Place {
  readonly root: unknown;
  readonly depth: number;
  /** The references that led here; one that is met again is a type within itself. */
  readonly refs: readonly string[];
}

/** A type, and whether it needs parentheses before `[]` or beside `&`. */
interface Written {
  readonly text: string;
  readonly compound?: boolean;
}

/** What travels beside JSON, and has no word in JSON Schema. */
const CARRIED: Readonly<Record<string, Written>> = {
  callback: { text: "(...args: unknown[]) => void", compound: true },
  stream: { text: "AsyncIterable<unknown>" },
  bytes: { text: "Uint8Array" },
};

function write(schema: unknown, place: Place): Written {
  if (schema === false) return { text: "never" };
  if (!isObject(schema) || place.depth > MAX_DEPTH) return { text: "unknown" };
  const inner = { ...place, depth: place.depth + 1 };
  if (typeof schema["$ref"] === "string") return reference(schema["$ref"], inner);
  if ("const" in schema) return { text: literal(schema["const"]) };
  if (Array.isArray(schema["enum"])) return union(schema["enum"].map((value) => ({ text: literal(value) })));
  const choices = schema["anyOf"] ?? schema["oneOf"];
  if (Array.isArray(choices)) return union(choices.map((choice) => write(choice, inner)));
  const { allOf, ...rest } = schema;
  if (Array.isArray(allOf)) return both([rest, ...allOf].map((part) => write(part, inner)));
  // What zod has for what nothing is.
  if (isObject(schema["not"]) && Object.keys(schema["not"]).length === 0) return { text: "never" };
  const carried = CARRIED[String(schema["x-kite"])];
  if (carried !== undefined) return carried;
  const type = schema["type"];
  if (Array.isArray(type)) return union(type.map((name) => write({ ...schema, type: name }, inner)));
  return named(type, schema, inner);
}

function named(type: unknown, schema: JsonSchema, place: Place): Written {
  switch (type) {
    case "string":
    case "number":
    case "boolean":
    case "null":
      return { text: type };
    case "integer":
      return { text: "number" };
    case "array":
      return list(schema, place);
    case "object":
      return object(schema, place);
    default:
      return "properties" in schema ? object(schema, place) : { text: "unknown" };
  }
}

function reference(ref: string, place: Place): Written {
  const name = ref.split("/").at(-1) ?? "";
  if (place.refs.includes(ref)) return { text: ref === "#" || !IDENTIFIER.test(name) ? "unknown" : name };
  return write(resolve(place.root, ref), { ...place, refs: [...place.refs, ref] });
}

/** A reference within the document, such as `#/$defs/Node`; one that leads out of it says nothing here. */
function resolve(root: unknown, ref: string): unknown {
  if (!ref.startsWith("#")) return {};
  const steps = ref.slice(1).split("/").filter(Boolean);
  return steps.reduce<unknown>((at, step) => (isObject(at) ? at[step.replaceAll("~1", "/").replaceAll("~0", "~")] : undefined), root);
}

function list(schema: JsonSchema, place: Place): Written {
  const { prefixItems, items } = schema;
  if (Array.isArray(prefixItems)) {
    const rest = isObject(items) ? [`...${arrayOf(write(items, place))}`] : [];
    return { text: `[${[...prefixItems.map((item) => write(item, place).text), ...rest].join(", ")}]` };
  }
  return { text: arrayOf(write(items ?? {}, place)) };
}

function arrayOf({ text, compound = false }: Written): string {
  return compound ? `(${text})[]` : `${text}[]`;
}

function object(schema: JsonSchema, place: Place): Written {
  const properties = isObject(schema["properties"]) ? schema["properties"] : {};
  const required = new Set(Array.isArray(schema["required"]) ? schema["required"] : []);
  const fields = Object.entries(properties).map(([name, value]) => {
    return `${IDENTIFIER.test(name) ? name : JSON.stringify(name)}${required.has(name) ? "" : "?"}: ${write(value, place).text}`;
  });
  const others = schema["additionalProperties"];
  if (fields.length === 0) return { text: `Record<string, ${isObject(others) ? write(others, place).text : "unknown"}>` };
  if (isObject(others) && Object.keys(others).length > 0) fields.push(`[name: string]: ${write(others, place).text}`);
  return { text: `{ ${fields.join("; ")} }` };
}

function union(parts: readonly Written[]): Written {
  const texts = [...new Set(parts.map(({ text }) => text))];
  const [only] = texts;
  if (texts.includes("unknown") || only === undefined) return { text: "unknown" };
  return texts.length === 1 ? { text: only } : { text: texts.join(" | "), compound: true };
}

function both(parts: readonly Written[]): Written {
  const known = parts.filter(({ text }) => text !== "unknown");
  const [only] = known;
  if (only === undefined) return { text: "unknown" };
  if (known.length === 1) return only;
  return { text: known.map(({ text, compound = false }) => (compound ? `(${text})` : text)).join(" & "), compound: true };
}

function literal(value: unknown): string {
  return isObject(value) || Array.isArray(value) ? "unknown" : JSON.stringify(value);
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
