import { createInterface } from "node:readline";
import { openKite } from "@kite-mesh/kite";

// A kite in a process of its own that can be kept busy. The first line that it reads is its options as JSON, each further one
// for how many milliseconds it blocks its event loop. It ends with its input.

const lines = createInterface({ input: process.stdin });
let begun = false;
for await (const line of lines) {
  if (begun) {
    const end = performance.now() + Number(line);
    while (performance.now() < end);
    process.stdout.write("awake\n");
    continue;
  }
  begun = true;
  const { id, kiteKey, kontrolUrl } = JSON.parse(line) as { id: string; kiteKey: string; kontrolUrl: string };
  const kite = await openKite({ name: "busy", version: "1.0.0", id, kiteKey, kontrolUrl });
  await kite.listen();
  await kite.register();
  process.stdout.write("registered\n");
}
process.exit();
