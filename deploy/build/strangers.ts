import { execFile } from "node:child_process";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { buildImage } from "./dockerfile.ts";
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

// Its mesh is a kontrol in this process; `docker run` would set the same variables.
const CONTAINER = `
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kite } from "@kite-mesh/kite";
import { fakeKontrol } from "@kite-mesh/kite/testing";

const { command, cwd, env } = JSON.parse(process.argv[2]);
const reserved = createServer().listen(0, "127.0.0.1");
await once(reserved, "listening");
const { port } = reserved.address();
reserved.close();
const kontrol = await fakeKontrol();
const home = await mkdtemp(join(tmpdir(), "kite-container-"));
await writeFile(join(home, "kite.key"), await kontrol.kiteKey("alice"), { mode: 0o400 });
const given = { KITE_HOME: home, PORT: String(port), PUBLIC_URL: "http://127.0.0.1:" + port };
const child = spawn(command[0], command.slice(1), { cwd, env: { PATH: process.env.PATH, ...env, ...given }, stdio: ["ignore", "pipe", "inherit"] });
try {
  await Promise.race([once(child.stdout, "data"), once(child, "exit").then(([code]) => { throw new Error("it ended with " + code); })]);
  const caller = new Kite({ name: "caller", version: "1.0.0", kiteKey: await kontrol.kiteKey("bob") });
  const demo = await caller.connect({ name: "demo" });
  const greeting = await demo.greet("world");
  await caller.close();
  child.kill("SIGTERM");
  const [code] = await once(child, "exit");
  console.log(greeting + ", and it ended with " + code);
} finally {
  child.kill("SIGKILL");
  await kontrol[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
}
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

/** Makes a new kite with the installed command, and does what it and its Dockerfile say, up to a call that its container answers. */
export async function makeNewKite(folder: string, kite: Tarball): Promise<void> {
  const command = path.join(folder, "node_modules/.bin/kite");
  await run(command, ["new", "demo"], { cwd: folder, timeout: RUN_LIMIT_MS }).catch(explain("makes no new kite"));
  const demo = path.join(folder, "demo");
  // The version that it asks for is not published yet.
  await copyFile(kite.path, path.join(demo, path.basename(kite.path)));
  await run("npm", [...INSTALL, `./${path.basename(kite.path)}`], { cwd: demo, timeout: INSTALL_LIMIT_MS });
  const image = await buildImage(demo, path.join(folder, "image")).catch(explain("makes a kite whose Dockerfile fails"));
  await writeFile(path.join(folder, "container.mjs"), CONTAINER);
  const started = await run(process.execPath, ["container.mjs", JSON.stringify(image)], { cwd: folder, timeout: RUN_LIMIT_MS }).catch(
    explain("makes a kite whose container does not answer"),
  );
  if (started.stdout !== "Hello, world!, and it ended with 0\n")
    throw new Error(`expected the container of a new kite to answer, not: ${started.stdout}${started.stderr}`);
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
