import { existsSync } from "node:fs";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { ROOT, workspaces } from "./workspaces.ts";

// All packages are declared by one run of tsc (tsconfig.build.json), because their contracts may refer to each other.
// Here each package's declarations move into its dist/, beside the JavaScript that tsup made.
const EMITTED = path.join(ROOT, "node_modules/.cache/declarations");

for (const { folder } of workspaces().filter((workspace) => !workspace.private)) {
  const from = path.join(EMITTED, folder, "src");
  if (!existsSync(from)) continue;
  const dist = path.join(ROOT, folder, "dist");
  await cp(from, dist, { recursive: true });
  const files = (await readdir(dist, { recursive: true })).filter((file) => file.endsWith(".d.ts"));
  await Promise.all(files.map((file) => pointAtJavaScript(path.join(dist, file))));
}
await rm(EMITTED, { recursive: true });

/** Sources import `./wire.ts`; who installs the package has `./wire.js` and its declaration. */
async function pointAtJavaScript(file: string): Promise<void> {
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replace(/((?:from|import) ?\(?")(\.{1,2}\/[^"]+)\.ts"/g, '$1$2.js"'));
}
