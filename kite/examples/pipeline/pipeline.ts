import { spawn } from "node:child_process";
import { once } from "node:events";
import { type ContractOf, method, openKite } from "@kite-mesh/kite";
import { z } from "zod";

// Three kites, each the next one's caller. Nothing below passes a signal or a deadline on: a call that a method makes has
// the rest of its caller's time, and ends with it, down to the child process.
const caller = await openKite({ name: "pipeline", version: "1.0.0" });

const render = {
  // A page that takes as long as it is told to, as some do.
  page: method({ role: "viewer", input: z.number() }, async (seconds, { signal, remainingMs }) => {
    const work = spawn("sleep", [String(seconds)], { signal });
    console.log(`render: process ${work.pid} works, ${Math.round(remainingMs / 1000)} s are left`);
    work.once("close", () => console.log(`render: process ${work.pid} has ended`));
    await once(work, "exit");
    return `a page after ${seconds} s`;
  }),
};
const layout = {
  book: method({ role: "viewer", input: z.array(z.number()) }, async (pages) => {
    await using renderer = await caller.connect<ContractOf<typeof render>>({ name: "render" });
    return await Promise.all(pages.map((seconds) => renderer.page(seconds)));
  }),
};
const press = {
  print: method({ role: "viewer", input: z.array(z.number()) }, async (pages) => {
    await using layouter = await caller.connect<ContractOf<typeof layout>>({ name: "layout" });
    return (await layouter.book(pages)).join(", ");
  }),
};
export type PressContract = ContractOf<typeof press>;

const kites = [caller];
for (const [name, methods] of Object.entries({ render, layout, press })) {
  const kite = await openKite({ name, version: "1.0.0", methods });
  await kite.listen();
  await kite.register();
  kites.push(kite);
}
console.log("render, layout and press are there; try: npx kite call press print '[60, 60]' and Ctrl-C, or --timeout 2");

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void Promise.all(kites.map((kite) => kite.close())));
}
