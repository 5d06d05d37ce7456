import { defineConfig } from "tsup";
import { workspaces } from "./deploy/build/workspaces.ts";

// One configuration for all packages: what each of them builds is what its package.json exports.
export default defineConfig(
  workspaces()
    .filter((workspace) => !workspace.private && Object.keys(workspace.entries).length > 0)
    .map(({ name, folder, entries }) => ({
      name,
      entry: entries,
      outDir: `${folder}/dist`,
      format: "esm",
      target: "node20",
      platform: "node",
      splitting: true,
      sourcemap: true,
      clean: true,
      // Dependencies are installed with the package, never copied into it.
      skipNodeModulesBundle: true,
      silent: true,
    })),
);
