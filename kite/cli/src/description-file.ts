import type { Identity, JsonSchema, KiteDescription, MethodDescription } from "@kite-mesh/kite";
import { Failure } from "./failure.ts";

/**
 * Reads what a kite, or a file that was saved from one, says of itself. Both come from strangers: fields that are not as they
 * should be are refused, and control characters are taken out of what people will read on a terminal.
 *
 * @param from what it came from, for the error.
 */
export function parseDescription(value: unknown, from: string): KiteDescription {
  const { kite, dialects, hash, methods } = record(value, from, "a kite's description");
  if (!Array.isArray(methods)) throw wrong(from, "methods", "a list", methods);
  return {
    kite: parseIdentity(kite, from),
    dialects: Array.isArray(dialects) ? dialects.filter((name) => typeof name === "string").map(clean) : [],
    hash: typeof hash === "string" ? clean(hash) : "",
    methods: methods.map((method, index) => parseMethod(method, `${from}, methods[${index}]`)),
  };
}

const IDENTITY = ["username", "environment", "name", "version", "region", "hostname", "id"] as const;
const ROLES = ["viewer", "operator", "owner", "anyone"] as const;
const REPETITIONS = ["idempotent", "keyed", "once"] as const;

function parseIdentity(value: unknown, from: string): Identity {
  const fields = record(value, from, "kite, an identity");
  return Object.fromEntries(
    IDENTITY.map((field) => {
      const text = fields[field];
      if (typeof text !== "string") throw wrong(from, `kite.${field}`, "text", text);
      return [field, clean(text)];
    }),
  ) as Identity;
}

function parseMethod(value: unknown, from: string): MethodDescription {
  const { name, description, role, repetition, input, required, output } = record(value, from, "a method's description");
  if (typeof name !== "string" || name === "") throw wrong(from, "name", "text", name);
  if (!Array.isArray(input)) throw wrong(from, "input", "a list of JSON Schemas", input);
  return {
    name: clean(name),
    ...(typeof description === "string" ? { description: clean(description) } : {}),
    role: oneOf(ROLES, role, `${from}, role`),
    repetition: oneOf(REPETITIONS, repetition, `${from}, repetition`),
    input: input.map(schema),
    ...(typeof required === "number" ? { required } : {}),
    output: schema(output),
  };
}

function oneOf<T extends string>(allowed: readonly T[], value: unknown, from: string): T {
  const found = allowed.find((name) => name === value);
  if (found === undefined) throw wrong(from, "it", `one of ${allowed.join(", ")}`, value);
  return found;
}

/** A schema that is none (JSON Schema also knows `true`) accepts anything. */
function schema(value: unknown): JsonSchema {
  return isRecord(value) ? value : {};
}

function record(value: unknown, from: string, what: string): Readonly<Record<string, unknown>> {
  if (isRecord(value)) return value;
  throw new Failure(`${from} should hold ${what}, and holds ${shown(value)}; save one with kite docs <kite> --format json`);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(from: string, field: string, expected: string, got: unknown): Failure {
  return new Failure(`${from}: ${field} should be ${expected}, and is ${shown(got)}`);
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "missing").slice(0, 60);
}

function clean(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]/gu, "");
}
