import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { startBrowser } from "../browser.ts";
import { CHECKOUT, KITE_COMMAND, startMesh, type TestMesh } from "../mesh.ts";
import { describeWith } from "../services.ts";
import { until } from "../until.ts";

// The examples as their readers run them, against one mesh; from their sources, which a busy machine loads in ten seconds.
const SOON_MS = 40_000;
let mesh: TestMesh;

beforeAll(async () => {
  mesh = await startMesh();
}, 120_000);

afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
}, 60_000);

describe("chat", () => {
  test("what one member says reaches all, and who goes is missed", async () => {
    await using _chat = await start("chat/chat.ts");
    await using ada = run("chat/member.ts", "ada");
    await until("ada is in", SOON_MS, () => ada.output.includes("ada has joined"));
    const bob = run("chat/member.ts", "bob");
    await until("bob is in", SOON_MS, () => ada.output.includes("bob has joined"));

    bob.type("good morning\n");
    await until("both hear it", SOON_MS, () => [ada, bob].every(({ output }) => output.includes("bob: good morning")));
    await bob[Symbol.asyncDispose]();

    await until("ada hears that bob has left", SOON_MS, () => ada.output.includes("bob has left"));
  });
});

describe("tail", () => {
  test("a file's lines arrive as they are written, and none from outside of the folder", async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), "kite-tail-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const file = path.join(folder, "some.log");
    await writeFile(file, "first\n");
    await using _tail = await start("tail/tail.ts", folder);
    await using follower = command("call", "tail", "follow", "some.log", "--stream");

    await until("what was there", SOON_MS, () => follower.output.includes("first"));
    await appendFile(file, "second\nthird\n");
    await until("what is new", SOON_MS, () => follower.output.includes('"second"\n"third"\n'));
    const outside = await mesh.run("call", "tail", "follow", "../../etc/passwd", "--stream");

    expect(outside.status).not.toBe(0);
    expect(outside.stderr).toContain("is not inside the folder that is shown");
  });
});

describe("pipeline", () => {
  test("a caller's time reaches the last of three kites, and when it is over no process is left", async () => {
    await using pipeline = await start("pipeline/pipeline.ts");

    // It takes a busy machine two or three seconds to come there.
    const late = await mesh.run("call", "press", "print", "[600]", "--timeout", "8");

    expect(late.status).toBe(124);
    // Whichever of the two clocks is read first: the command's own, or that of the kite that it asked.
    expect(late.stderr).toMatch(/did not answer (?:within 8 s|in what was left of the time of print)/);
    expect(pipeline.output).toMatch(/process \d+ works, [0-8] s are left/);
    await until("the child process has ended", SOON_MS, () => /process \d+ has ended/.test(pipeline.output));
  });

  test("what is finished in time comes back through all hops", async () => {
    await using _pipeline = await start("pipeline/pipeline.ts");

    const printed = await mesh.run("call", "press", "print", "[0, 0]");

    expect(printed.stdout).toContain("a page after 0 s, a page after 0 s");
  });
});

describeWith("chromium", "browser", (chromium) => {
  test("a page calls a kite, is called back and reads a stream", async () => {
    await using clock = await start("browser/clock.ts");
    const browser = await startBrowser(chromium);
    try {
      const page = await browser.newPage();
      await page.goto(/open (\S+)/.exec(clock.output)?.[1] ?? "");

      await page.getByText("hello browser").waitFor({ timeout: SOON_MS });
      await page.locator("output", { hasText: "1000" }).waitFor({ timeout: SOON_MS });
      await page.locator("time", { hasText: /\d\d:\d\d:\d\d/ }).waitFor({ timeout: SOON_MS });
    } finally {
      await browser.close();
    }
  });
});

// Its whole line: half of an address leads nowhere, and a warning is not it.
const READY = /^(?:\/.* at http|.* are there|open http).*\n/m;

/** Starts an example and waits for its first word, which it says when it can be called. */
async function start(example: string, ...args: string[]): Promise<Example> {
  const started = run(example, ...args);
  try {
    await until(`${example} has started`, SOON_MS, () => READY.test(started.output));
  } catch (cause) {
    await started[Symbol.asyncDispose]();
    throw new Error(`${example} did not start, and said: ${started.output}`, { cause });
  }
  return started;
}

function run(example: string, ...args: string[]): Example {
  const node = ["--conditions=mesh-source", "--import", "tsx", path.join("kite/examples", example), ...args];
  return new Example(spawn(process.execPath, node, { cwd: CHECKOUT, env: mesh.env }));
}

function command(...args: string[]): Example {
  return new Example(spawn(process.execPath, [KITE_COMMAND, ...args], { cwd: CHECKOUT, env: mesh.env }));
}

/** A program that runs while a test looks at what it prints. */
class Example implements AsyncDisposable {
  readonly #process: ChildProcess;
  output = "";

  constructor(child: ChildProcess) {
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", (text: string) => (this.output += text));
  }

  type(text: string): void {
    this.#process.stdin?.write(text);
  }

  /** Ends it as Ctrl-C does, and at last by force: what does not listen must not outlive its test. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, "exit");
    this.#process.kill("SIGINT");
    const limit = setTimeout(() => this.#process.kill("SIGKILL"), SOON_MS);
    await exited;
    clearTimeout(limit);
  }
}
