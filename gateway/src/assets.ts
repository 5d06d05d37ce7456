import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { KiteError } from "@kite-mesh/kite";

/** A file of the dashboard, ready to be sent. */
export interface Asset {
  readonly body: Buffer<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
}

/** The dashboard by path: `/`, `/assets/main.js`, `/assets/main.css` and whatever images lie beside them. */
export type Assets = ReadonlyMap<string, Asset>;

/**
 * The dashboard's files: those in `dist/web` where the gateway itself runs built, otherwise bundled from `web` at the first
 * request and kept in memory, so that a checkout needs no build. A bundle that failed is tried again at the next request.
 */
export function dashboardAssets(folder: string = PACKAGE): () => Promise<Assets> {
  let assets: Promise<Assets> | undefined;
  return () => {
    assets ??= load(folder).catch((cause: unknown) => {
      assets = undefined;
      throw cause;
    });
    return assets;
  };
}

/** Bundles the dashboard from its sources. `outFolder` gets `index.html` and `assets/`; the build uses it too. */
export async function bundleDashboard(webFolder: string, outFolder: string): Promise<void> {
  const require = createRequire(import.meta.url);
  const esbuild = join(dirname(require.resolve("esbuild/package.json")), "bin", "esbuild");
  const flags = [...BUNDLE_FLAGS, `--outdir=${join(outFolder, "assets")}`, join(webFolder, "main.ts")];
  // A process for this one job: the one behind esbuild's own API would stay, idle, for as long as the mesh runs.
  await promisify(execFile)(esbuild, flags, { timeout: BUNDLE_LIMIT_MS, cwd: webFolder }).catch((cause: unknown) => {
    const said = (cause as { stderr?: string }).stderr?.trim().slice(0, 2_000) ?? "";
    throw new KiteError("internal", `the dashboard could not be bundled${said && `:\n${said}`}`, { cause });
  });
}

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
// About a second on two busy cores; a bundler that takes a minute hangs.
const BUNDLE_LIMIT_MS = 60_000;

const BUNDLE_FLAGS = [
  "--bundle",
  "--format=esm",
  "--platform=browser",
  "--target=es2022",
  "--conditions=mesh-source,browser",
  "--minify",
  "--legal-comments=none",
  "--log-level=error",
  "--loader:.svg=dataurl",
  "--loader:.woff2=dataurl",
];

/** What may be served, and as what; sources lie in the same folder and are not in here. */
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".webmanifest": "application/manifest+json",
};

async function load(folder: string): Promise<Assets> {
  const runsBuilt = !import.meta.url.endsWith(".ts");
  const built = runsBuilt ? await readAssets(join(folder, "dist", "web")) : undefined;
  if (built?.has("/")) return built;
  const web = join(folder, "web");
  const out = await mkdtemp(join(tmpdir(), "kite-mesh-web-"));
  try {
    await bundleDashboard(web, out);
    // Styles are in the bundle; the sources' own are not served.
    const beside = [...(await readAssets(web))].filter(([path]) => !path.endsWith(".css") && !path.endsWith(".js"));
    return new Map([...beside, ...(await readAssets(out))]);
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}

/** Every file below a folder that has a type; empty when there is no such folder. */
async function readAssets(folder: string): Promise<Map<string, Asset>> {
  const assets = new Map<string, Asset>();
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const type = TYPES[extname(entry.name)];
    if (!entry.isFile() || type === undefined) continue;
    const file = join(entry.parentPath, entry.name);
    const path = file.slice(folder.length).replaceAll("\\", "/");
    assets.set(path === "/index.html" ? "/" : path, await toAsset(file, type));
  }
  return assets;
}

async function toAsset(file: string, type: string): Promise<Asset> {
  const body = await readFile(file);
  return { body, type, etag: `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"` };
}
