import type { Method, Methods } from "@kite-mesh/kite";
import { z } from "zod";

/** A place in the input of a method where a text goes, with the rest of the input as it should be. */
export interface TextField {
  /** Such as `people.create.external.issuer`. */
  readonly name: string;
  readonly method: string;
  /** The input with this text in that place. */
  readonly with: (text: string) => unknown;
}

/** Every place for a text in the schemas of all methods. Whatever method is added is in it without a word here. */
export function textFields(methods: Methods): TextField[] {
  return flat(methods).flatMap(([method, { options }]) =>
    schemasOf(options.input).flatMap((schema) => {
      const shape = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Shape;
      return fieldsOf(shape).map(({ path, fill }) => ({ name: [method, ...path].join("."), method, with: fill }));
    }),
  );
}

function flat(methods: Methods, prefix = ""): [string, Method][] {
  return Object.entries(methods).flatMap(([name, entry]) =>
    typeof (entry as Method).handler === "function"
      ? [[prefix + name, entry as Method] as [string, Method]]
      : flat(entry as Methods, `${prefix}${name}.`),
  );
}

/** kontrol's own `either` keeps the two schemas that it chooses between. */
function schemasOf(input: unknown): z.ZodType[] {
  if (input === undefined) return [];
  const { either } = input as { either?: readonly unknown[] };
  return either === undefined ? [input as z.ZodType] : either.flatMap(schemasOf);
}

interface Shape {
  readonly type?: string;
  readonly properties?: Record<string, Shape>;
  readonly additionalProperties?: Shape | boolean;
  readonly anyOf?: readonly Shape[];
  readonly items?: Shape;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
}

interface Field {
  readonly path: readonly string[];
  readonly fill: (text: string) => unknown;
}

function fieldsOf(shape: Shape): Field[] {
  if (shape.anyOf !== undefined) return shape.anyOf.flatMap(fieldsOf);
  if (shape.type === "string") return [{ path: [], fill: (text) => text }];
  if (shape.type === "array" && shape.items !== undefined)
    return fieldsOf(shape.items).map(({ path, fill }) => ({ path: ["0", ...path], fill: (text) => [fill(text)] }));
  if (shape.type !== "object") return [];
  const properties = Object.entries(shape.properties ?? {});
  const inner = properties.flatMap(([key, property]) =>
    fieldsOf(property).map(({ path, fill }) => ({
      path: [key, ...path],
      fill: (text: string) => ({ ...sample(shape, ""), [key]: fill(text) }),
    })),
  );
  if (typeof shape.additionalProperties !== "object" || properties.length > 0) return inner;
  return [
    { path: ["*"], fill: (text) => ({ gpu: text }) },
    { path: ["(name)"], fill: (text) => ({ [text]: "1" }) },
  ];
}

/** Something that the schema takes: what is beside a hostile field must not be what is refused. */
function sample(shape: Shape, name: string): Record<string, unknown> {
  return sampleOf(shape, name) as Record<string, unknown>;
}

function sampleOf(shape: Shape, name: string): unknown {
  if (shape.anyOf !== undefined) return shape.anyOf[0] === undefined ? undefined : sampleOf(shape.anyOf[0], name);
  if (shape.const !== undefined) return shape.const;
  if (shape.enum !== undefined) return shape.enum[0];
  if (shape.type === "string") return SAMPLES[name] ?? "sample";
  if (shape.type === "number" || shape.type === "integer") return SAMPLE_NUMBERS[name] ?? Math.max(1, shape.minimum ?? 1);
  if (shape.type === "array") return shape.items === undefined ? [] : [sampleOf(shape.items, name)];
  if (shape.type !== "object") return undefined;
  const entries = Object.entries(shape.properties ?? {}).map(([key, property]) => [key, sampleOf(property, key)]);
  // What only an older kite sends: functions, and null for what it leaves out.
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

const SAMPLES: Record<string, string> = {
  url: "http://127.0.0.1:1",
  version: "1.0.0",
  username: "target",
  labels: "gpu",
  email: "x@example.org",
  password: "correct horse battery",
};
const SAMPLE_NUMBERS: Record<string, number> = { ttlMs: 60_000, expiresAt: 4_102_444_800_000, limit: 10, before: 10 };
