import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type BuildOptions, context, type Loader, type Plugin, transform } from "esbuild";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** Where the programs lie that tests start. */
    programs: string;
  }
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
// In node_modules: what is not bundled is found from there, and neither git nor vitest looks into it.
const FOLDERS = path.join(ROOT, "node_modules/.cache/test-programs");

/** Of each program that tests start by the hundred, what runs when it is started. */
const PROGRAMS = {
  kite: `import { main } from "./kite/cli/src/main.ts"; await main(process.argv);`,
  kontrol: `import "./kontrol/src/main.ts";`,
  mesh: `import "./deploy/local/src/main.ts";`,
  "kontrol-process": `import "./test/setup/kontrol.ts";`,
  "busy-kite": `import "./kontrol/src/presence/test-busy-kite.ts";`,
};
export type ProgramName = keyof typeof PROGRAMS;

/**
 * Bundles the programs that tests start. Node needs half a second to load one from its sources, two thirds of it to make JavaScript
 * of the same files again and again. They are built for each run, and again for each rerun of a watch, so that no test meets an old one.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeOrphans();
  const folder = path.join(FOLDERS, String(process.pid));
  const entryPoints = Object.keys(PROGRAMS).map((name) => ({ in: `program:${name}`, out: name }));
  const builder = await context(bundleOf(entryPoints, folder));
  await builder.rebuild();
  project.onTestsRerun(async () => {
    await builder.rebuild();
  });
  project.provide("programs", folder);

  return async () => {
    await builder.dispose();
    await rm(folder, { recursive: true, force: true });
  };
}

/** How programs become files that `node` runs without loading a source of ours. */
export function bundleOf(entryPoints: { in: string; out: string }[], outdir: string): BuildOptions {
  return {
    entryPoints,
    outdir,
    outExtension: { ".js": ".mjs" },
    absWorkingDir: ROOT,
    bundle: true,
    // What a command imports only when it runs stays a file of its own, as it is in the sources.
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    conditions: ["mesh-source"],
    keepNames: true,
    sourcemap: "linked",
    // Native code, what finds its own files by where it lies, and options that nobody installed.
    external: ["node-pty", "@lydell/node-pty", "esbuild", "bufferutil", "utf-8-validate", "pg-native"],
    // Some of what is bundled is CommonJS, and asks for Node's own modules with `require`.
    banner: { js: 'import { createRequire as nodeRequire } from "node:module"; const require = nodeRequire(import.meta.url);' },
    legalComments: "none",
    logLevel: "warning",
    plugins: [starters, laterPackages, places],
  };
}

/** What each program begins with: a line of its own, in the repository's folder. */
const starters: Plugin = {
  name: "starters",
  setup(build) {
    build.onResolve({ filter: /^program:/ }, ({ path: name }) => ({ path: name.slice("program:".length), namespace: "program" }));
    build.onLoad({ filter: /.*/, namespace: "program" }, ({ path: name }) => ({
      contents: PROGRAMS[name as ProgramName],
      resolveDir: ROOT,
    }));
  },
};

/** A package that is imported only when it is needed is Node's to load: bundled, one in CommonJS would lose its named exports. */
const laterPackages: Plugin = {
  name: "later-packages",
  setup(build) {
    build.onResolve({ filter: /^[@a-z]/ }, ({ path: name, kind }) =>
      kind === "dynamic-import" && !name.startsWith("@kite-mesh/") ? { path: name, external: true } : null,
    );
  },
};

/** `import.meta` goes on saying where the source lies: migrations, templates and manifests are found from there. */
const places: Plugin = {
  name: "places",
  setup(build) {
    build.onLoad({ filter: /[.]ts$/ }, async ({ path: file }) => {
      const contents = await readFile(file, "utf8");
      if (!contents.includes("import.meta")) return { contents, loader: "ts" satisfies Loader };
      const place = { url: pathToFileURL(file).href, dirname: path.dirname(file), filename: file };
      const define = Object.fromEntries(Object.entries(place).map(([name, value]) => [`import.meta.${name}`, JSON.stringify(value)]));
      const sourcefile = path.basename(file);
      const { code } = await transform(contents, { loader: "ts", target: "node20", define, sourcefile, sourcemap: "inline" });
      return { contents: code, loader: "js" satisfies Loader };
    });
  },
};

/** A run that was killed has left its folder. */
async function removeOrphans(): Promise<void> {
  await mkdir(FOLDERS, { recursive: true });
  const orphans = (await readdir(FOLDERS)).filter((pid) => Number(pid) === process.pid || !isAlive(Number(pid)));
  for (const orphan of orphans) await rm(path.join(FOLDERS, orphan), { recursive: true, force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
