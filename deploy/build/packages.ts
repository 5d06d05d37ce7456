import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { ROOT, workspaces } from "./workspaces.ts";

// What was built is looked at as a stranger gets it: packed, installed in an empty folder, imported and compiled against.
const run = promisify(execFile);
const INSTALL_LIMIT_MS = 120_000;

const CONSUMER = `
import { Kite, method } from "@kite-mesh/kite";
import { z } from "zod";

const methods = { square: method({ role: "anyone", input: z.number(), output: z.number() }, (n) => n * n) };
const math = new Kite({ name: "math", version: "1.0.0", methods });
const { url } = await math.listen({ port: 0, host: "127.0.0.1" });

const caller = new Kite({ name: "caller", version: "1.0.0", methods: {} });
const remote = caller.dial({ url });
console.log(await remote.square(12));
await caller.close();
await math.close();
`;

const TYPED_CONSUMER = `
import { type ContractOf, Kite, method } from "@kite-mesh/kite";
import * as testing from "@kite-mesh/kite/testing";
import { z } from "zod";

const methods = { square: method({ role: "anyone", input: z.number(), output: z.number() }, (n) => n * n) };
type Math = ContractOf<typeof methods>;
export const twelve: Promise<number> = new Kite({ name: "caller", version: "1.0.0", methods: {} }).dial<Math>({ url: "ws://localhost" }).square(12);
// @ts-expect-error a string is no number
export const wrong: Parameters<Math["square"]> = ["12"];
export const kit = testing;
`;

const published = workspaces().filter((workspace) => !workspace.private && Object.keys(workspace.entries).length > 0);
for (const { folder } of published) await lint(folder);
await useKite();

async function lint(folder: string): Promise<void> {
  const { messages, pkg } = await publint({ pkgDir: path.join(ROOT, folder), strict: true });
  // Sources stay out of what is published; the condition that names them is for this repository alone.
  const real = messages.filter((message) => !("path" in message && message.path.includes("mesh-source")));
  for (const message of real) console.error(`${folder}: ${formatMessage(message, pkg)}`);
  if (real.length > 0) process.exitCode = 1;
}

/** Installs kite from its tarball where nothing of this repository can be found, runs it and compiles against it. */
async function useKite(): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "kite-consumer-"));
  try {
    const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: path.join(ROOT, "kite") });
    const [tarball] = JSON.parse(stdout) as [{ filename: string; files: unknown[]; size: number }];
    await writeFile(path.join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
    const install = ["install", "--no-audit", "--no-fund", "--prefer-offline", `./${tarball.filename}`, "zod@4.6.7", "@types/node@20"];
    await run("npm", install, { cwd: folder, timeout: INSTALL_LIMIT_MS });

    await writeFile(path.join(folder, "consumer.mjs"), CONSUMER);
    const answer = await run(process.execPath, ["consumer.mjs"], { cwd: folder, timeout: 30_000 });
    if (answer.stdout.trim() !== "144") throw new Error(`expected the installed kite to answer 144, not: ${answer.stdout}${answer.stderr}`);

    await writeFile(path.join(folder, "consumer.ts"), TYPED_CONSUMER);
    const tsc = path.join(ROOT, "node_modules/typescript/bin/tsc");
    // As `tsc --init` sets it: kite's declarations mention those of ws, which a caller has no need of.
    const options = [
      "--noEmit",
      "--strict",
      "--skipLibCheck",
      "--target",
      "ES2023",
      "--module",
      "NodeNext",
      "--lib",
      "ES2023,ESNext.Disposable,DOM",
    ];
    await run(process.execPath, [tsc, ...options, "consumer.ts"], { cwd: folder }).catch((cause: { stdout?: string }) => {
      throw new Error(`the installed kite does not type-check:\n${cause.stdout}`);
    });
    console.log(
      `kite packs into ${tarball.files.length} files, ${Math.ceil(tarball.size / 1024)} KB; installed, it answers and type-checks`,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
