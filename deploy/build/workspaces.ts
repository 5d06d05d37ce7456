import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** One package of the repository, as its package.json describes it. */
export interface Workspace {
  /** Relative to the root, such as `kloud/providers/local`. */
  folder: string;
  name: string;
  private: boolean;
  /** Sources that become files of their own in `dist/`, by the name they get there. */
  entries: Record<string, string>;
  /** What others may import, as `exports` names it, such as `./nats`. */
  imports: string[];
}

interface Manifest {
  name: string;
  private?: boolean;
  workspaces?: string[];
  exports?: Record<string, { "mesh-source"?: string; import?: string }>;
}

/** Every package of the repository. `exports` says what is built, so nothing can be published that was not, or built for nobody. */
export function workspaces(): Workspace[] {
  const folders = (manifest("").workspaces ?? []).flatMap(foldersOf);
  return folders.map((folder) => {
    const { name, private: isPrivate = false, exports = {} } = manifest(folder);
    // Without an `import` it is for this repository alone.
    const offered = Object.entries(exports).filter(([, { import: target }]) => target !== undefined);
    const built = offered.flatMap(([, { "mesh-source": source, import: target }]) =>
      source && target ? [[entryName(target), source]] : [],
    );
    // What is started and not imported stands in no exports.
    if (existsSync(path.join(ROOT, folder, "src/main.ts"))) built.push(["main", "./src/main.ts"]);
    const entries = built.map(([name = "", source = ""]) => [name, path.join(folder, source)]);
    return { folder, name, private: isPrivate, entries: Object.fromEntries(entries), imports: offered.map(([entry]) => entry) };
  });
}

function foldersOf(pattern: string): string[] {
  if (!pattern.endsWith("/*")) return [pattern];
  const parent = pattern.slice(0, -2);
  const folders = readdirSync(path.join(ROOT, parent)).map((child) => path.join(parent, child));
  return folders.filter((folder) => existsSync(path.join(ROOT, folder, "package.json")));
}

function manifest(folder: string): Manifest {
  return JSON.parse(readFileSync(path.join(ROOT, folder, "package.json"), "utf8")) as Manifest;
}

/** `./dist/nats/index.js` is the entry `nats/index`. */
function entryName(target: string): string {
  return target.replace(/^[.]\/dist\//, "").replace(/[.]js$/, "");
}
