import { toStandardJsonSchema } from "@valibot/to-json-schema";
import { type } from "arktype";
import * as v from "valibot";
import { expect, test } from "vitest";
import { z } from "zod";
import { Kite } from "../kite.ts";
import { method } from "../method.ts";
import type { BuiltinContract } from "../serving/builtin.ts";
import { testCaller } from "../testing.ts";
import type { Schema } from "./standard-schema.ts";

type Named = Schema<{ name: string }, { name: number }>;
const count = (text: string) => text.length;

// What is passed to a schema and what it makes of that are two sides of it, whoever made it.
test.each<[string, Named]>([
  ["zod", z.object({ name: z.string().transform(count).pipe(z.number().max(9)) })],
  ["valibot, wrapped", toStandardJsonSchema(v.object({ name: v.pipe(v.string(), v.transform(count), v.number(), v.maxValue(9)) }))],
  ["arktype", type({ name: type("string").pipe(count).to("number <= 9") }) as unknown as Named],
])("kite.describe shows both sides of a schema of %s, and the kite checks by them", async (_, named) => {
  const methods = {
    take: method({ role: "viewer", input: named }, ({ name }) => name),
    give: method({ role: "viewer", output: named }, () => ({ name: "four" })),
  };
  await using kite = new Kite({ name: "shop", version: "1.0.0", methods, authenticate: async () => testCaller() });
  await using caller = new Kite({ name: "caller", version: "1.0.0" });
  const shop = caller.dial<BuiltinContract & { take(named: object): Promise<number>; give(): Promise<object> }>(await kite.listen());

  const { methods: described } = await shop.kite.describe();
  const [give, take] = ["give", "take"].map((name) => described.find((each) => each.name === name));

  expect(take?.input).toMatchObject([{ type: "object", properties: { name: { type: "string" } }, required: ["name"] }]);
  expect(give?.output).toMatchObject({ type: "object", properties: { name: { type: "number", maximum: 9 } }, required: ["name"] });
  expect([await shop.take({ name: "four" }), await shop.give()]).toEqual([4, { name: 4 }]);
  await expect(shop.take({ name: 4 })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(shop.take({ name: "ten letters" })).rejects.toMatchObject({ code: "invalid_argument" });
});
