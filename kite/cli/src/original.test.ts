import { Kite, method } from "@kite-mesh/kite";
import { testCaller } from "@kite-mesh/kite/testing";
import { expect, test, vi } from "vitest";
import { z } from "zod";
import { originalFront } from "../../../test/original.ts";
import { openTestMesh } from "./test-mesh.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

test("a kite of the original's is called and talked with by its name like every other one", async () => {
  const open = { role: "viewer" } as const;
  const methods = {
    square: method({ ...open, input: z.number() }, (n) => n * n),
    each: method({ ...open, input: [z.array(z.string()), z.any()] }, async (items, each) => {
      for (const item of items) await each(item);
    }),
  };
  await using go = new Kite({ name: "go", version: "1.0.0", username: "alice", methods, authenticate: async () => testCaller() });
  await using front = await originalFront((await go.listen()).port);
  await using mesh = await openTestMesh({ go: {} }, process.env, {}, {}, { go: front.url });

  expect(await mesh.run("call", "go", "square", "12")).toEqual({ status: 0, stdout: "144\n", stderr: "" });
  expect(await mesh.run("call", "go", "each", '["a","b"]', "%item")).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/item.*a[\s\S]*item.*b/),
  });
  expect(await mesh.run("call", "go", "cube", "3")).toMatchObject({ status: 1, stderr: expect.stringContaining("go has each, square") });
  expect(await mesh.feed("await square(5)\n", "repl", "go")).toMatchObject({ status: 0, stdout: "25\n", stderr: "" });
});
