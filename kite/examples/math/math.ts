import { type ContractOf, formatIdentity, method, openKite } from "@kite-mesh/kite";
import { z } from "zod";

const methods = {
  square: method(
    { description: "A number times itself.", role: "viewer", repetition: "idempotent", input: z.number(), output: z.number() },
    (n) => n * n,
  ),
  add: method(
    {
      description: "The sum of two numbers.",
      role: "viewer",
      repetition: "idempotent",
      input: [z.number(), z.number()],
      output: z.number(),
    },
    (a, b) => a + b,
  ),
};
/** What callers pass to `kite.connect<MathContract>({ name: "math" })`. */
export type MathContract = ContractOf<typeof methods>;

const kite = await openKite({ name: "math", version: "1.0.0", methods });
await kite.listen();
await kite.register();
console.log(`${formatIdentity(kite.identity)} at ${kite.url}; try: npx kite call math square 12`);

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void kite.close());
