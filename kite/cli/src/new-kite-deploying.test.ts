import { expect, test } from "vitest";
import { readTemplate } from "./template.ts";

// What a new kite brings for containers and machines is not run here: what it says must fit what is run.
const files = new Map(
  (await readTemplate("basic", { name: "greeter", contract: "GreeterContract", version: "1.0.0" })).map(({ path, content }) => [
    path,
    content,
  ]),
);
const manifest = JSON.parse(text("package.json")) as { engines: { node: string }; scripts: Record<"build" | "start" | "test", string> };
const docker = text("Dockerfile");
const unit = text("greeter.service");
const PROGRAM = "node --enable-source-maps dist/main.js";

test("npm start, the container and the unit start the same program", () => {
  expect(manifest.scripts.start).toBe(`${manifest.scripts.build} && ${PROGRAM}`);
  expect(docker).toContain(`\nCMD ${JSON.stringify(PROGRAM.split(" ")).replaceAll(",", ", ")}\n`);
  expect(unit).toContain(`\nExecStart=/usr/bin/env ${PROGRAM}\n`);
});

test("the image is built from what is in the folder after npm install, tested on the way, and holds no key", () => {
  const copied = [...docker.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, sources = ""]) => sources.split(" "));
  const ignored = text(".dockerignore").split("\n");

  expect(copied).toEqual(["package.json", "package-lock.json", "*.tgz", "tsconfig.json", "src"]);
  // npm makes the lock file, and packs the library where no registry has it.
  const made = ["package-lock.json", "*.tgz"];
  expect(
    copied.filter((name) => !made.includes(name) && ![...files.keys()].some((file) => file === name || file.startsWith(`${name}/`))),
  ).toEqual([]);
  expect(copied.filter((name) => ignored.includes(name))).toEqual([]);
  expect(ignored).toEqual(expect.arrayContaining(["kite.key", ".kite", "node_modules"]));
  expect(docker).toContain("\nRUN npm test && npm prune --omit=dev\n");
  expect(docker).toContain("\nUSER node\n");
});

test("the image has a Node that the kite runs on", () => {
  const [least = 0] = (/>=(\d+)/.exec(manifest.engines.node) ?? []).slice(1).map(Number);
  const bases = [...docker.matchAll(/^FROM node:(\d+)/gm)].map(([, major]) => Number(major));

  expect(bases.length).toBe(2);
  expect(Math.min(...bases)).toBeGreaterThanOrEqual(least);
});

test("the variables that the container, the unit and README.md set are those that the kite reads", () => {
  const main = text("src/main.ts");
  const read = [...(/const \{(.*)\} = process\.env/.exec(main)?.[1] ?? "").matchAll(/([A-Z_]+):/g)].map(([, name]) => name);

  expect(read).toEqual(["HOST", "PORT", "PUBLIC_URL"]);
  for (const name of read)
    expect([name, text("README.md").includes(`| \`${name}\``), unit.includes(name ?? "")]).toEqual([name, true, true]);
  expect(docker).toMatch(/^ENV NODE_ENV=production KITE_HOME=\/run\/kite HOST=0\.0\.0\.0 PORT=(\d+)$/m);
  expect(/PORT=(\d+)/.exec(docker)?.[1]).toBe(/EXPOSE (\d+)/.exec(docker)?.[1]);
});

test("the unit keeps the key in the one folder that it may write to, and is tried again for ever", () => {
  expect(unit).toContain("KITE_HOME=/var/lib/greeter\n");
  expect(unit).toContain("\nStateDirectory=greeter\nStateDirectoryMode=0700\n");
  expect(unit).toContain("\nUser=greeter\n");
  expect(unit).toMatch(/\nStartLimitIntervalSec=0\n.*\nRestart=always\n/s);
  // Each line is a section, a setting or a comment.
  expect(unit.split("\n").filter((line) => !/^(\[\w+\]|[A-Z]\w+=.*|#.*|)$/.test(line))).toEqual([]);
  expect(text("README.md")).toContain("sudo install -o greeter -m 0400 ~/.kite/kite.key /var/lib/greeter/");
});

function text(file: string): string {
  return files.get(file) ?? "";
}
