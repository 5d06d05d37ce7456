import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { method } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import { openTestMesh } from "./test-mesh.ts";

// Every command is a process of its own, which takes a second to start where others run beside it.
vi.setConfig({ testTimeout: 60_000 });
const outer = { PATH: "/usr/bin:/bin", NO_COLOR: "1" };
const methods = { square: method({ role: "viewer" }, () => 144) };

test("list prints its last answer while kontrol is down, says how old it is, and exits with 5", async () => {
  await using mesh = await openTestMesh({ math: methods, web: methods }, outer);
  const before = await mesh.run("list");
  expect(before).toMatchObject({ status: 0, stderr: "" });

  await mesh.kontrol.close();
  const all = await mesh.run("list");
  const some = await mesh.run("list", "--json", "math@^1");

  expect(all.status).toBe(5);
  expect(namesIn(all.stdout)).toEqual(["math", "web"]);
  expect(all.stderr).toMatch(/^kite: as of (just now|\d+ seconds? ago); kontrol does not answer: no mesh is running at .*\n$/);
  expect(some.status).toBe(5);
  expect(JSON.parse(some.stdout)).toMatchObject([{ kite: { name: "math" }, asOf: expect.any(Number), stale: true }]);
});

test("what list keeps is for its owner alone, has no token in it, and is not a word about another mesh", async () => {
  await using mesh = await openTestMesh({ math: methods }, outer);
  const kept = join(mesh.home, "list.json");
  await writeFile(kept, "not JSON");
  await chmod(kept, 0o644);

  expect(await mesh.run("list", "--json", "math")).toMatchObject({ status: 0, stderr: "" });

  expect((await stat(kept)).mode & 0o777).toBe(0o600);
  const text = await readFile(kept, "utf8");
  expect(text).toContain('"name":"math"');
  expect(text).not.toMatch(/token|eyJ|AAAA/);
  await mesh.kontrol.close();
  expect(await mesh.run("list", "web")).toMatchObject({ status: 3, stdout: "", stderr: expect.stringContaining("no mesh is running") });
  await writeFile(kept, text.replace(mesh.kontrol.identity.id, "").replace('"username":"alice","answers"', '"username":"bob","answers"'));
  expect(await mesh.run("list", "math")).toMatchObject({ status: 3, stdout: "" });
});

test("list asks by labels, shows them when they are asked for, and asks its last answer in the same way", async () => {
  await using mesh = await openTestMesh({ math: methods, web: methods }, outer, {}, { math: { region: "eu", load: "0.25" } });

  const some = await mesh.run("list", "--label", "region=eu", "--label", "load<0.7");
  const none = await mesh.run("list", "--label", "region=eu", "--label", "load>0.7");
  const wide = await mesh.run("list", "--wide");
  await mesh.kontrol.close();
  const kept = await mesh.run("list", "--label", "!region");

  expect(namesIn(some.stdout)).toEqual(["math"]);
  expect(some.stdout).not.toContain("LABELS");
  expect(none.stdout).toBe("no kites\n");
  expect(wide.stdout).toMatch(/ID +LABELS\nmath .* load=0\.25 region=eu\nweb /);
  expect([kept.status, namesIn(kept.stdout)]).toEqual([5, ["web"]]);
});

test("call without a method names those that there are", async () => {
  const served = {
    ...methods,
    kite: { methods: method({ role: "viewer" }, () => ["square", "fs.readFile", "kite.methods"].map((name) => ({ name }))) },
  };
  await using mesh = await openTestMesh({ math: served }, outer);

  expect(await mesh.run("call", "math")).toEqual({
    status: 2,
    stdout: "",
    stderr: "kite: missing required argument 'method'; math has fs.readFile, square; kite docs math says more\n",
  });
  expect(await mesh.run("call", "mat")).toMatchObject({ status: 1, stderr: expect.stringContaining("did you mean math?") });
});

function namesIn(printed: string): string[] {
  const [, ...rows] = printed.trimEnd().split("\n");
  return rows.map((row) => row.split(" ")[0] ?? "").sort();
}
