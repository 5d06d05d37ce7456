import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { type Kite, KiteError, type MethodDescription, method } from "@kite-mesh/kite";
import { until } from "@kite-mesh/kite/testing";
import { type IPty, spawn } from "@lydell/node-pty";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { anyMethod, complete, identifier, methodTree } from "./repl-names.ts";
import { KITE_BIN, openTestMesh, type TestMesh } from "./test-mesh.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

const WAIT_MS = 20_000;
const any = z.any();
let mesh: TestMesh;
let started = 0;
let cancelled = 0;
let tell: (words: string) => Promise<unknown>;

beforeAll(async () => {
  const open = { role: "viewer" } as const;
  const wait = (signal: AbortSignal) => {
    started++;
    return new Promise((resolve) => signal.addEventListener("abort", () => resolve(cancelled++)));
  };
  const lab = {
    square: method({ ...open, input: z.number(), output: z.number() }, (n) => n * n),
    slow: method(open, ({ signal }) => wait(signal)),
    ticks: method(open, async function* ({ signal }) {
      yield { tick: 1 };
      await wait(signal);
    }),
    each: method({ ...open, input: [any, any] }, async (items, fn) => {
      for (const item of items as unknown[]) await fn(item);
    }),
    fs: { readFile: method({ ...open, input: any }, (path) => `the content of ${path}`) },
    process: method(open, () => "the kite's own"),
    delete: method(open, () => "deleted"),
    join: method({ ...open, input: any }, (fn) => {
      tell = fn;
      return "joined";
    }),
    "odd name": method(open, () => "odd"),
  };
  const identity = { username: "alice", environment: "local", name: "lab", version: "1.0.0", region: "local", hostname: "here", id: "1" };
  const methods = [
    described("square", [{ type: "number" }], { type: "number" }),
    ...["slow", "ticks", "each", "fs.readFile", "process", "delete", "odd name", "join"].map((name) => described(name)),
  ];
  const describe = method(open, () => ({ kite: identity, dialects: ["kite.v1"], hash: "", methods }));
  mesh = await openTestMesh(
    { lab: { ...lab, kite: { describe } }, mute: { fs: lab.fs, kite: { describe: method(open, old) } } },
    process.env,
  );
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("Tab completes methods, a call is waited for, and its type is shown", async () => {
  using prompt = await openPrompt("lab");

  prompt.type("squ\t");
  await prompt.shows("square");
  prompt.type("(12)\r");
  await prompt.shows("144");
  prompt.type("lab.fs.re\t");
  await prompt.shows("lab.fs.readFile");
  prompt.type("('a')\r");
  await prompt.shows("the content of a");
  prompt.type(".types squ\r");
  await prompt.shows("square(value: number): Promise<number>");
  prompt.type(".describe sq\t");
  await prompt.shows(".describe square");
  prompt.type("\r");
  await prompt.shows("role viewer, once");
  prompt.type("\x04");

  expect(await prompt.exited()).toBe(0);
});

test("Tab on what no method begins with leaves the prompt as it was", async () => {
  using prompt = await openPrompt("lab");

  prompt.type("Math.ma\t");
  await prompt.shows("Math.max");
  prompt.type("(1, 2) + 40\r");

  await prompt.shows("42");
});

test("Tab finds methods where JavaScript needs another spelling", async () => {
  using prompt = await openPrompt("lab");

  prompt.type("proc\t\t");
  await prompt.shows("kite.process");
  prompt.type("\x15lab.odd\t");
  await prompt.shows('lab["odd name"]');
  prompt.type("()\r");
  await prompt.shows("'odd'");
  prompt.type("del\t");
  await prompt.shows("kite.delete");
  prompt.type("()\r");
  await prompt.shows("'deleted'");
});

test("what a callback says while a line is typed stands above it, and the line goes on", async () => {
  using prompt = await openPrompt("lab");
  prompt.type("join((words) => console.log('heard', words))\r");
  await prompt.shows("'joined'");
  prompt.type("square(1");
  await prompt.shows("square(1");

  await tell("news");

  await prompt.shows("heard news");
  await prompt.shows("lab> square(1");
  prompt.type("1)\r");
  await prompt.shows("121");
});

test("Ctrl-C ends the call, the stream or the loop that is under way, over there as well, and the prompt stays", async () => {
  using prompt = await openPrompt("lab");
  const [begun, before] = [started, cancelled];

  prompt.type("slow()\r");
  await until(() => started > begun, WAIT_MS);
  prompt.type("\x03");
  await prompt.shows("cancelled");
  prompt.type("ticks()\r");
  // Not what is typed: a stream that nobody has read yet is let go of only when it is collected.
  await prompt.shows("tick: 1");
  prompt.type("\x03");
  await prompt.shows("cancelled");
  prompt.type("console.log('loop' + 'ing'); for(;;);\r");
  await prompt.shows("looping");
  prompt.type("\x03");
  await prompt.shows("interrupted");
  prompt.type("square(5)\r");
  await prompt.shows("25");

  await until(() => cancelled === before + 2, WAIT_MS);
});

test("Ctrl-C ends a loop that prints all the time, each time", async () => {
  using prompt = await openPrompt("lab");

  for (let round = 0; round < 5; round++) {
    prompt.type(`for(;;) console.log('round' + ${round});\r`);
    await prompt.shows(`round${round}`);
    prompt.type("\x03");
    await prompt.shows("interrupted");
  }
  prompt.type("square(5)\r");

  await prompt.shows("25");
});

test("a connection that drops is told, and the next call goes through", async () => {
  using prompt = await openPrompt("lab");
  prompt.type("square(3)\r");
  await prompt.shows("9");

  lab().endSessions(() => true, new KiteError("disconnected", "the test ends it"));

  await prompt.shows("the session has ended; the next call opens another");
  prompt.type("square(4)\r");
  await prompt.shows("16");
  expect(prompt.output()).toContain("[kite: connected again, in a new session]");
});

test("what was typed is remembered for its owner alone", async () => {
  {
    using prompt = await openPrompt("lab");
    prompt.type("square(11)\r");
    await prompt.shows("121");
    prompt.type(".exit\r");
    await prompt.exited();
  }
  const path = join(mesh.home, "repl-history");
  using again = await openPrompt("lab");
  again.type("\x1b[A\x1b[A");
  await again.shows("square(11)");

  expect(await readFile(path, "utf8")).toContain("square(11)");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("a script runs line by line, one after the other, and its results are JSON", async () => {
  const script =
    "const n = await square(3)\nsquare(n)\neach(['a'], (item) => console.log('got', item))\nsquare(\n2)\nticks().then((s) => s.cancel())\n({ n })";

  expect(await mesh.feed(script, "repl", "lab")).toMatchObject({ status: 0, stdout: '81\ngot a\n4\n{"n":9}\n', stderr: "" });
});

test("a script with a line that fails goes on, and fails in the end", async () => {
  const { status, stdout, stderr } = await mesh.feed("square('x')\nsquare(2)\nnope\n", "repl", "lab");

  expect([status, stdout]).toEqual([1, expect.stringMatching(/^4\nUncaught ReferenceError: nope is not defined\n$/)]);
  expect(stderr).toMatch(/^square does not accept its argument: .* \(invalid_argument\)\n$/);
});

test("a name that JavaScript has is left to it, and a kite that does not describe itself can be called by any name", async () => {
  const shadowed = await mesh.feed("typeof process.exit\nkite.process()\n", "repl", "lab");
  const undescribed = await mesh.feed("mute.fs.readFile('b')\n.types\n", "repl", "mute");

  expect(shadowed.stdout).toBe('"function"\n"the kite\'s own"\n');
  expect(undescribed.stdout).toMatch(/^"the content of b"\nthis kite does not say what it serves/);
  expect(undescribed.stderr).toMatch(/mute does not describe itself/);
});

test("methods stand where their names say, whatever those are", async () => {
  const calls: unknown[] = [];
  const call = async (name: string, args: readonly unknown[]) => calls.push([name, ...args]);
  const tree = methodTree(
    ["fs.readFile", "fs", "__proto__.x"].map((name) => described(name)),
    call,
  ) as Record<string, unknown>;

  await (tree["fs"] as { readFile(path: string): Promise<unknown> }).readFile("a");
  await (tree["fs"] as () => Promise<unknown>)();
  await (anyMethod(call) as { deep: { er(n: number): Promise<unknown> } }).deep.er(1);

  expect(calls).toEqual([["fs.readFile", "a"], ["fs"], ["deep.er", 1]]);
  expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
});

test.each([
  ["fs.r", ["fs.readFile"]],
  ["f", ["fs.readFile", "fs.write"]],
  ["x", []],
])("%s is completed to %j", (word, found) => {
  expect(
    complete(
      word,
      ["fs.readFile", "fs.write", "other"].map((name) => described(name)),
    ),
  ).toEqual(found);
});

test.each([
  ["math", "math"],
  ["image-store", "imageStore"],
  ["9lives", "_9lives"],
  ["a.b-", "aB"],
])("the kite %s is called %s at the prompt", (name, shown) => {
  expect(identifier(name)).toBe(shown);
});

/** As a kite answers whose library does not know the question. */
function old(): never {
  throw new KiteError("method_not_found", "Method not found: kite.describe");
}

function described(name: string, input: readonly Record<string, unknown>[] = [], output: Record<string, unknown> = {}): MethodDescription {
  return { name, role: "viewer", repetition: "once", input, required: input.length, output };
}

function lab(): Kite {
  return mesh.kites.get("lab") as Kite;
}

/** The prompt in a real terminal, as a person has it. */
class Prompt implements Disposable {
  readonly #pty: IPty;
  #output = "";
  #read = 0;
  #status: number | undefined;

  constructor(kite: string) {
    const env = { ...process.env, KITE_HOME: mesh.home, NO_COLOR: "1", NODE_DISABLE_COLORS: "1" };
    this.#pty = spawn(process.execPath, [KITE_BIN, "repl", kite], { name: "xterm", cols: 120, rows: 40, cwd: mesh.home, env });
    this.#pty.onData((data) => (this.#output += data));
    this.#pty.onExit(({ exitCode }) => (this.#status = exitCode));
  }

  type(text: string): void {
    this.#pty.write(text);
  }

  output(): string {
    return this.#output;
  }

  /** Waits for the text, after what was waited for before. The editor of lines moves its cursor between keys, which is no text. */
  async shows(text: string): Promise<void> {
    const seen = () => stripVTControlCharacters(this.#output);
    await until(() => seen().indexOf(text, this.#read) >= 0, WAIT_MS).catch((cause: unknown) => {
      throw new Error(`${text} was expected on the terminal, which shows ${JSON.stringify(seen().slice(this.#read))}`, { cause });
    });
    this.#read = seen().indexOf(text, this.#read) + text.length;
  }

  async exited(): Promise<number | undefined> {
    await until(() => this.#status !== undefined, WAIT_MS);
    return this.#status;
  }

  [Symbol.dispose](): void {
    if (this.#status === undefined) this.#pty.kill("SIGKILL");
  }
}

async function openPrompt(kite: string): Promise<Prompt> {
  const prompt = new Prompt(kite);
  await prompt.shows(`${kite}> `);
  return prompt;
}
