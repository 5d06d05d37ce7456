import { rm, symlink } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import KONTROL from "../../kontrol/package.json" with { type: "json" };
import PACKAGE from "../package.json" with { type: "json" };

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const CACHE = path.join(ROOT, "test/node_modules/.cache/kite-bench");

/** Makes a program for processes of a benchmark: a loader that compiles on the fly also changes what it compiles. */
export async function bundle(source: string): Promise<string> {
  const entry = fileURLToPath(new URL(source, import.meta.url));
  const name = path.relative(path.join(ROOT, "test/bench"), entry).replace(/\.ts$/, "").replaceAll(path.sep, "-");
  const outdir = path.join(CACHE, "dist");
  await build({
    entryPoints: { [name]: entry },
    outdir,
    bundle: true,
    // What is imported when it is needed is not loaded before. In one file every process would hold the packages of all sides:
    // some 16 MB of heap that no user has, and each full collection goes through them.
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    conditions: ["mesh-source"],
    // Others' packages are taken as they are installed (CommonJS could not be built in); only our own sources are built here.
    external: Object.keys({ ...KONTROL.dependencies, ...PACKAGE.dependencies, ...PACKAGE.devDependencies }).filter(
      (name) => !name.startsWith("@kite-mesh/"),
    ),
    sourcemap: "linked",
  });
  // kontrol's migrations are files beside its program's folder, here as in its package.
  const sql = path.join(CACHE, "sql");
  await rm(sql, { force: true });
  await symlink(path.join(ROOT, "kontrol/sql"), sql);
  return path.join(outdir, `${name}.js`);
}
