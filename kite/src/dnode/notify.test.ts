import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { KiteError } from "../errors.ts";
import { memoryLink } from "../transport/memory.ts";
import { dnodeHost } from "./test-dnode.ts";

test("a hundred thousand notifications that nobody answers leave nothing on the heap", async () => {
  const host = dnodeHost({});
  const [here, there] = memoryLink().ends;
  let heard = 0;
  host.accept(there);
  here.start({ frame: () => heard++, closed: () => {} });
  const [session] = host.sessions;
  const round = async (count: number) => {
    for (let n = 0; n < count; n++) {
      session?.notify("note", [n]);
      if (n % 1_000 === 0) await new Promise(setImmediate);
    }
    await new Promise(setImmediate);
  };
  await round(10_000);
  const before = await heapBytes();

  await round(100_000);

  expect(heard).toBe(110_000);
  // A function kept for each would be three times as much.
  expect((await heapBytes()) - before).toBeLessThan(4 * 1024 * 1024);
  host.close(new KiteError("disconnected", "the test is over"));
}, 60_000);

async function heapBytes(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let turn = 0; turn < 3; turn++) {
    collect();
    await new Promise(setImmediate);
  }
  return process.memoryUsage().heapUsed;
}
