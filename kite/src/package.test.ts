import { existsSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import PACKAGE from "../package.json" with { type: "json" };

const { dependencies, exports, files, peerDependencies, peerDependenciesMeta } = PACKAGE;

test("who installs kite gets two packages besides it", () => {
  expect(Object.keys(dependencies).sort()).toEqual(["jose", "ws"]);
  const optional = Object.entries(peerDependenciesMeta).flatMap(([name, meta]) => (meta.optional ? [name] : []));
  expect(optional.sort()).toEqual(Object.keys(peerDependencies).sort());
  expect(PACKAGE).not.toHaveProperty("optionalDependencies");
  expect(PACKAGE).not.toHaveProperty("bundleDependencies");
});

test("each subpath has its source, and each page that is published is there", () => {
  const folder = path.join(import.meta.dirname, "..");
  const sources = Object.values(exports).map((entry) => entry["mesh-source"]);
  const pages = files.filter((name) => name !== "dist");

  expect([...sources, ...pages].filter((name) => !existsSync(path.join(folder, name)))).toEqual([]);
  expect(pages).toEqual(expect.arrayContaining(["README.md", "PROTOCOL.md"]));
});
