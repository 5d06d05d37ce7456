import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { program } from "../../../test/programs.ts";
import { completionScript } from "./completion.ts";
import { createProgram } from "./main.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

const BIN = join(import.meta.dirname, "../bin/kite.js");
// A port that was free a moment ago may be another test's server when the command gets there; this one is given to nobody.
const NOBODY = "http://127.0.0.1:1";
let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "kite-cli-"));
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

test("it runs from its sources in any folder, and prints its version", async () => {
  const { status, stdout } = await run(process.execPath, [BIN, "--version"], "/");

  expect([status, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
});

test("without a key it says where it looked and how to get one", async () => {
  const { status, stderr } = await kite(["list"], { cwd: root, home: join(root, "nothing") });

  expect(status).toBe(3);
  expect(stderr).toMatch(/^kite: KITE_HOME names .*nothing, which holds no kite\.key; start a mesh with npm start.*\n$/);
});

test("a key is found in the nearest .kite above the working folder", async () => {
  await writeKeyFile(join(root, "checkout", ".kite"), NOBODY);
  await mkdir(join(root, "checkout", "deep", "below"), { recursive: true });

  const { status, stderr } = await kite(["list"], { cwd: join(root, "checkout", "deep", "below") });

  expect(status).toBe(3);
  expect(stderr).toBe(
    `kite: no mesh is running at ${NOBODY} (nobody listens there); start it with npm start in its checkout, or set KITE_KONTROL_URL\n`,
  );
});

test("the address can be overridden, and exec tells a way that failed from the program's own status", async () => {
  const home = join(root, "overridden");
  await writeKeyFile(home, "http://127.0.0.1:2");

  const { status, stderr } = await kite(["exec", "hello", "--", "true"], { home, env: { KITE_KONTROL_URL: NOBODY } });

  expect([status, stderr]).toEqual([255, expect.stringContaining(`at ${NOBODY} `)]);
});

test("a key file that holds something else is named", async () => {
  const home = join(root, "garbage");
  await mkdir(home);
  await writeFile(join(home, "kite.key"), "hello");

  const { status, stderr } = await kite(["whoami"], { home });

  expect([status, stderr]).toEqual([1, expect.stringMatching(/kite\.key should hold a kite\.key .* and holds something else/)]);
});

test.each([
  [["lisst"], /^kite: unknown command 'lisst' \(Did you mean list\?\)/],
  [["stack", "aply"], /^kite: unknown command 'aply' \(Did you mean apply\?\)/],
  [["list", "--jsn"], /^kite: unknown option '--jsn' \(Did you mean --json\?\)/],
  [["stack", "plan"], /^kite: required option '-f, --file <file>' not specified/],
  [["call", "math"], /^kite: missing required argument 'method'; kite docs math says which there are\n$/],
  [["list", "--label", "load<many"], /^kite: --label: the expression "load<many" over labels cannot be read/],
  [["audit", "--limit", "many"], /^kite: --limit is a whole number from 1 to 1000, got "many"/],
  [["audit", "--before", "0"], /^kite: --before is a whole number from 1, got "0"/],
  [["key", "issued", "--limit", "1001"], /^kite: --limit is a whole number from 1 to 1000, got "1001"/],
  [["key", "add", "--alg", "foo"], /^kite: option '--alg <algorithm>' argument 'foo' is invalid. Allowed choices are EdDSA, RS256/],
  [["completion"], /^kite: missing required argument 'shell'/],
  [["completion", "csh"], /^kite: command-argument value 'csh' is invalid for argument 'shell'. Allowed choices are bash, zsh, fish/],
  [["call", "--timeout", "soon", "math", "square"], /^kite: --timeout is a number of seconds above 0, at most 1728000, got "soon"/],
  [["call", "--timeout", "0", "math", "square"], /^kite: --timeout is a number of seconds above 0.*got "0"/],
  [["repl", "math", "--timeout", "0x10"], /^kite: --timeout is a number of seconds above 0.*got "0x10"/],
  [["gitlab", "deliveries", "list", "--limit", "1e1"], /^kite: --limit is a whole number from 1, got "1e1"/],
  [["__complete", "kites", "--limit", "soon"], /^kite: --limit is a whole number from 1 to 3600000, got "soon"/],
  [["ssh", "hello"], /^kite: kite ssh needs a terminal/],
  [["stack", "plan", "-f", "/nowhere.yaml"], /^kite: the stack's template \/nowhere\.yaml cannot be read/],
  [["grant", "add", "math"], /^kite: who gets it\? Add a username, or --team <team>/],
  [["grant", "add", "math", "bob", "--team", "ops"], /^kite: a grant is for one receiver, got the person bob and the team ops/],
  [["grant", "add", "math", "bob", "--until", "tomorrow"], /^kite: --until should be a time such as 30m.*"tomorrow"/],
  [["grant", "add", "math", "bob", "--until", "2020-01-01"], /^kite: --until is in the past/],
  [
    ["grant", "add", "math", "bob", "--role", "boss"],
    /^kite: option '--role <role>' argument 'boss' is invalid. Allowed choices are viewer/,
  ],
  [["team", "add", "ops"], /^kite: missing required argument 'username'/],
  [["team", "add", "ops", "bob", "--role", "boss"], /^kite: option '--role <role>' argument 'boss' is invalid/],
])("%j is used wrongly: status 2, one line", async (args, message) => {
  const { status, stdout, stderr } = await kite(args, { cwd: root });

  expect(stderr).toMatch(message);
  expect([status, stdout, stderr.split("\n").length]).toEqual([2, "", 2]);
});

test.each([
  [["help", "cal"], "kite: unknown command 'cal' (Did you mean call?)\n"],
  [["help", "stack", "aply"], "kite: unknown command 'aply' (Did you mean apply?)\n"],
])("%j is told what it is not", async (args, stderr) => {
  expect(await kite(args, { home: root })).toMatchObject({ status: 2, stdout: "", stderr });
});

test("help is that of the command that is named", async () => {
  const { status, stdout } = await kite(["help", "stack", "apply"], { home: root });

  expect([status, stdout]).toEqual([0, expect.stringMatching(/^Usage: kite stack apply /)]);
});

test("every command says what it does and what it takes", () => {
  const program = createProgram();
  const commands = [...program.commands, ...program.commands.flatMap((command) => command.commands)];

  expect(commands.length).toBeGreaterThan(20);
  for (const command of commands) expect(command.description(), command.name()).not.toBe("");
});

test("the completion of each shell knows commands, their commands and options", () => {
  const program = createProgram();

  for (const shell of ["bash", "zsh", "fish"])
    expect(completionScript(program, shell)).toMatch(/stack[\s\S]*destroy[\s\S]*--watch|--watch[\s\S]*destroy/);
});

test("bash completes a subcommand with it", async () => {
  const script = `${completionScript(createProgram(), "bash")}
COMP_WORDS=(kite stack de); COMP_CWORD=2; _kite; echo "\${COMPREPLY[@]}"
COMP_WORDS=(kite ssh hello --s); COMP_CWORD=3; _kite; echo "\${COMPREPLY[@]}"`;

  const { stdout } = await run("bash", ["-c", script]);

  expect(stdout).toBe("destroy\n--session\n");
});

async function kite(args: string[], { cwd = root, home, env = {} }: { cwd?: string; home?: string; env?: NodeJS.ProcessEnv } = {}) {
  const { KITE_HOME: _home, KITE_KONTROL_URL: _url, ...outer } = process.env;
  return run(process.execPath, [program("kite"), ...args], cwd, {
    ...outer,
    HOME: root,
    ...(home === undefined ? {} : { KITE_HOME: home }),
    ...env,
  });
}

function run(file: string, args: string[], cwd = root, env: NodeJS.ProcessEnv = process.env) {
  return new Promise<{ status: number; stdout: string; stderr: string }>((resolve) => {
    execFile(file, args, { cwd, env, timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

/** Whoever only reads the address in it does not care that nobody signed it. */
async function writeKeyFile(home: string, kontrolURL: string): Promise<void> {
  await mkdir(home, { recursive: true });
  const claims = Buffer.from(JSON.stringify({ sub: "alice", kontrolURL })).toString("base64url");
  await writeFile(join(home, "kite.key"), `e30.${claims}.e30`);
}
