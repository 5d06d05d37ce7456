import { type FileHandle, open, realpath } from "node:fs/promises";
import path from "node:path";
import { StringDecoder } from "node:string_decoder";
import { setTimeout as delay } from "node:timers/promises";
import { type ContractOf, formatIdentity, KiteError, method, openKite } from "@kite-mesh/kite";
import { z } from "zod";

// Nothing outside this folder is shown to anybody.
const FOLDER = await realpath(process.argv[2] ?? ".");
const LOOK_AGAIN_MS = 100;

const methods = {
  // A result that is an async iterable travels as a stream. Its reader sets the pace, and ends it by leaving the loop.
  follow: method({ role: "viewer", input: z.string() }, async function* (name, { signal }): AsyncGenerator<string> {
    await using file = await openInside(name);
    // A character may be written, or read, in two halves.
    const decoder = new StringDecoder("utf8");
    let rest = "";
    while (!signal.aborted) {
      rest += decoder.write(await readMore(file));
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      if (lines.length === 0) await delay(LOOK_AGAIN_MS, undefined, { signal }).catch(() => {});
      yield* lines;
    }
  }),
};
export type TailContract = ContractOf<typeof methods>;

async function openInside(name: string): Promise<FileHandle> {
  // Where it really is: a link inside the folder may point out of it.
  const file = await realpath(path.resolve(FOLDER, name)).catch((cause: unknown) => {
    throw new KiteError("not_found", `${name} cannot be read; give the name of a file in the folder`, { cause });
  });
  if (!file.startsWith(FOLDER + path.sep)) throw new KiteError("permission_denied", `${name} is not inside the folder that is shown`);
  return open(file);
}

async function readMore(file: FileHandle): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(64 * 1024));
  return buffer.subarray(0, bytesRead);
}

const kite = await openKite({ name: "tail", version: "1.0.0", methods });
await kite.listen();
await kite.register();
console.log(`${formatIdentity(kite.identity)} at ${kite.url}; try: npx kite call tail follow package.json --stream`);

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void kite.close());
