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
const same: [boolean, string][] = [[false, "says the same in other words"]];
const narrowed: [boolean, string][] = [[false, "promises more of its result than before"]];

const kinds = z.object({ kind: z.enum(["a", "b"]), v: z.int() });
const told = z.discriminatedUnion("kind", [z.object({ kind: z.literal("a"), v: z.int() }), z.object({ kind: z.literal("b"), v: z.int() })]);

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
  [
    "a property that is ignored now",
    z.object({ a: z.string(), b: z.string() }),
    z.object({ a: z.string() }),
    [[false, "argument 1.b is not named any more, and may be ignored"]],
  ],
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
  ["a pattern", z.string(), z.string().regex(/x/), [[true, "argument 1 has a pattern now, which may break callers"]]],
  [
    "another pattern",
    z.string().regex(/x/),
    z.string().regex(/y/),
    [[true, "argument 1 has another pattern now, which may break callers"]],
  ],
  ["a pattern less", z.string().regex(/x/), z.string(), widened],
  ["one of two patterns", z.string().regex(/^x/).regex(/y$/), z.string().regex(/y$/), widened],
  ["an end that belongs to the range now", z.number().gt(0), z.number().min(0), widened],
  ["a wider range without its end", z.number().min(1), z.number().gt(0), widened],
  [
    "a range without its end",
    z.number().min(0),
    z.number().gt(0),
    [[true, "argument 1 had the minimum 0 and has the exclusiveMinimum 0 now"]],
  ],
  ["whole numbers above 0, or from 1", z.int().gt(0), z.int().min(1), same],
  ["finer steps", z.number().multipleOf(4), z.number().multipleOf(2), widened],
  ["coarser steps", z.number().multipleOf(2), z.number().multipleOf(4), [[true, "argument 1 had the multipleOf 2 and has 4 now"]]],
  ["a range around what was listed", z.literal([1, 2]), z.number().min(0).max(5), widened],
  ["a range with a part of what was listed", z.literal([1, 9]), z.int().max(5), [[true, "argument 1 no longer accepts 9"]]],
  ["any integer instead of some", z.literal([1, 2]), z.int(), widened],
  ["a length around what was listed", z.enum(["aa", "bb"]), z.string().min(2), widened],
  [
    "a pattern instead of what was listed",
    z.enum(["aa", "bb"]),
    z.string().regex(/^(aa|bb)$/),
    [[true, "argument 1 has pattern instead of a list of values now, which may break callers"]],
  ],
  ["a list as a union", z.enum(["x", "y"]), z.union([z.literal("x"), z.literal("y")]), same],
  ["yes and no, listed", z.boolean(), z.union([z.literal(true), z.literal(false)]), same],
  ["yes alone", z.boolean(), z.literal(true), [[true, "argument 1 accepts only true now"]]],
  ["a type with a name", z.object({ a: z.string() }), z.object({ a: z.string().meta({ id: "Named" }) }), same],
  ["any names instead of some", z.record(z.enum(["a", "b"]), z.int()), z.record(z.string(), z.int()), widened],
  [
    "some names instead of any",
    z.record(z.string(), z.int()),
    z.partialRecord(z.enum(["a"]), z.int()),
    [[true, 'a name in argument 1 accepts only "a" now']],
  ],
  ["kinds that were one and are told apart", kinds, told, same],
  ["kinds that were told apart and are one", told, kinds, same],
  [
    "a property that one kind must have now",
    told,
    z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("a"), v: z.int(), w: z.int() }),
      z.object({ kind: z.literal("b"), v: z.int() }),
    ]),
    [[true, 'argument 1 (kind "a").w must be given now']],
  ],
  ["a kind less", told, z.object({ kind: z.literal("a"), v: z.int() }), [[true, 'argument 1.kind no longer accepts "b"']]],
  [
    "one of three kinds less",
    z.union([told, z.object({ kind: z.literal("c") })]),
    told,
    [[true, 'argument 1 no longer accepts an object (kind "c")']],
  ],
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
  ["an end that does not belong to the range any more", z.number().min(0), z.number().gt(0), narrowed],
  ["a step more", z.number().multipleOf(2), z.number().multipleOf(4), narrowed],
  ["a second pattern", z.string().regex(/^x/), z.string().regex(/^x/).regex(/y$/), narrowed],
  ["values out of a range", z.number().min(0).max(5), z.literal([0, 5]), narrowed],
  ["one kind instead of two", told, z.object({ kind: z.literal("a"), v: z.int() }), narrowed],
  [
    "a property that one kind may have no more",
    told,
    z.discriminatedUnion("kind", [z.object({ kind: z.literal("a") }), z.object({ kind: z.literal("b"), v: z.int() })]),
    [[true, 'the result (kind "a").v may be missing now']],
  ],
  ["a higher maximum", z.number().max(5), z.number().max(10), [[true, "the result had the maximum 5 and has 10 now"]]],
  ["a maximum less", z.number().max(5), z.number(), [[true, "the result had the maximum 5 and has none now"]]],
])("a result may only promise more: %s", (_, before, after, expected) => {
  expect(output(before, after)).toEqual(expected);
});

