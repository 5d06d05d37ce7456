import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT, startMesh, type TestMesh } from "../mesh.ts";
import { bundleOf } from "../setup/programs.ts";
import { until } from "../until.ts";

// What kite's README shows is run as it stands, and must print what it says beside each line.
const README = await readFile(path.join(CHECKOUT, "kite/README.md"), "utf8");
// Inside the checkout, so that packages are found as any program beside it would find them.
const FOLDER = path.join(CHECKOUT, `test/node_modules/.cache/readme-${process.pid}`);
const SOON_MS = 30_000;
const programs = programsOf(README);
let mesh: TestMesh;

beforeAll(async () => {
  await mkdir(FOLDER, { recursive: true });
  // What lies below node_modules has no package.json of ours above it, and would be CommonJS.
  await writeFile(path.join(FOLDER, "package.json"), JSON.stringify({ type: "module" }));
  for (const { file, code } of programs) await writeFile(path.join(FOLDER, file), code);
  // Once with the library for all of them: each would load a hundred of its sources.
  await build(
    bundleOf(
      programs.map(({ file }) => ({ in: path.join(FOLDER, file), out: path.parse(file).name })),
      FOLDER,
    ),
  );
  mesh = await startMesh();
}, 120_000);

afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
  await rm(FOLDER, { recursive: true, force: true });
}, 60_000);

test("every block of code on the page is one of the programs, and each of them is run", () => {
  const beside = new Set(programs.map((program) => program.beside));
  const idle = programs.filter(({ file, says }) => says.length === 0 && !beside.has(file));

  // Each fence twice, where it opens and where it closes, whatever is said to be in it.
  expect(README.match(/^ *(?:```|~~~)/gm)).toHaveLength(2 * programs.length);
  expect(idle.map(({ file }) => file)).toEqual([]);
});

describe("a program on the page does what is written beside it", () => {
  test.each(programs.filter(({ says }) => says.length > 0))("$file", async ({ file, beside, says }) => {
    await using _other = beside === undefined ? undefined : await start(beside);

    const program = run(file);
    // By its exit not all that it printed has arrived.
    const [status] = await once(program.process, "close");

    expect(program.output.trim().split("\n")).toEqual(says);
    expect(status).toBe(0);
  });
});

test("the programs are typed as they stand", async () => {
  const files = programs.map(({ file }) => path.join(FOLDER, file));
  const config = { extends: path.join(CHECKOUT, "tsconfig.json"), compilerOptions: { types: ["node"] }, files, include: [] };
  await writeFile(path.join(FOLDER, "tsconfig.json"), JSON.stringify(config));

  const tsc = spawn(process.execPath, [path.join(CHECKOUT, "node_modules/typescript/bin/tsc"), "-p", FOLDER]);
  const said = collect(tsc);
  const [status] = await once(tsc, "close");

  expect(said()).toBe("");
  expect(status).toBe(0);
}, 60_000);

interface Program {
  file: string;
  /** The program that must be running meanwhile. */
  beside: string | undefined;
  code: string;
  /** What it prints, by the comments at the ends of its lines. */
  says: string[];
}

function programsOf(page: string): Program[] {
  return [...page.matchAll(/^```ts file=(\S+)(?: beside=(\S+))?\n(.*?)^```$/gms)].map(([, file = "", beside, code = ""]) => ({
    file,
    beside,
    code,
    says: [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(([, said = ""]) => said),
  }));
}

async function start(file: string): Promise<AsyncDisposable> {
  const { process, ...program } = run(file);
  const stop = async () => {
    if (process.exitCode !== null || process.signalCode !== null) return;
    const exited = once(process, "exit");
    process.kill("SIGKILL");
    await exited;
  };
  try {
    await until(`${file} is there`, SOON_MS, () => program.said().includes(" is at "));
  } catch (cause) {
    await stop();
    throw new Error(`${file} did not start, and said: ${program.said()}`, { cause });
  }
  return { [Symbol.asyncDispose]: stop };
}

function run(file: string) {
  const child = spawn(process.execPath, [path.join(FOLDER, `${path.parse(file).name}.mjs`)], { cwd: CHECKOUT, env: mesh.env });
  const said = collect(child);
  return {
    process: child,
    said,
    get output() {
      return said();
    },
  };
}

function collect({ stdout, stderr }: ChildProcess): () => string {
  let text = "";
  for (const stream of [stdout, stderr]) stream?.setEncoding("utf8").on("data", (more: string) => (text += more));
  return () => text;
}
