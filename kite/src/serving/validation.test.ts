import { type } from "arktype";
import * as v from "valibot";
import { describe, expect, test, vi } from "vitest";
import { z } from "zod";
import type { Schema } from "../contract/standard-schema.ts";
import { type Methods, method } from "../method.ts";
import { type ConnectedPair, connectedPair } from "../testing.ts";

/** The same schemas of one library; kite knows none of them, only what they have in common. */
interface Library {
  readonly number: Schema<number>;
  readonly text: Schema<string>;
  readonly optional: Schema<number | undefined>;
  readonly order: Schema<{ item: { size: number } }>;
  /** Takes a text, and makes its length of it. */
  readonly length: Schema<string, number>;
}

// Each library's own types say more than these do; what is tested here is what happens when the program runs.
const libraries: Record<string, Library> = {
  zod: {
    number: z.number(),
    text: z.string(),
    optional: z.number().optional() as Library["optional"],
    order: z.object({ item: z.object({ size: z.number() }) }),
    length: z.string().transform((text) => text.length),
  },
  valibot: {
    number: v.number(),
    text: v.string(),
    optional: v.optional(v.number()),
    order: v.object({ item: v.object({ size: v.number() }) }),
    length: v.pipe(
      v.string(),
      v.transform((text) => text.length),
    ),
  },
  arktype: {
    number: type("number"),
    text: type("string"),
    optional: type("number | undefined") as unknown as Library["optional"],
    order: type({ item: { size: "number" } }),
    length: type("string").pipe((text) => text.length) as unknown as Library["length"],
  },
};

describe.each(Object.entries(libraries))("a contract that is written with %s", (_, library) => {
  test("lets through what it describes, and the method gets what the schema made of it", async () => {
    const seen = vi.fn();
    await using pair = await serving({
      order: method({ input: library.order, output: library.order }, (order) => order),
      length: method({ input: library.length, output: library.number }, (length) => {
        seen(length);
        return length;
      }),
    });

    expect(await pair.peer.call("order", [{ item: { size: 3 } }])).toEqual({ item: { size: 3 } });
    expect(await pair.peer.call("length", ["four"])).toBe(4);
    expect(seen).toHaveBeenCalledExactlyOnceWith(4);
  });

  test("refuses an argument that it does not describe, says where, and the method does not run", async () => {
    const handler = vi.fn();
    await using pair = await serving({ order: method({ input: library.order }, handler) });

    await expect(pair.peer.call("order", [{ item: { size: "large" } }])).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(/^order does not accept its argument: .*item\.size/),
    });
    await expect(pair.peer.call("order", [])).rejects.toMatchObject({ code: "invalid_argument" });
    expect(handler).not.toHaveBeenCalled();
  });

  test("looks at each of several arguments, and names the one that it refuses", async () => {
    await using pair = await serving({
      repeat: method({ input: [library.text, library.number, library.optional] as const }, (text, times, limit = 10) =>
        text.repeat(Math.min(times, limit)),
      ),
    });

    expect(await pair.peer.call("repeat", ["ab", 2])).toBe("abab");
    expect(await pair.peer.call("repeat", ["ab", 2, 1])).toBe("ab");
    await expect(pair.peer.call("repeat", ["ab", "2"])).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining("argument 2"),
    });
    await expect(pair.peer.call("repeat", ["ab", 2, 1, 0])).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test.each([
    ["at once", (value: unknown) => value],
    ["later", async (value: unknown) => value],
  ])("does not let a result out that it does not describe, whether it comes %s", async (_when, made) => {
    await using pair = await serving({
      broken: method({ output: library.order }, () => made({ item: { size: "large" } }) as never),
      whole: method({ output: library.length as Schema<unknown> }, () => made("four")),
    });

    await expect(pair.peer.call("broken", [])).rejects.toMatchObject({
      code: "invalid_result",
      message: expect.stringMatching(/^broken made a result that breaks its own contract: .*item\.size/),
    });
    expect(await pair.peer.call("whole", [])).toBe(4);
  });
});

// arktype looks at nothing that takes time.
test.each<[string, Schema<string>]>([
  ["zod", z.string().refine(async (text) => text !== "taken", "taken already")],
  [
    "valibot",
    v.pipeAsync(
      v.string(),
      v.checkAsync(async (text) => text !== "taken", "taken already"),
    ),
  ],
])("a schema of %s may take its time to look, at arguments and at results", async (_, free) => {
  const handler = vi.fn((name: string) => name);
  await using pair = await serving({
    take: method({ input: free }, handler),
    both: method({ input: [free, free] as const }, handler),
    give: method({ output: free }, () => "taken"),
  });

  expect(await pair.peer.call("take", ["new"])).toBe("new");
  expect(await pair.peer.call("both", ["new", "other"])).toBe("new");
  const refused = { code: "invalid_argument", message: expect.stringContaining("taken already") };
  await expect(pair.peer.call("take", ["taken"])).rejects.toMatchObject(refused);
  await expect(pair.peer.call("both", ["new", "taken"])).rejects.toMatchObject(refused);
  await expect(pair.peer.call("give", [])).rejects.toMatchObject({ code: "invalid_result" });
  expect(handler).toHaveBeenCalledTimes(2);
});

function serving(methods: Methods): Promise<ConnectedPair<Methods>> {
  return connectedPair(methods);
}
