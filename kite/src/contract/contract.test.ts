import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "zod";
import { type MethodOptions, method } from "../method.ts";
import { type Contract, compareContracts, contractHash } from "./contract.ts";
import { describeMethods, type MethodDescription } from "./description.ts";
import type { JsonSchema } from "./json-schema.ts";

function contractOf(options: MethodOptions): Contract {
  return { methods: describeMethods({ work: method(options, () => undefined as never) }) };
}

function input(before: z.ZodType | z.ZodType[], after: z.ZodType | z.ZodType[]): [boolean, string][] {
  return compareContracts(contractOf({ input: before }), contractOf({ input: after })).map(({ breaking, message }) => [breaking, message]);
}

function output(before: z.ZodType, after: z.ZodType): [boolean, string][] {
  return compareContracts(contractOf({ output: before }), contractOf({ output: after })).map(({ breaking, message }) => [
    breaking,
    message,
  ]);
}

const widened: [boolean, string][] = [[false, "accepts more than before"]];
const narrowed: [boolean, string][] = [[false, "promises more of its result than before"]];

test.each<[string, z.ZodType, z.ZodType, [boolean, string][]]>([
  ["a new property that may be left out", z.object({ a: z.string() }), z.object({ a: z.string(), b: z.string().optional() }), widened],
  ["a new property with a default", z.object({}), z.object({ b: z.string().default("x") }), widened],
  ["a new property that must be there", z.object({}), z.object({ b: z.string() }), [[true, "argument 1.b must be given now"]]],
  [
    "a property that became required",
    z.object({ b: z.int().optional() }),
    z.object({ b: z.int() }),
    [[true, "argument 1.b must be given now"]],
  ],
  ["a property that is ignored now", z.object({ a: z.string(), b: z.string() }), z.object({ a: z.string() }), widened],
  [
    "a property that is refused now",
    z.strictObject({ a: z.string(), b: z.string().optional() }),
    z.strictObject({ a: z.string() }),
    [[true, "argument 1.b is no longer accepted"]],
  ],
  ["a strict object", z.object({}), z.strictObject({}), [[true, "argument 1 no longer accepts properties that it does not name"]]],
  ["one value more", z.enum(["x"]), z.enum(["x", "y"]), widened],
  ["one value less", z.enum(["x", "y"]), z.enum(["x"]), [[true, 'argument 1 no longer accepts "y"']]],
  ["values instead of any text", z.string(), z.enum(["x"]), [[true, 'argument 1 accepts only "x" now']]],
  ["any text instead of values", z.enum(["x"]), z.string(), widened],
  ["null besides", z.string(), z.string().nullable(), widened],
  ["null no more", z.string().nullable(), z.string(), [[true, "argument 1 no longer accepts null"]]],
  ["another type", z.string(), z.number(), [[true, "argument 1 no longer accepts string"]]],
  ["whole numbers only", z.number(), z.int(), [[true, "argument 1 no longer accepts a number that is no integer"]]],
  ["all numbers", z.int(), z.number(), widened],
  ["a lower maximum", z.number().max(10), z.number().max(5), [[true, "argument 1 had the maximum 10 and has 5 now"]]],
  ["a higher maximum", z.number().max(5), z.number().max(10), widened],
  ["a length", z.string(), z.string().min(2), [[true, "argument 1 had no minLength and has 2 now"]]],
  ["a pattern", z.string(), z.string().regex(/x/), [[true, "argument 1 has another pattern now, which may break callers"]]],
  ["a pattern less", z.string().regex(/x/), z.string(), widened],
  [
    "a type deep inside",
    z.object({ a: z.array(z.object({ b: z.number() })) }),
    z.object({ a: z.array(z.object({ b: z.string() })) }),
    [[true, "argument 1.a[].b no longer accepts number"]],
  ],
  [
    "a record of another type",
    z.record(z.string(), z.number()),
    z.record(z.string(), z.string()),
    [[true, "argument 1.* no longer accepts number"]],
  ],
  ["a longer tuple", z.tuple([z.string()]), z.tuple([z.string(), z.string()]), [[true, "argument 1 had the minItems 1 and has 2 now"]]],
  ["a union with one branch more", z.union([z.string(), z.object({})]), z.union([z.string(), z.object({}), z.int()]), widened],
  [
    "a union with one branch less",
    z.union([z.string(), z.object({ a: z.int() })]),
    z.string(),
    [[true, "argument 1 no longer accepts object"]],
  ],
  ["a schema that says nothing", z.string(), z.date(), [[true, "argument 1 is not described any more, which may break callers"]]],
  [
    "a schema where there was none",
    z.date(),
    z.string(),
    [[true, "argument 1 was not described before and accepts only string now, which may break callers"]],
  ],
])("an argument may only accept more: %s", (_, before, after, expected) => {
  expect(input(before, after)).toEqual(expected);
});

