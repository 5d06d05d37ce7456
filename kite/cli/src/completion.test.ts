import { execFile } from "node:child_process";
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
  expect(await complete("team", "add", "")).toBe("--role --json --help dev ops");
  expect(await complete("team", "remove-member", "o")).toBe("ops");
  expect(await complete("grant", "add", "math", "--team", "")).toBe("dev ops");
  expect(await complete("grant", "add", "mat")).toBe("math");
  expect(await complete("grant", "add", "math", "--te")).toBe("--team");
});

test("a name that a shell would run is not offered", async () => {
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
