import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { checkName } from "./new-kite.ts";
import { fill } from "./template.ts";
import { KITE_BIN } from "./test-mesh.ts";

// A new kite is type checked together with the library's sources, half a minute of work on a core that others use too.
vi.setConfig({ testTimeout: 120_000 });

const CHECKOUT = join(import.meta.dirname, "../../..");
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-new-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

test("a new kite has a method, a test, a Dockerfile and a systemd unit, and says what to do next", async () => {
  const { status, stdout } = await kite("new", "image-store");

  const files = await readdir(join(root, "image-store"), { recursive: true });
  expect(status).toBe(0);
  expect(stdout).toMatch(/✓ image-store is in image-store: 10 files\n\n {2}cd image-store\n/);
  // No registry has this checkout's library.
  expect(stdout).toContain(`npm pack ${join(CHECKOUT, "kite")} `);
  expect(stdout).toMatch(/npm install \.\/kite-mesh-kite-[\d.]+\.tgz\n/);
  // And no shell knows its command.
  expect(stdout).toContain(`npx --prefix ${CHECKOUT} kite call image-store greet world`);
  expect(files.sort()).toEqual([
    ".dockerignore",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "image-store.service",
    "package.json",
    "src",
    "src/image-store.test.ts",
    "src/image-store.ts",
    "src/main.ts",
    "tsconfig.json",
  ]);
  for (const file of files.filter((name) => name !== "src"))
    expect(await readFile(join(root, "image-store", file), "utf8"), file).not.toMatch(/\{\{|NAME/);
});

test("a new kite passes its own test and type checks", async () => {
  const folder = join(root, "own");
  expect(await kite("new", "greeter", "--dir", "own")).toMatchObject({ status: 0 });
  await symlink(join(CHECKOUT, "node_modules"), join(folder, "node_modules"));

  const tested = await run(process.execPath, ["--conditions=mesh-source", "--import", "tsx", "--test", "src/greeter.test.ts"], folder);
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  // As in its tsconfig.json, but for finding the library's sources, which need no build and know a browser as well.
  const sources = ["--customConditions", "mesh-source", "--lib", "ES2023,ESNext.Disposable,DOM,DOM.Iterable,DOM.AsyncIterable"];
  const checked = await run(process.execPath, [tsc, "--noEmit", "-p", ".", ...sources], folder);

  expect(tested).toMatchObject({ status: 0, stdout: expect.stringMatching(/# pass 2\n# fail 0/) });
  expect(checked).toMatchObject({ status: 0, stdout: "" });
});

test("a new kite asks for the versions that this repository is tested with", async () => {
  await kite("new", "versions");
  const { dependencies, devDependencies } = JSON.parse(await readFile(join(root, "versions/package.json"), "utf8"));
  const versionOf = async (name: string) => JSON.parse(await readFile(join(CHECKOUT, name, "package.json"), "utf8"));

  expect(dependencies["@kite-mesh/kite"]).toBe((await versionOf("kite")).version);
  expect(dependencies.zod).toBe((await versionOf("kite")).devDependencies.zod);
  expect(devDependencies.typescript).toBe((await versionOf(".")).devDependencies.typescript);
  expect(devDependencies["@types/node"]).toBe((await versionOf(".")).devDependencies["@types/node"]);
});

test("with --json programs learn what was made", async () => {
  const { stdout } = await kite("new", "programs", "--json");

  expect(JSON.parse(stdout)).toMatchObject({
    name: "programs",
    folder: join(root, "programs"),
    files: expect.arrayContaining(["README.md"]),
  });
});

test("what is in a folder already stays as it is", async () => {
  const folder = await mkdtemp(join(root, "full-"));
  await writeFile(join(folder, "package.json"), "mine");

  const { status, stderr } = await kite("new", "greeter", "--dir", folder);

  expect([status, stderr]).toEqual([1, expect.stringMatching(/^kite: .* is not empty \(package\.json…\); give an empty or new folder/)]);
  expect(await readdir(folder)).toEqual(["package.json"]);
  expect(await readFile(join(folder, "package.json"), "utf8")).toBe("mine");
});

test.each(["Greeter", "9lives", "a_b", "a--b", "-a", "a-", "../up", "a/b", "main", "zod", "a".repeat(64), ""])(
  "%j is no name for a kite",
  (name) => {
    expect(() => checkName(name)).toThrow(/^a kite(?:'s name has| cannot be called) /);
  },
);

test("a name that cannot be is a usage error, and makes nothing", async () => {
  expect(await kite("new", "../up")).toMatchObject({
    status: 2,
    stdout: "",
    stderr: expect.stringMatching(/^kite: a kite's name has .*\n$/),
  });
  expect(existsSync(join(root, "../up"))).toBe(false);
});

test("a template that is not there is refused", async () => {
  expect(await kite("new", "greeter", "--template", "rocket")).toMatchObject({
    status: 2,
    stderr: 'kite: --template should be one of basic, and is "rocket"\n',
  });
});

test("a placeholder that nobody knows is a mistake in the template", () => {
  const values = { name: "a", contract: "AContract", version: "1.0.0" };

  expect(fill("{{name}} {{contract}} { {name}", values)).toBe("a AContract { {name}");
  expect(() => fill("{{nome}}", values)).toThrow("placeholder nome");
});

const kite = (...args: string[]) => run(process.execPath, [KITE_BIN, ...args], root);

function run(file: string, args: string[], cwd: string) {
  // The runner of these tests sets it for its own processes; node --test would take itself for one of them.
  const { NODE_OPTIONS: _options, NODE_TEST_CONTEXT: _context, ...env } = process.env;
  return new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(file, args, { cwd, env: { ...env, NO_COLOR: "1" }, timeout: 100_000 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}
