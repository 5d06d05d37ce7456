import { toStandardJsonSchema } from "@valibot/to-json-schema";
import { type } from "arktype";
import * as v from "valibot";
import { expect, test } from "vitest";
import { z } from "zod";
import { isOptional, type JsonSchema, jsonSchemaOf } from "./json-schema.ts";
import type { Schema } from "./standard-schema.ts";

const user: JsonSchema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "number" } },
  required: ["name"],
};

test.each<[string, Schema]>([
  ["zod", z.object({ name: z.string(), age: z.number().optional() })],
  ["arktype", type({ name: "string", "age?": "number" })],
  ["valibot, wrapped", toStandardJsonSchema(v.object({ name: v.string(), age: v.optional(v.number()) }))],
])("a schema is written as JSON Schema, whoever made it: %s", (_, schema) => {
  expect(jsonSchemaOf(schema, "input")).toEqual(user);
});

test("a schema of a library that cannot write it is {}", () => {
  expect(jsonSchemaOf(v.object({ name: v.string() }), "input")).toEqual({});
});

test("what a caller passes and what the schema makes of it are two sides", () => {
  const schema = z.object({ size: z.number().default(3) });

  expect(jsonSchemaOf(schema, "input")).toMatchObject({ properties: { size: { type: "number" } } });
  expect(jsonSchemaOf(schema, "input")).not.toHaveProperty("required");
  expect(jsonSchemaOf(schema, "output")).toMatchObject({ required: ["size"] });
});

test.each<[string, Schema]>([
  ["zod", z.object({ at: z.date(), run: z.custom<() => void>(), bytes: z.instanceof(Uint8Array), name: z.string() })],
  ["arktype", type({ at: "Date", run: "unknown", bytes: "unknown", name: "string" })],
  [
    "valibot, wrapped",
    toStandardJsonSchema(v.object({ at: v.date(), run: v.function(), bytes: v.instance(Uint8Array), name: v.string() })),
  ],
])("what has no JSON Schema is {} where it stands, and the rest is there: %s", (_, schema) => {
  expect(jsonSchemaOf(schema, "input")).toMatchObject({ properties: { at: {}, run: {}, name: { type: "string" } } });
});

test.each<[string, () => Record<string, unknown>]>([
  [
    "throws",
    () => {
      throw new TypeError("not today");
    },
  ],
  ["writes what is no JSON", () => ({ maximum: 1n })],
])("a schema that %s is {}", (_, write) => {
  const schema: Schema = {
    "~standard": { version: 1, vendor: "test", validate: (value) => ({ value }), jsonSchema: { input: write, output: write } },
  };

  expect(jsonSchemaOf(schema, "input")).toEqual({});
});

test.each<[string, Schema, boolean]>([
  ["zod's optional", z.number().optional(), true],
  ["zod's default", z.number().default(1), true],
  ["zod's number", z.number(), false],
  ["zod's unknown", z.unknown(), true],
  ["valibot's optional", v.optional(v.number()), true],
  ["arktype's number", type("number"), false],
  ["one that answers later", z.number().refine(async () => true), false],
  [
    "one that throws",
    {
      "~standard": {
        version: 1,
        vendor: "test",
        validate: () => {
          throw new TypeError("no");
        },
      },
    },
    false,
  ],
])("whether an argument may be left out, the schema knows: %s", (_, schema, expected) => {
  expect(isOptional(schema)).toBe(expected);
});
