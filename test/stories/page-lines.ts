import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import type { DirectoryKite } from "@kite-mesh/kite";
import { expect } from "vitest";
import PACKAGE from "../../kite/package.json" with { type: "json" };
import { bundleKlient } from "../../klient/bundle.ts";
import { CHECKOUT, type TestMesh } from "../mesh.ts";
import type { ShellLine } from "../pages.ts";
import type { Shell, StartedLine } from "../shell.ts";
import { TerminalProgram } from "../terminal-program.ts";
import { until } from "../until.ts";

/** Where lines are run: a mesh, shells in the checkout and in the folder of the page's programs, and an empty database. */
export interface Place {
  mesh: TestMesh;
  shell: Shell;
  /** Of the page; its programs lie in it. */
  folder: string;
  databaseUrl: string;
  /** What a line has started that the next ones talk to; ended behind the page. */
  running: StartedLine[];
}
type Check = (line: ShellLine, place: Place) => Promise<void>;

const SOON_MS = 30_000;

const RUN = "node --conditions=mesh-source --import tsx";

/** Prints what stands behind it. */
const prints: Check = async ({ command, comment }, { shell, folder }) => {
  expect(await shell.in(folder).run(command)).toEqual({ status: 0, stdout: `${comment}\n`, stderr: "" });
};

/** Stays, and says so. */
const stays =
  (says: RegExp): Check =>
  async ({ command }, { shell, folder, running }) => {
    const started = shell.in(folder).start(command);
    running.push(started);
    await started.says(says);
  };

/** What newcomer.test.ts does by npm, and `.ci/run` in a fresh clone: here only its words are looked at. */
const isScript: Check = async ({ command }) => {
  for (const part of command.split(" && ")) expect(part).toMatch(/^npm (ci|start|test)$/);
};

/** Of each page what its lines of shell do, in their order, when they are run as they stand. */
export const LINES: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  "README.md": {
    "npm ci && npm start": isScript,
    "npm ci && npm test": isScript,
    "npx kite list --watch": async ({ command }, { shell }) => {
      await using list = shell.start(command);
      await list.says(/^= .*\/klient\/.*\/hello\//m);
    },
    "npx kite ssh hello": async ({ command }, { shell }) => {
      using terminal = new TerminalProgram("/bin/sh", ["-c", command], { cwd: CHECKOUT, env: shell.env });
      await terminal.shows(/[#$] /);
      terminal.type("exit\r");
      expect(await terminal.exited()).toBe(0);
    },
    "npx kite exec hello -- sh -c 'echo out; echo err >&2'": async ({ command }, { shell }) => {
      expect(await shell.run(command)).toEqual({ status: 0, stdout: "out\n", stderr: "err\n" });
    },
    "npx kite stack plan -f deploy/local/hello.yaml": async ({ command }, { shell }) => {
      expect(await shell.run(command)).toMatchObject({ status: 0, stdout: expect.stringContaining("hello"), stderr: "" });
    },
    "npm run example:math": async ({ command }, { shell, running }) => {
      const math = shell.start(command);
      running.push(math);
      await math.says(/\/math\/1\.0\.0\/.* at http/);
    },
    "npx kite call math square 12": prints,
    [`${RUN} math.ts`]: stays(/^math is at http/),
  },
  "kite/README.md": {
    "npm start": isScript,
    [`${RUN} math.ts`]: stays(/^math is at http/),
    "npx kite call math square 12": prints,
    "npx kite new greeter": async ({ command }, { shell, folder }) => {
      expect(await shell.in(folder).run(command)).toMatchObject({ status: 0, stdout: expect.stringContaining("greeter") });
      for (const file of ["src/greeter.ts", "src/greeter.test.ts", "Dockerfile", "greeter.service"])
        expect((await stat(path.join(folder, "greeter", file))).size, file).toBeGreaterThan(0);
    },
    "npx kite docs math -o math.md": writes("math.md", /^# math 1\.0\.0$/m),
    "npx kite docs math --format json -o math-1.0.0.json": writes("math-1.0.0.json", /"square"/),
    "npx kite compat math-1.0.0.json math": async ({ command }, { shell, folder }) => {
      expect(await shell.in(folder).run(command)).toMatchObject({ status: 0, stderr: "" });
    },
  },
  "kite/NATS.md": {
    "npm install @kite-mesh/kite nats": async ({ command }) => {
      expect(command.split(" ").slice(2)).toEqual([PACKAGE.name, expect.toSatisfy((name: string) => name in PACKAGE.peerDependencies)]);
    },
  },
  "kite/OBSERVABILITY.md": {},
  "klient/README.md": {
    "KITE_HOME=~/.kite KITE_MACHINE=hello KITE_KONTROL_URL=http://127.0.0.1:4000 KITE_JOIN_TOKEN=… node main.mjs": joins,
  },
  "kontrol/README.md": {
    "export KONTROL_DATABASE_URL=postgres://mesh@127.0.0.1:5432/mesh": async ({ command }, place) => {
      const [, name = ""] = /^export (\w+)=postgres:\/\/\S+$/.exec(command) ?? [];
      const home = path.join(place.folder, "home");
      // Any port, and the address that it would have: the page's may be taken.
      const settings = { KITE_HOME: home, KONTROL_PORT: "0", KONTROL_URL: "http://127.0.0.1:4000" };
      place.shell = place.shell.with({ ...settings, [name]: place.databaseUrl });
    },
    "kontrol init alice": async ({ command }, { shell, folder }) => {
      expect(await shell.run(command)).toMatchObject({ status: 0, stdout: expect.stringContaining("alice"), stderr: "" });
      expect((await stat(path.join(folder, "home/kite.key"))).mode & 0o777).toBe(0o400);
    },
    "kontrol serve": async ({ command, comment }, { shell, running }) => {
      const kontrol = shell.start(command);
      running.push(kontrol);
      await kontrol.says(new RegExp(comment.replace(/\d+$/, "\\d+")));
    },
  },
};

function writes(file: string, what: RegExp): Check {
  return async ({ command }, { shell, folder }) => {
    expect(await shell.in(folder).run(command)).toMatchObject({ status: 0 });
    expect(await readFile(path.join(folder, file), "utf8")).toMatch(what);
  };
}

/** klient's own line, with a token of this mesh, its address, and `~` in a folder of its own. */
async function joins({ command }: ShellLine, { mesh, shell, folder, running }: Place): Promise<void> {
  await bundleKlient({ outDir: folder });
  const { owner } = JSON.parse(await readFile(path.join(mesh.home, "mesh.json"), "utf8")) as { owner: string };
  const request = JSON.stringify({ username: owner, purpose: "a machine" });
  const created = await mesh.run("call", "kontrol", "joinTokens.create", request);
  const { joinToken } = JSON.parse(created.stdout) as { joinToken: string };
  const line = command.replace("…", joinToken).replace(/http:\S+/, mesh.kontrolUrl);

  running.push(shell.in(folder).with({ HOME: folder }).start(line));

  await until("the machine to be in the mesh, beside the first", SOON_MS, async () => {
    const kites = await mesh.json<DirectoryKite[]>("list");
    return kites.filter(({ kite }) => kite.name === "klient").length === 2;
  });
  expect((await stat(path.join(folder, ".kite/kite.key"))).mode & 0o777).toBe(0o400);
}
