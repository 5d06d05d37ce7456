#!/usr/bin/env node
// Runs the built command where there is one, and its sources in a checkout: in this process either way, from any folder.
import { existsSync } from "node:fs";
import { register } from "node:module";

const built = new URL("../dist/main.js", import.meta.url);
if (!existsSync(built)) {
  const { register: registerTsx } = await import("tsx/esm/api");
  registerTsx();
  register("./mesh-source.js", import.meta.url);
}
await import(existsSync(built) ? built.href : new URL("../src/main.ts", import.meta.url).href);
