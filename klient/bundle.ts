import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export interface KlientBundle {
  /** Run it with Node and the variables that `src/options.ts` lists. */
  main: string;
  /** Started by main when the first terminal is opened; it must lie beside it. */
  ptyHost: string;
}

/**
 * Puts klient into two files that need nothing but Node and the terminal library, which is native code and stays where it
 * is installed; its place is written into the bundle. Needs no network. A file that would not change is left alone, and
 * one that does is replaced at once, so that klients may be started from it meanwhile.
 */
export async function bundleKlient({ outDir }: { outDir: string }): Promise<KlientBundle> {
  const { outputFiles } = await build({
    entryPoints: { main: here("src/main.ts"), "pty-host": here("src/pty-host-main.ts") },
    outdir: outDir,
    outExtension: { ".js": ".mjs" },
    write: false,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    conditions: ["mesh-source"],
    external: ["node-pty", "@lydell/node-pty", "bufferutil", "utf-8-validate"],
    define: { KLIENT_MODULES_FROM: JSON.stringify(here("package.json")) },
    // Some of what is bundled is CommonJS, and asks for Node's own modules with `require`.
    banner: { js: 'import { createRequire as nodeRequire } from "node:module"; const require = nodeRequire(import.meta.url);' },
    legalComments: "none",
    logLevel: "silent",
  });
  await mkdir(outDir, { recursive: true });
  await Promise.all(outputFiles.map(({ path, contents }) => replaceIfChanged(join(outDir, basename(path)), contents)));
  return { main: join(outDir, "main.mjs"), ptyHost: join(outDir, "pty-host.mjs") };
}

async function replaceIfChanged(path: string, contents: Uint8Array): Promise<void> {
  const present = await readFile(path).catch(() => undefined);
  if (present?.equals(contents) === true) return;
  const fresh = `${path}.${randomUUID()}`;
  try {
    await writeFile(fresh, contents);
    await rename(fresh, path);
  } finally {
    await rm(fresh, { force: true });
  }
}

function here(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}
