import { type BuiltinContract, Kite, type Methods, method } from "@kite-mesh/kite";
import { testCaller } from "@kite-mesh/kite/testing";
import { Ajv } from "ajv";
import { expect, test } from "vitest";
import { z } from "zod";
import { asyncapi } from "./docs-asyncapi.ts";

// What `kite docs` makes of real schemas: draft 7 must accept and refuse what the schemas themselves do.
interface Folder {
  name: string;
  inner: Folder[];
}
const Folder: z.ZodType<Folder> = z.object({ name: z.string(), inner: z.lazy(() => z.array(Folder)) });

const schemas: Record<string, { schema: z.ZodType; good: unknown[]; bad: unknown[] }> = {
  tuple: { schema: z.tuple([z.string(), z.number()]), good: [["a", 1]], bad: [["a"], ["a", 1, 2], [1, "a"]] },
  rest: { schema: z.tuple([z.string()]).rest(z.number()), good: [["a"], ["a", 1, 2]], bad: [["a", "b"], []] },
  union: {
    schema: z.discriminatedUnion("is", [z.object({ is: z.literal("a"), a: z.number() }), z.object({ is: z.literal("b"), b: z.string() })]),
    good: [
      { is: "a", a: 1 },
      { is: "b", b: "x" },
    ],
    bad: [{ is: "a", b: "x" }, { is: "c" }],
  },
  record: { schema: z.record(z.string().max(3), z.number()), good: [{ abc: 1 }, {}], bad: [{ abcd: 1 }, { a: "1" }] },
  recursive: {
    schema: Folder,
    good: [{ name: "a", inner: [{ name: "b", inner: [] }] }],
    bad: [{ name: "a", inner: [{ name: "b", inner: [{ name: 3, inner: [] }] }] }],
  },
  nullable: { schema: z.string().nullable(), good: ["a", null], bad: [1] },
  intersection: { schema: z.object({ a: z.number() }).and(z.object({ b: z.string() })), good: [{ a: 1, b: "x" }], bad: [{ a: 1 }] },
  range: { schema: z.number().gt(1).lt(5).multipleOf(0.5), good: [1.5], bad: [1, 5, 1.2] },
  strict: { schema: z.strictObject({ a: z.number().optional() }), good: [{}, { a: 1 }], bad: [{ b: 1 }] },
  listed: { schema: z.enum(["x", "y"]), good: ["x"], bad: ["z"] },
};

test("every schema accepts and refuses in the AsyncAPI document what it does in the kite, as an argument and as a result", async () => {
  const entries = Object.entries(schemas);
  const methods = Object.fromEntries(
    entries.map(([name, { schema }]) => [name, method({ input: schema, output: schema }, (value) => value)]),
  );
  const document = asyncapi(await describe(methods));
  const ajv = new Ajv({ strict: false, logger: false }).addSchema(document, "doc");

  for (const [name, { schema, good, bad }] of entries) {
    const call = ajv.compile({ $ref: `doc#/channels/${name}/messages/call/payload` });
    const result = ajv.compile({ $ref: `doc#/channels/${name}/messages/result/payload` });
    for (const value of [...good, ...bad]) {
      const expected = schema.safeParse(value).success;
      expect([name, value, call([value]), result(value)]).toEqual([name, value, expected, expected]);
    }
    expect([name, good.every((value) => call([value])), bad.some((value) => call([value]))]).toEqual([name, true, false]);
  }
});

async function describe(methods: Methods) {
  await using kite = new Kite({ name: "lab", version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller() });
  await using caller = new Kite({ name: "caller", version: "1.0.0" });
  return await caller.dial<BuiltinContract>(await kite.listen()).kite.describe();
}
