#!/usr/bin/env node
// Runs its sources in a checkout, where what was built may be old, and the built command elsewhere: in this process either way,
// from any folder.
import { existsSync } from "node:fs";
import { register } from "node:module";

const source = new URL("../src/main.ts", import.meta.url);
const isCheckout = existsSync(source);
if (isCheckout) {
  const { register: registerTsx } = await import("tsx/esm/api");
  registerTsx();
  register("./mesh-source.js", import.meta.url);
}
await import(isCheckout ? source.href : new URL("../dist/main.js", import.meta.url).href);
