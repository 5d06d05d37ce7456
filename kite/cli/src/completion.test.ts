import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { method } from "@kite-mesh/kite";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { completionScript } from "./completion.ts";
import { createProgram } from "./main.ts";
import { KITE_BIN, openTestMesh, type TestMesh } from "./test-mesh.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

let mesh: TestMesh;
beforeAll(async () => {
  const methods = ["square", "sqrt", "fs.readFile", "$(touch hacked)", "a b"].map((name) => ({ name, role: "viewer" }));
  mesh = await openTestMesh(
    {
      math: { kite: { methods: method({ role: "viewer" }, () => methods) } },
      klient: {},
      mail: { kite: { methods: method({ role: "viewer" }, () => new Promise(() => {})) } },
    },
    process.env,
    { teams: { list: method({ role: "viewer" }, () => ["ops", "dev"].map((name) => ({ name, members: 1, role: "member" }))) } },
  );
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("bash completes kites, and the methods of the one that was named", async () => {
  expect(await complete("call", "ma")).toBe("mail math");
  expect(await complete("call", "math", "sq")).toBe("sqrt square");
  expect(await complete("call", "--timeout", "5", "math", "fs")).toBe("fs.readFile");
  expect(await complete("compat", "old.json", "mat")).toBe("math");
});

test("bash completes the new commands and their options", async () => {
  expect(await complete("co")).toBe("compat completion");
  expect(await complete("docs", "--fo")).toBe("--format");
  expect(await complete("list", "--la")).toBe("--label");
  expect(await complete("call", "math", "--st")).toBe("--stream --stdin-stream");
  expect(await complete("__")).toBe("");
});

test("bash completes the names of teams, and the kites that a grant is about", async () => {
  expect(await complete("team", "add", "")).toBe("dev ops");
  expect(await complete("team", "remove-member", "o")).toBe("ops");
  expect(await complete("grant", "add", "math", "--team", "")).toBe("dev ops");
  expect(await complete("grant", "add", "mat")).toBe("math");
  expect(await complete("grant", "add", "math", "--te")).toBe("--team");
});

test("bash completes a method of any name, so that the shell takes it for one word and runs nothing", async () => {
  expect(await complete("call", "math", "a")).toBe("a\\ b");
  expect(await complete("call", "math", "a\\ ")).toBe("a\\ b");
  expect(await complete("call", "math", '"a')).toBe("a b");
  expect(await complete("call", "math", "$")).toBe("\\$\\(touch\\ hacked\\)");
  expect(await complete("call", "math", '"$')).toBe("");
  expect(existsSync(join(mesh.home, "hacked"))).toBe(false);
});

test("bash completes behind a version, which it takes for words of its own", async () => {
  expect(await complete("call", "math", "@", "^1", "sq")).toBe("sqrt square");
  expect(await complete("call", "list", "sq")).toBe("");
});

test("bash completes the values of options, what help is for, and other names of commands", async () => {
  expect(await complete("docs", "math", "--format", "")).toBe("markdown asyncapi json");
  expect(await complete("docs", "math", "-o", "")).toBe("");
  expect(await complete("grant", "add", "math", "bob", "--role", "o")).toBe("operator owner");
  expect(await complete("completion", "")).toBe("bash zsh fish");
  expect(await complete("help", "stack", "ap")).toBe("apply");
  expect(await complete("people", "li")).toBe("list link");
});

test("bash completes the names of machines", async () => {
  expect(await complete("ssh", "he")).toBe("here");
  expect(await complete("machine", "info", "")).toBe("here");
});

test("a script from before, which lets the shell expand names, is not given one that would be run", async () => {
  expect((await mesh.run("__complete", "methods", "math", "--limit", "20000")).stdout).toBe("fs.readFile\nsqrt\nsquare\n");
});

test("what does not come at once is left out, without a word", async () => {
  expect(await mesh.run("__complete", "methods", "mail")).toEqual({ status: 0, stdout: "", stderr: "" });
  expect(await mesh.run("__complete", "methods", "nobody", "--limit", "20000")).toEqual({ status: 0, stdout: "", stderr: "" });
});

test("fish and zsh ask for names as well", () => {
  const program = createProgram();

  expect(completionScript(program, "fish")).toMatch(
    /from call; and test \(count \(commandline -opc\)\) -eq 3' -a '\(kite __complete methods/,
  );
  expect(completionScript(program, "fish")).toMatch(/from team; and __fish_seen_subcommand_from leave; and .*\(kite __complete teams/);
  expect(completionScript(program, "zsh")).toMatch(/kite __complete methods "\$\{given\[0\]\}"/);
});

function complete(...words: string[]): Promise<string> {
  const script = `kite() { "${process.execPath}" "${KITE_BIN}" "$@" --limit 20000; }
${completionScript(createProgram(), "bash")}
COMP_WORDS=(kite "$@"); COMP_CWORD=$#; _kite; echo "\${COMPREPLY[@]}"`;
  return new Promise((resolve, reject) => {
    const options = { cwd: mesh.home, env: { ...process.env, KITE_HOME: mesh.home }, timeout: 20_000 };
    execFile("bash", ["-c", script, "bash", ...words], options, (error, stdout) => (error ? reject(error) : resolve(stdout.trim())));
  });
}
