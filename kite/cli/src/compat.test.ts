import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type KiteDescription, method } from "@kite-mesh/kite";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { SHOP } from "./test-description.ts";
import { openTestMesh, type TestMesh } from "./test-mesh.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

/** Without a method, with a new one, and open to fewer. */
const NEXT: KiteDescription = {
  ...SHOP,
  kite: { ...SHOP.kite, version: "2.0.0" },
  methods: [
    { ...SHOP.methods[0]!, role: "owner" },
    SHOP.methods[1]!,
    { name: "checkout", role: "owner", repetition: "once", input: [], required: 0, output: {} },
  ],
};
const GROWN: KiteDescription = { ...SHOP, methods: [...SHOP.methods, NEXT.methods[2]!] };

let mesh: TestMesh;
beforeAll(async () => {
  mesh = await openTestMesh({ next: { kite: { describe: method({ role: "viewer" }, () => NEXT) } } }, process.env);
  await writeFile(join(mesh.home, "shop.json"), JSON.stringify(SHOP));
  await writeFile(join(mesh.home, "grown"), JSON.stringify(GROWN));
  await writeFile(join(mesh.home, "broken.json"), "{");
  await writeFile(join(mesh.home, "other.json"), '{"name": "a package"}');
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("what breaks callers is told first, and is an exit status of its own", async () => {
  const { status, stdout } = await mesh.run("compat", "shop.json", "next");

  expect(status).toBe(4);
  expect(stdout).toMatch(
    /^shop 1\.2\.0 → shop 2\.0\.0\nbreaks {2}basket\.add: .*owner.*\nbreaks {2}watch it: is not served any more\nok {6}checkout: is new\n/,
  );
  expect(stdout).toMatch(/✗ 2 changes break callers, 1 does not\n$/);
});

test("a method more breaks nobody, and neither does the same contract", async () => {
  expect(await mesh.run("compat", "shop.json", "grown")).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/ok +checkout: is new\n✓ nothing breaks; 1 change\n$/),
  });
  expect(await mesh.run("compat", "next", "next")).toMatchObject({ status: 0, stdout: expect.stringMatching(/✓ the same contract\n$/) });
});

test("what a stranger calls his properties steers no terminal", async () => {
  const named = (type: string) => ({ type: "object", properties: { "a\u009b2J\u001b]0;root\u0007": { type } } });
  const contract = (type: string) => ({ ...SHOP, methods: [{ ...SHOP.methods[1]!, input: [named(type)] }] });
  await writeFile(join(mesh.home, "was.json"), JSON.stringify(contract("string")));
  await writeFile(join(mesh.home, "is.json"), JSON.stringify(contract("number")));

  const { stdout } = await mesh.run("compat", "was.json", "is.json");

  expect(stdout).toContain("breaks  categories: argument 1.a 2J ]0;root  no longer accepts string\n");
});

test("with --json programs get every change", async () => {
  const { status, stdout } = await mesh.run("compat", "shop.json", "next", "--json");

  const { compatible, before, changes } = JSON.parse(stdout);
  expect([status, compatible, before.version]).toEqual([4, false, "1.2.0"]);
  expect(changes).toContainEqual(expect.objectContaining({ method: "checkout", kind: "added", breaking: false }));
  expect(changes).toContainEqual(expect.objectContaining({ method: "watch it", kind: "removed", breaking: true }));
});

test.each([
  [["compat", "nowhere.json", "shop.json"], 2, /^kite: nowhere\.json cannot be read: ENOENT/],
  [["compat", "broken.json", "shop.json"], 2, /^kite: broken\.json should hold what kite docs --format json writes, and is not JSON/],
  [["compat", "shop.json", "other.json"], 1, /^kite: other\.json: methods should be a list, and is missing\n$/],
  [["compat", "shop.json", "nxt"], 1, /^kite: no kite matches nxt; did you mean next\?\n$/],
])("%j fails with one sentence", async (args, status, message) => {
  expect(await mesh.run(...args)).toMatchObject({ status, stdout: "", stderr: expect.stringMatching(message) });
});