test.each<[string, z.ZodType, z.ZodType, [boolean, string][]]>([
  ["a new property", z.object({ a: z.string() }), z.object({ a: z.string(), b: z.string() }), narrowed],
  ["a property less", z.object({ a: z.string() }), z.object({}), [[true, "the result.a may be missing now"]]],
  ["an optional property less", z.object({ a: z.string().optional() }), z.object({}), [[true, "the result.a is no longer there"]]],
  [
    "a property that may be missing",
    z.object({ a: z.string() }),
    z.object({ a: z.string().optional() }),
    [[true, "the result.a may be missing now"]],
  ],
  ["a property that is always there now", z.object({ a: z.string().optional() }), z.object({ a: z.string() }), narrowed],
  ["one value more", z.enum(["x"]), z.enum(["x", "y"]), [[true, 'the result may now be "y"']]],
  ["one value less", z.enum(["x", "y"]), z.enum(["x"]), narrowed],
  ["null besides", z.string(), z.string().nullable(), [[true, "the result may now be null"]]],
  ["any text instead of values", z.enum(["x"]), z.string(), [[true, 'the result may be other than "x" now']]],
  ["a promise where there was none", z.unknown(), z.string(), narrowed],
  ["no promise any more", z.string(), z.unknown(), [[true, "the result is not described any more, which may break callers"]]],
  ["a higher maximum", z.number().max(5), z.number().max(10), [[true, "the result had the maximum 5 and has 10 now"]]],
  ["a maximum less", z.number().max(5), z.number(), [[true, "the result had the maximum 5 and has none now"]]],
])("a result may only promise more: %s", (_, before, after, expected) => {
  expect(output(before, after)).toEqual(expected);
});

test("a new argument may be left out, and none may go", () => {
  expect(input([z.int()], [z.int(), z.int().optional()])).toEqual(widened);
  expect(input([z.int()], [z.int(), z.int()])).toEqual([[true, "argument 2 must be given now"]]);
  expect(input([z.int(), z.int()], [z.int()])).toEqual([[true, "takes 1 arguments and took 2; more are refused"]]);
});

test.each<[MethodOptions, MethodOptions, [string, boolean][]]>([
  [{ role: "viewer" }, { role: "operator" }, [["role", true]]],
  [{ role: "viewer" }, { role: "anyone" }, [["role", false]]],
  [{}, { role: "owner" }, []],
  [{ repetition: "idempotent" }, { repetition: "keyed" }, [["repetition", true]]],
  [{ repetition: "idempotent" }, {}, [["repetition", true]]],
  [{}, { repetition: "keyed" }, [["repetition", false]]],
  [{ repetition: "once" }, {}, []],
  [{ description: "Squares." }, { description: "Squares a number." }, []],
])("%j → %j", (before, after, expected) => {
  expect(compareContracts(contractOf(before), contractOf(after)).map(({ kind, breaking }) => [kind, breaking])).toEqual(expected);
});

test("a schema that contains itself is compared, and its change found", () => {
  const tree = (value: z.ZodType): z.ZodType => {
    const node: z.ZodType = z.object({
      value,
      get children() {
        return z.array(node);
      },
    });
    return node;
  };

  expect(input(tree(z.string()), tree(z.string()))).toEqual([]);
  expect(input(tree(z.string()), tree(z.union([z.string(), z.int()])))).toEqual(widened);
  expect(input(tree(z.string()), tree(z.int()))).toEqual([[true, "argument 1.value no longer accepts string"]]);
});

