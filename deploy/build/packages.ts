import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { filterProblems } from "@arethetypeswrong/core/problems";
import { build } from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { installKite, makeNewKite, startKontrol, useKite } from "./strangers.ts";
import { pack, type Tarball } from "./tarballs.ts";
import { ROOT, type Workspace, workspaces } from "./workspaces.ts";

// What was built is looked at as a stranger gets it: packed, installed in an empty folder, imported and compiled against.
// A page that waits for a kite downloads this before anything else, gzipped: it may become smaller, and not larger by accident.
const MAX_BROWSER_BYTES = { "@kite-mesh/kite/browser": 20_000, "@kite-mesh/kite/browser/registry": 24_000 };
const KITE = "kite";
const CLI = "kite/cli";
const KONTROL = "kontrol";

const folder = await mkdtemp(path.join(os.tmpdir(), "kite-packages-"));
try {
  const published = workspaces().filter((workspace) => !workspace.private && Object.keys(workspace.entries).length > 0);
  const tarballs = new Map(
    await Promise.all(published.map(async (workspace) => [workspace.folder, await pack(workspace.folder, folder)] as const)),
  );
  for (const { folder: packed } of published) await lint(packed);
  for (const workspace of published) await checkTypes(workspace, tarballs.get(workspace.folder));

  const [kite, cli, kontrol] = [KITE, CLI, KONTROL].map((name) => tarballs.get(name));
  if (kite === undefined || cli === undefined || kontrol === undefined)
    throw new Error(`expected ${KITE}, ${CLI} and ${KONTROL} among the packages that are published`);
  // By itself first: beside the others it would find what only they depend on.
  const alone = path.join(folder, "alone");
  await installKite(alone, [kite]);
  await useKite(alone);
  await installKite(folder, [kite, cli, kontrol]);
  for (const [entry, most] of Object.entries(MAX_BROWSER_BYTES)) await checkBrowser(entry, most);
  await makeNewKite(folder, kite);
  await startKontrol(folder);
  console.log(`kite packs into ${kite.files} files, ${Math.ceil(kite.size / 1024)} KB; installed, it answers and type-checks`);
  console.log("the installed command makes a new kite, whose Dockerfile ends in a kite that answers; the installed kontrol starts");
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function lint(packed: string): Promise<void> {
  const { messages, pkg } = await publint({ pkgDir: path.join(ROOT, packed), strict: true });
  // Sources stay out of what is published; the condition that names them is for this repository alone.
  const real = messages.filter((message) => !("path" in message && message.path.includes("mesh-source")));
  for (const message of real) console.error(`${packed}: ${formatMessage(message, pkg)}`);
  if (real.length > 0) process.exitCode = 1;
}

/** What TypeScript finds is what Node finds. The packages are ES modules alone: older resolutions and `require` are not for them. */
async function checkTypes({ folder: packed, imports }: Workspace, tarball: Tarball | undefined): Promise<void> {
  // What is only started, such as the command, is not imported.
  if (tarball === undefined || imports.length === 0) return;
  const analysis = await checkPackage(createPackageFromTarballData(await readFile(tarball.path)), { entrypoints: imports });
  if (analysis.types === false) throw new Error(`${packed} is packed without declarations; run the build from its beginning`);
  const problems = [
    ...filterProblems(analysis, { resolutionKind: "node16-esm" }),
    ...filterProblems(analysis, { resolutionKind: "bundler" }),
  ];
  for (const problem of problems) console.error(`${packed}: ${JSON.stringify(problem)}`);
  if (problems.length > 0) process.exitCode = 1;
}

/** Bundles all of an installed entry, as whoever makes a page does. A built-in module of Node's is an error to esbuild there. */
async function checkBrowser(entry: string, most: number): Promise<void> {
  const { outputFiles } = await build({
    stdin: { contents: `export * from "${entry}"`, resolveDir: folder },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
  });
  const code = outputFiles[0]?.contents ?? new Uint8Array();
  const { length } = await promisify(gzip)(code);
  console.log(`${entry} has ${length} bytes gzipped, of ${most} at most (${code.length} as they are)`);
  if (length > most) process.exitCode = 1;
}
