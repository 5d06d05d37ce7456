import type { IncomingMessage, ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";
import { type ContractOf, callback, Kite, method } from "@kite-mesh/kite";
import { build } from "esbuild";
import { z } from "zod";

const methods = {
  // Open to everybody, as the page has no credential.
  greet: method({ role: "anyone", input: z.string() }, (name) => `hello ${name}`),
  everySecond: method({ role: "anyone", input: callback<(time: string) => void>() }, (onTime, { session }) => {
    const timer = setInterval(() => void onTime(new Date().toISOString()).catch(() => {}), 1_000);
    session.closed.addEventListener("abort", () => clearInterval(timer));
  }),
  count: method({ role: "anyone", input: z.number().max(1_000_000) }, async function* (to): AsyncGenerator<number> {
    for (let number = 1; number <= to; number++) yield number;
  }),
};
export type ClockContract = ContractOf<typeof methods>;

const page = `<!doctype html><meta charset="utf-8"><title>kite in a page</title><link rel="icon" href="data:,">
<h1 id="greeting"></h1><p>It is <time id="time"></time>.</p><p>Counted to <output id="count"></output>.</p>
<script type="module" src="/page.js"></script>`;
const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
  bundle: true,
  format: "esm",
  // In this repository the sources; elsewhere what the package ships.
  conditions: ["mesh-source"],
  write: false,
});
const script = outputFiles[0]?.text ?? "";

function http({ url }: IncomingMessage, response: ServerResponse): void {
  if (url === "/") response.setHeader("content-type", "text/html").end(page);
  else if (url === "/page.js") response.setHeader("content-type", "text/javascript").end(script);
  else response.writeHead(404).end();
}

const kite = new Kite({ name: "clock", version: "1.0.0", methods });
await kite.listen({ http });
console.log(`open ${kite.url}`);

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void kite.close());