test("a new argument may be left out, and none may go", () => {
  expect(input([z.int()], [z.int(), z.int().optional()])).toEqual(widened);
  expect(input([z.int()], [z.int(), z.int()])).toEqual([[true, "argument 2 must be given now"]]);
  expect(input([z.int(), z.int()], [z.int()])).toEqual([[true, "takes 1 argument and took 2; more are refused"]]);
});

test("what is carried beside JSON is called by its name", () => {
  const carried = (kind: string) => z.custom<object>(() => false).meta({ "x-kite": kind });

  expect(input(carried("callback"), carried("stream"))).toEqual([
    [true, "argument 1 was a callback and is a stream now, which may break callers"],
  ]);
  expect(input(z.string(), carried("callback"))).toEqual([[true, "argument 1 is a callback now, which may break callers"]]);
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

test("unions inside unions that would take for ever are given up, and count as a break", () => {
  const nested = (depth: number, value: string): JsonSchema =>
    depth === 0
      ? { type: "object", properties: { v: { enum: [value] } }, required: ["v"] }
      : { anyOf: [nested(depth - 1, `${value}a`), nested(depth - 1, `${value}b`)] };
  const deep = (depth: number, schema: JsonSchema): JsonSchema =>
    depth === 0 ? schema : { type: "array", items: deep(depth - 1, schema) };
  const methods = (schema: JsonSchema): Contract => ({ methods: [{ ...plain, input: [schema], required: 1 }] });

  const wide = compareContracts(methods(nested(7, "x")), methods(nested(7, "y")));
  const far = compareContracts(methods(deep(600, { type: "string" })), methods(deep(600, { type: "number" })));

  expect(wide.every(({ breaking }) => breaking)).toBe(true);
  expect(far).toMatchObject([
    { breaking: true, message: expect.stringMatching(/ is too intricate to be compared, which may break callers$/) },
  ]);
});

test.each(["https://example.org/other", "#/$defs/%", "#/$defs/__proto__/x"])(
  "references that lead nowhere, such as %s, or in a circle end the comparison, not the program",
  ($ref) => {
    const circle = { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/a" } } };
    const methods = (schema: JsonSchema): Contract => ({ methods: [{ ...plain, input: [schema], required: 1 }] });

    const changes = compareContracts(methods(circle), methods({ $ref, $defs: {} }));

    expect(changes).toMatchObject([{ kind: "input", breaking: true, message: expect.stringContaining("may break") }]);
  },
);

const plain: MethodDescription = { name: "work", role: "owner", repetition: "once", input: [], required: 0, output: {} };

/** Schemas as small as they can be and still say everything that the comparison looks at. */
const schemas: fc.Arbitrary<JsonSchema> = fc.letrec<{ schema: JsonSchema }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    fc.constantFrom<JsonSchema>({ type: "string" }, { type: "integer" }, { type: "number" }, { type: "boolean" }, { type: "null" }),
    fc.subarray(["a", "b", 1, null], { minLength: 1 }).map((values) => ({ enum: values })),
    fc.record(
      {
        type: fc.constantFrom("number", "integer"),
        minimum: fc.nat(3),
        maximum: fc.integer({ min: 1, max: 5 }),
        exclusiveMinimum: fc.integer({ min: -1, max: 2 }),
        exclusiveMaximum: fc.integer({ min: 1, max: 7 }),
        multipleOf: fc.constantFrom(0.5, 1, 2, 4),
      },
      { requiredKeys: ["type"] },
    ),
    fc.record({ kind: fc.subarray(["a", 1], { minLength: 1 }), other: tie("schema") }).map(({ kind, other }) => ({
      type: "object",
      properties: { a: { enum: kind }, b: other },
      required: ["a"],
    })),
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
  if (typeof value !== "number") return true;
  const {
    exclusiveMinimum: above = Number.NEGATIVE_INFINITY,
    exclusiveMaximum: below = Number.POSITIVE_INFINITY,
    multipleOf = 0.25,
  } = rest;
  return inside(value, rest["minimum"], rest["maximum"]) && value > above && value < below && Number.isInteger(value / multipleOf);
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