test("references that lead nowhere or in a circle end the comparison, not the program", () => {
  const circle = { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/a" } } };
  const methods = (schema: JsonSchema): Contract => ({ methods: [{ ...plain, input: [schema], required: 1 }] });

  const changes = compareContracts(methods(circle), methods({ $ref: "https://example.org/other" }));

  expect(changes).toMatchObject([{ kind: "input", breaking: true, message: expect.stringContaining("may break") }]);
});

const plain: MethodDescription = { name: "work", role: "owner", repetition: "once", input: [], required: 0, output: {} };

/** Schemas as small as they can be and still say everything that the comparison looks at. */
const schemas: fc.Arbitrary<JsonSchema> = fc.letrec<{ schema: JsonSchema }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.constantFrom<JsonSchema>({ type: "string" }, { type: "integer" }, { type: "number" }, { type: "boolean" }, { type: "null" }),
    fc.subarray(["a", "b", 1, null], { minLength: 1 }).map((values) => ({ enum: values })),
    fc.record({ type: fc.constant("number"), minimum: fc.nat(3), maximum: fc.integer({ min: 1, max: 5 }) }, { requiredKeys: ["type"] }),
    fc.record({ type: fc.constant("string"), minLength: fc.nat(2), maxLength: fc.nat(3) }, { requiredKeys: ["type"] }),
    fc.subarray(["string", "integer", "null"], { minLength: 1 }).map((type) => ({ type })),
    fc
      .record({ properties: fc.dictionary(fc.constantFrom("a", "b"), tie("schema")), closed: fc.boolean(), all: fc.boolean() })
      .map(({ properties, closed, all }) => ({
        type: "object",
        properties,
        ...(all ? { required: Object.keys(properties) } : {}),
        ...(closed ? { additionalProperties: false } : {}),
      })),
    fc.record({ type: fc.constant("array"), items: tie("schema"), maxItems: fc.nat(2) }, { requiredKeys: ["type", "items"] }),
    fc.array(tie("schema"), { minLength: 1, maxLength: 2 }).map((anyOf) => ({ anyOf })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 2 }).map((allOf) => ({ allOf })),
  ),
})).schema;

const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.constantFrom("", "a", "b", "abcd", 0, 1, 2, 6, 0.5, null, true),
    fc.dictionary(fc.constantFrom("a", "b"), tie("value")),
    fc.array(tie("value"), { maxLength: 3 }),
  ),
})).value;

const methods = fc.record({
  name: fc.constantFrom("a", "b", "c"),
  role: fc.constantFrom("anyone", "viewer", "owner"),
  repetition: fc.constantFrom("once", "keyed", "idempotent"),
  input: fc.array(schemas, { maxLength: 2 }),
  required: fc.nat(2),
  output: schemas,
});
const contracts: fc.Arbitrary<Contract> = fc
  .uniqueArray(methods, { selector: ({ name }) => name })
  .map((list) => ({ methods: list }) as Contract);

test("a contract is compatible with itself, in whatever order and with whatever words", () => {
  fc.assert(
    fc.property(contracts, (contract) => {
      const reworded = contract.methods.map((each) => ({ ...each, description: "reworded", output: { ...each.output, title: "Result" } }));

      expect(compareContracts(contract, { methods: reworded.reverse() })).toEqual([]);
    }),
  );
});

test("hashes are equal where there is no change, and only there", async () => {
  await fc.assert(
    fc.asyncProperty(contracts, contracts, async (before, after) => {
      const equal = (await contractHash(before)) === (await contractHash(after));

      expect(equal).toBe(compareContracts(before, after).length === 0);
    }),
  );
});

