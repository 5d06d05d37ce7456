import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import type { Tarball } from "./tarballs.ts";
import { ROOT } from "./workspaces.ts";

// What somebody does who has only the packages, in a folder where nothing of this repository can be found.
const run = promisify(execFile);
const INSTALL_LIMIT_MS = 120_000;
const RUN_LIMIT_MS = 60_000;
const INSTALL = ["install", "--no-audit", "--no-fund", "--prefer-offline"];

const CONSUMER = `
import { inspect } from "node:util";
import { Kite, KiteError, method } from "@kite-mesh/kite";
import { z } from "zod";

const methods = { square: method({ role: "anyone", input: z.number(), output: z.number() }, (n) => n * n) };
const math = new Kite({ name: "math", version: "1.0.0", methods });
const { url } = await math.listen({ port: 0, host: "127.0.0.1" });

const caller = new Kite({ name: "caller", version: "1.0.0", methods: {} });
const remote = caller.dial({ url });
console.log(await remote.square(12));
// A bundler may have given the class another name, which everybody would read in his logs.
console.log(inspect(new KiteError("conflict", "seen")).split("\\n")[0]);
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

/** Installs packages from their tarballs into a folder without any, which is made if there is none. */
export async function installKite(folder: string, tarballs: readonly Tarball[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
  const packages = [...tarballs.map((tarball) => tarball.path), "zod@4.6.7", "@types/node@20"];
  await run("npm", [...INSTALL, ...packages], { cwd: folder, timeout: INSTALL_LIMIT_MS });
}

/** Runs a program that uses the installed kite, and compiles one. */
export async function useKite(folder: string): Promise<void> {
  await writeFile(path.join(folder, "consumer.mjs"), CONSUMER);
  const answer = await run(process.execPath, ["consumer.mjs"], { cwd: folder, timeout: RUN_LIMIT_MS });
  if (!answer.stdout.startsWith("144\nKiteError: seen"))
    throw new Error(`expected the installed kite to answer 144, and with a KiteError, not: ${answer.stdout}${answer.stderr}`);

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
  await run(process.execPath, [tsc, ...options, "consumer.ts"], { cwd: folder, timeout: RUN_LIMIT_MS }).catch(
    explain("does not type-check"),
  );
}

/** Makes a new kite with the installed command, installs what it asks for, and runs its tests. */
export async function makeNewKite(folder: string, kite: Tarball): Promise<void> {
  const command = path.join(folder, "node_modules/.bin/kite");
  await run(command, ["new", "demo"], { cwd: folder, timeout: RUN_LIMIT_MS }).catch(explain("makes no new kite"));
  const demo = path.join(folder, "demo");
  const manifest = path.join(demo, "package.json");
  const asked = JSON.parse(await readFile(manifest, "utf8")) as { dependencies: Record<string, string> };
  // The version that it asks for is not published yet.
  asked.dependencies["@kite-mesh/kite"] = `file:${kite.path}`;
  await writeFile(manifest, JSON.stringify(asked, null, 2));
  await run("npm", INSTALL, { cwd: demo, timeout: INSTALL_LIMIT_MS });
  await run("npm", ["test"], { cwd: demo, timeout: RUN_LIMIT_MS }).catch(explain("makes a kite that fails its own tests"));
}

/** Starts the installed kontrol without a database: it is whole if it gets so far as to ask for one. */
export async function startKontrol(folder: string): Promise<void> {
  const command = path.join(folder, "node_modules/.bin/kontrol");
  await run(command, ["help", "serve"], { cwd: folder, timeout: RUN_LIMIT_MS }).catch(
    explain("has a kontrol that tells nothing of itself"),
  );
  const away = ["serve", "--port", "0", "--database-url", "postgres://nobody@127.0.0.1:1/nothing"];
  const { stderr } = await run(command, away, { cwd: folder, timeout: RUN_LIMIT_MS }).catch((failure: { stderr: string }) => failure);
  if (!stderr.startsWith("kontrol: no PostgreSQL at 127.0.0.1:1"))
    throw new Error(`expected the installed kontrol to miss its database, not: ${stderr}`);
}

function explain(what: string): (cause: { stdout?: string; stderr?: string }) => never {
  return (cause) => {
    throw new Error(`the installed kite ${what}:\n${cause.stdout ?? ""}${cause.stderr ?? ""}`, { cause });
  };
}
