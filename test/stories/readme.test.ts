import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestNatsServer } from "../../kite/src/nats/test-nats-server.ts";
import { CHECKOUT, startMesh, type TestMesh } from "../mesh.ts";
import { type Block, blocksOf, everyPage, saysOf, shellLinesOf } from "../pages.ts";
import { freshDatabase } from "../postgres.ts";
import { describeWith } from "../services.ts";
import { bundleOf } from "../setup/programs.ts";
import { Shell, type StartedLine } from "../shell.ts";
import { LINES, type Place } from "./page-lines.ts";

// What the pages for users show is run as it stands, and must print what it says beside each line.
const PAGES = Object.keys(LINES);
// Inside the checkout, so that packages are found as any program beside it would find them.
const FOLDER = path.join(CHECKOUT, `test/node_modules/.cache/readme-${process.pid}`);
// protocol.test.ts reads PROTOCOL.md, shown-commands.test.ts the commands of the others.
const OTHER_PAGES = [
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  "kite/DNODE.md",
  "kite/PROTOCOL.md",
  "kite/cli/README.md",
  "kite/cli/src/testdata/shop.md",
  "kloud/README.md",
  "kloud/providers/local/README.md",
];
const blocks = PAGES.flatMap(blocksOf);
const programs = blocks.filter(({ file }) => file !== undefined);
const databaseUrl = await freshDatabase();
let mesh: TestMesh;
let shell: Shell;

beforeAll(async () => {
  for (const page of PAGES) await mkdir(folderOf(page), { recursive: true });
  // What lies below node_modules has no package.json of ours above it, and would be CommonJS.
  await writeFile(path.join(FOLDER, "package.json"), JSON.stringify({ type: "module" }));
  for (const { page, file = "", code } of programs) await writeFile(path.join(folderOf(page), file), code);
  await bundle();
  mesh = await startMesh();
  shell = await Shell.open({ folder: path.join(FOLDER, "bin"), cwd: CHECKOUT, env: { ...mesh.env, METRICS_PORT: "0" } });
}, 120_000);

afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
  await rm(FOLDER, { recursive: true, force: true });
}, 60_000);

describe("what stands on the pages is known", () => {
  test("every block of TypeScript is one of the programs, and each of them is run", () => {
    const idle = programs.filter((block) => saysOf(block).length === 0 && !isStarted(block));

    expect(blocks.filter(({ language, file }) => (language === "ts") !== (file !== undefined)).map(placeOf)).toEqual([]);
    expect(idle.map(placeOf)).toEqual([]);
  });

  test.each(PAGES)("each line of shell on %s has its test, and each of these tests its line", (page) => {
    expect(linesOf(page).map(({ command }) => command)).toEqual(Object.keys(LINES[page] ?? {}));
  });

  test("every page with a block is one of these, or one that its own tests read", () => {
    const shown = everyPage().filter((page) => blocksOf(page).length > 0);

    expect(shown.filter((page) => !PAGES.includes(page)).sort()).toEqual(OTHER_PAGES);
  });

  test("other blocks are pictures, but for one that nats.test.ts reads from its page", () => {
    const others = blocks.filter(({ language }) => language !== "ts" && language !== "sh" && language !== "");

    expect(others.map(({ page, language }) => `${page}: ${language}`)).toEqual(["kite/NATS.md: text"]);
    expect(blocks.filter(({ language, code }) => language === "" && !/[│─▶]/.test(code)).map(placeOf)).toEqual([]);
  });
});

const alone = programs.filter((block) => saysOf(block).length > 0).map((block) => ({ place: placeOf(block), block }));

describe("a program on a page does what is written beside it", () => {
  test.each(alone.filter(({ block }) => block.page !== "kite/NATS.md"))("$place", ({ block }) => runs(block, shell));
});

describeWith("nats-server", "a program on a page does what is written beside it, over NATS", (natsServer) => {
  test.each(alone.filter(({ block }) => block.page === "kite/NATS.md"))("$place", async ({ block }) => {
    await using nats = await TestNatsServer.start(natsServer);
    await runs(block, shell.with({ NATS_URL: nats.url }));
  });
});

describe.each(PAGES.filter((page) => linesOf(page).length > 0))("a line of shell does what is written beside it: %s", (page) => {
  const running: StartedLine[] = [];
  let place: Place;
  beforeAll(() => {
    place = { mesh, shell, folder: folderOf(page), databaseUrl, running };
  });
  afterAll(async () => {
    for (const started of running) await started[Symbol.asyncDispose]();
  }, 60_000);

  test.each(linesOf(page))("$command", async (line) => {
    await LINES[page]?.[line.command]?.(line, place);
  });
});

async function runs(block: Block, where: Shell): Promise<void> {
  const beside = programs.find(({ page, file }) => page === block.page && file === block.beside);
  await using _other = beside && (await started(beside, where));

  const { status, stdout, stderr } = await where.run(commandOf(block));

  expect(stderr).toBe("");
  expect(stdout.trim().split("\n")).toEqual(saysOf(block).map((said) => expect.stringMatching(patternOf(said))));
  expect(status).toBe(0);
}

async function started(block: Block, where: Shell): Promise<StartedLine> {
  const line = where.start(commandOf(block));
  try {
    await line.says(/ is at /);
    return line;
  } catch (cause) {
    await line[Symbol.asyncDispose]();
    throw cause;
  }
}

/** With the sources, in one step: from its own file each program would need a second to load them. That they run so, too, a line of shell shows. */
async function bundle(): Promise<void> {
  const files = programs.map(({ page, file = "" }) => path.join(folderOf(page), file));
  const entryPoints = files.map((file) => ({ in: file, out: path.relative(FOLDER, file).replace(/[.]ts$/, "") }));
  await build(bundleOf(entryPoints, FOLDER));
}

function commandOf({ page, file = "" }: Block): string {
  return `node '${path.join(folderOf(page), file.replace(/[.]ts$/, ".mjs"))}'`;
}

/** What is said, as a whole line in which `…` stands for anything. */
function patternOf(said: string): RegExp {
  const parts = said.split("…").map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

/** Beside another program, or by a line of shell. */
function isStarted({ page, file }: Block): boolean {
  return (
    programs.some((other) => other.page === page && other.beside === file) ||
    linesOf(page).some(({ command }) => command.endsWith(` ${file}`))
  );
}

function linesOf(page: string) {
  return blocks.filter((block) => block.page === page && block.language === "sh").flatMap(shellLinesOf);
}

function placeOf({ page, file, line }: Block): string {
  return `${page}: ${file ?? `line ${line}`}`;
}

function folderOf(page: string): string {
  return path.join(FOLDER, page.replace(/[.]md$/, ""));
}
