import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { dashboardAssets } from "./assets.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kite-mesh-assets-test-"));
  await mkdir(join(folder, "web", "assets"), { recursive: true });
  await write("index.html", "<title>Kite Mesh</title>");
  await write("main.ts", 'import "./style.css";\nimport { word } from "./word.ts";\nconsole.log(word);');
  await write("word.ts", 'export const word: string = "hello";');
  await write("style.css", "body { color: rgb(1, 2, 3) }");
  await write("assets/icon.svg", "<svg/>");
});

afterEach(() => rm(folder, { recursive: true, force: true }));

test("from a checkout, page, script, styles and images are there, and nothing of the sources", async () => {
  const assets = await dashboardAssets(folder)();

  expect([...assets.keys()].sort()).toEqual(["/", "/assets/icon.svg", "/assets/main.css", "/assets/main.js"]);
  expect(assets.get("/")).toMatchObject({ type: "text/html; charset=utf-8" });
  expect(String(assets.get("/assets/main.js")?.body)).toContain("hello");
  expect(String(assets.get("/assets/main.css")?.body)).toContain("#010203");
});

test("the bundle is made once, for all who ask at the same moment", async () => {
  const assets = dashboardAssets(folder);

  const [first, second] = await Promise.all([assets(), assets()]);
  await write("word.ts", 'export const word = "later";');

  expect(first).toBe(second);
  expect(await assets()).toBe(first);
});

test("a source that cannot be bundled is told, and tried again at the next request", async () => {
  const assets = dashboardAssets(folder);
  await write("word.ts", "export const = 7;");
  await expect(assets()).rejects.toThrow(/could not be bundled:\n.*word\.ts/s);

  await write("word.ts", 'export const word = "mended";');

  expect(String((await assets()).get("/assets/main.js")?.body)).toContain("mended");
});

test("bundling leaves nothing behind", async () => {
  // Of its own: others bundle a dashboard in the common one.
  const temporary = await mkdtemp(join(folder, "tmp-"));
  vi.stubEnv("TMPDIR", temporary);
  onTestFinished(() => void vi.unstubAllEnvs());

  await dashboardAssets(folder)();

  expect(await readdir(temporary)).toEqual([]);
});

function write(name: string, text: string): Promise<void> {
  return writeFile(join(folder, "web", name), text);
}