test("a method that is gone is always a break, and a new one never", () => {
  fc.assert(
    fc.property(contracts, methods, (contract, extra) => {
      const without = { methods: contract.methods.filter(({ name }) => name !== extra.name) };
      const withIt = { methods: [...without.methods, extra as MethodDescription] };

      expect(compareContracts(withIt, without)).toEqual([
        { method: extra.name, kind: "removed", breaking: true, message: "is not served any more" },
      ]);
      expect(compareContracts(without, withIt)).toEqual([{ method: extra.name, kind: "added", breaking: false, message: "is new" }]);
    }),
  );
});

test("where no break is found, everything that was accepted still is, and every result is one that was promised", () => {
  fc.assert(
    fc.property(schemas, schemas, fc.array(values, { minLength: 20, maxLength: 20 }), (before, after, samples) => {
      const changes = compareContracts(
        { methods: [{ ...plain, input: [before], required: 1, output: after }] },
        { methods: [{ ...plain, input: [after], required: 1, output: before }] },
      );

      if (changes.some(({ breaking }) => breaking)) return;
      for (const sample of samples) if (accepts(before, sample)) expect([sample, accepts(after, sample)]).toEqual([sample, true]);
    }),
    { numRuns: 500 },
  );
});

// One thing at a time: two contracts that are made at random differ in several.
test.each<[string, Partial<MethodDescription>]>([
  ["name", { name: "toil" }],
  ["role", { role: "viewer" }],
  ["repetition", { repetition: "keyed" }],
  ["argument's schema", { input: [{ type: "string" }] }],
  ["number of arguments", { input: [{ type: "number" }, { type: "number" }] }],
  ["number of arguments that must be given", { required: 0 }],
  ["result", { output: { type: "string" } }],
])("a contract that differs in a method's %s alone has another hash, and the change is told", async (_, difference) => {
  const before: MethodDescription = { ...plain, input: [{ type: "number" }], required: 1, output: { type: "number" } };
  const [one, other]: Contract[] = [{ methods: [before] }, { methods: [{ ...before, ...difference }] }];

  expect(await contractHash(one as Contract)).not.toBe(await contractHash(other as Contract));
  expect(compareContracts(one as Contract, other as Contract)).not.toEqual([]);
});

test("the hash is 64 hexadecimal digits, and the same in every process", async () => {
  expect(await contractHash({ methods: [plain] })).toBe("05a0d08dc32ff25431641e852ea4fcb9c6d925af9cdf9d9af94d57b420094975");
});

/** A validator of its own for the schemas above; properties that a schema does not name may be anything, as zod has it. */
function accepts(schema: JsonSchema, value: unknown): boolean {
  const {
    type,
    enum: list,
    anyOf,
    allOf,
    properties = {},
    required = [],
    items,
    ...rest
  } = schema as Record<string, never> & { properties?: Record<string, JsonSchema> };
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (type !== undefined && ![type].flat().some((each) => isA(each, value))) return false;
  if (list !== undefined && !(list as unknown[]).includes(value)) return false;
  if (anyOf !== undefined && !(anyOf as JsonSchema[]).some((branch) => accepts(branch, value))) return false;
  if (allOf !== undefined && !(allOf as JsonSchema[]).every((branch) => accepts(branch, value))) return false;
  if (isObject) {
    const record = value as Record<string, unknown>;
    if (!(required as string[]).every((name) => name in record)) return false;
    for (const [name, inner] of Object.entries(record)) {
      if (name in properties ? !accepts(properties[name] ?? {}, inner) : rest["additionalProperties"] === false) return false;
    }
  }
  if (Array.isArray(value)) {
    if (value.length > (rest["maxItems"] ?? Number.POSITIVE_INFINITY)) return false;
    if (items !== undefined && !value.every((item) => accepts(items, item))) return false;
  }
  if (typeof value === "string") return inside(value.length, rest["minLength"], rest["maxLength"]);
  return typeof value !== "number" || inside(value, rest["minimum"], rest["maximum"]);
}

function isA(type: string, value: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  // The type is one of JSON Schema's, whose other names are typeof's.
  return typeof value === type;
}

function inside(value: number, least: number | undefined, most: number | undefined): boolean {
  return value >= (least ?? Number.NEGATIVE_INFINITY) && value <= (most ?? Number.POSITIVE_INFINITY);
}
