import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import type { DirectoryKite } from "@kite-mesh/kite";
import type { Machine, OperationEvent, Plan, Stack } from "@kite-mesh/kloud/contract";
import type { Person } from "@kite-mesh/kontrol/contract";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startBrowser } from "../browser.ts";
import { CHECKOUT, KITE_COMMAND, startMesh, type TestMesh } from "../mesh.ts";
import { processesMentioning } from "../processes.ts";
import { describeWith } from "../services.ts";
import { TerminalProgram } from "../terminal-program.ts";
import { until } from "../until.ts";

// One mesh and one person's first hour with it: each test goes on where the one before has stopped.
const HOOK_TOKEN = "a secret that both sides know";
const SOON_MS = 40_000;
let mesh: TestMesh;

beforeAll(async () => {
  mesh = await startMesh({ env: { GITLAB_HOOK_TOKEN: HOOK_TOKEN }, byNpm: true });
}, 120_000);

// The leak check is in here: whatever is left of the mesh fails the story.
afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
}, 60_000);

describe("starting", () => {
  test("npm start says what it chose, where it is and how to sign in", async () => {
    await until("the banner", SOON_MS, () => mesh.output.includes("Ctrl-C stops everything"));

    expect(mesh.output).toMatch(/stores +PostgreSQL \d+/);
    expect(mesh.output).toMatch(/engine +builtin/);
    expect(mesh.output).toMatch(/machines +local: rung \d/);
    expect(mesh.output).toContain(mesh.kontrolUrl);
    expect(mesh.output).toMatch(new RegExp(`${mesh.gatewayUrl}/sign-in[?]t=\\S{20,}`));
    expect(mesh.output).not.toContain(HOOK_TOKEN);
  });

  test("the sample machine is there and has registered", async () => {
    expect(await kiteNames()).toEqual(["gateway", "klient", "kloud", "kontrol"]);
  });
});

describe("in a second shell", () => {
  test("the example's method is called through the mesh", async () => {
    const math = spawn("npm", ["run", "example:math"], { cwd: CHECKOUT, env: mesh.env, detached: true, stdio: "ignore" });
    try {
      await until("the math kite to register", SOON_MS, async () => (await kiteNames()).includes("math"));

      const answer = await mesh.run("call", "math", "square", "12");
      expect(answer).toEqual({ status: 0, stdout: "144\n", stderr: "" });

      const wrong = await mesh.run("call", "math", "square", '"twelve"');
      expect(wrong.status).toBe(1);
      expect(wrong.stderr).toMatch(/square does not accept its argument/);
    } finally {
      await interruptGroup(math);
    }
    await until("the math kite to leave", SOON_MS, async () => !(await kiteNames()).includes("math"));
  });

  test("exec keeps both outputs apart and exits as the program did", async () => {
    const ran = await mesh.run("exec", "hello", "--", "sh", "-c", "echo out; echo err >&2; exit 3");

    expect(ran).toEqual({ status: 3, stdout: "out\n", stderr: "err\n" });
  });

  test("ssh is a real terminal: resize and Ctrl-C reach the program, and a session that was left is found again", async () => {
    const session = "first-hour";
    const options = { cwd: CHECKOUT, env: mesh.env, columns: 91, rows: 33 };
    {
      using terminal = new TerminalProgram(process.execPath, [KITE_COMMAND, "ssh", "hello", "--session", session], options);
      await terminal.shows(/[#$] /);

      terminal.type("stty size; kept=$((6*7))\r");
      await terminal.shows(/\b33 91\b/);

      terminal.resize(120, 40);
      await until("the program to see the new size", SOON_MS, async () => {
        terminal.type("stty size\r");
        await terminal.shows(/\b(33 91|40 120)\s/);
        return terminal.lastMatch.startsWith("40 120");
      });

      // It says itself that it runs: between the echo of the line and its start, Ctrl-C is the shell's.
      terminal.type("sh -c 'echo as''leep; exec sleep 1000'\r");
      await terminal.shows(/asleep\s/);
      terminal.type("\x03");
      terminal.type("echo back again: $((kept+1))\r");
      await terminal.shows(/back again: 43/);

      terminal.type("\r~.");
      expect(await terminal.exited()).toBe(0);
    }
    using terminal = new TerminalProgram(process.execPath, [KITE_COMMAND, "ssh", "hello", "--session", session], options);

    // The screen as it was, and the shell that drew it.
    await terminal.shows(/back again: 43/);
    terminal.type("echo still $((kept+2)); exit\r");
    await terminal.shows(/still 44/);
    expect(await terminal.exited()).toBe(0);
  });

  test("a full-screen program has the whole terminal", async () => {
    using terminal = new TerminalProgram(process.execPath, [KITE_COMMAND, "ssh", "hello"], { cwd: CHECKOUT, env: mesh.env });
    await terminal.shows(/[#$] /);

    terminal.type("top\r");

    await terminal.shows(/load average/);
    terminal.type("q");
    await terminal.shows(/[#$] /);
    terminal.type("echo left top as $((40+2)); exit\r");
    await terminal.shows(/left top as 42/);
    expect(await terminal.exited()).toBe(0);
  });

  test("a stack is planned, applied, listed and destroyed, with progress", async () => {
    const file = path.join(mesh.home, "two.yaml");
    await writeFile(file, "name: two\nresource:\n  local_instance:\n    web: {}\n");

    const plan = await mesh.json<Plan>("stack", "plan", "-f", file);
    expect(plan.changes).toMatchObject([{ address: "local_instance.web", action: "create" }]);
    expect(await stackNames()).toEqual(["hello"]);

    const events = await jsonLines<OperationEvent>("stack", "apply", "-f", file, "--yes");
    expect(events.at(-1)).toMatchObject({ state: "succeeded", percentage: 100 });
    expect(events.length).toBeGreaterThan(3);
    expect(await stackNames()).toEqual(["hello", "two"]);
    expect((await mesh.run("exec", "web", "--", "echo", "usable")).stdout).toBe("usable\n");

    const again = await mesh.json<Plan>("stack", "plan", "-f", file);
    expect(again.empty).toBe(true);

    const gone = await mesh.run("stack", "destroy", "two", "--yes");
    expect(gone.status).toBe(0);
    expect(gone.stderr).toContain("100%");
    expect(await stackNames()).toEqual(["hello"]);
    expect((await mesh.run("exec", "web", "--", "true")).status).toBe(255);
  });
});

describeWith("chromium", "in the browser", (chromium) => {
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    browser = await startBrowser(chromium);
    page = await browser.newPage();
    page.setDefaultTimeout(SOON_MS);
  });
  afterAll(() => browser?.close());

  test("the link signs in, once", async () => {
    const { url } = await mesh.json<{ url: string }>("people", "link");

    await page.goto(url);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("heading", { name: "Machines" }).waitFor();

    const stranger = await browser.newContext();
    const again = await stranger.newPage();
    await again.goto(url);
    await again.getByRole("heading", { name: "This link has been used" }).waitFor();
    await stranger.close();
  });

  test("kites and machines are shown as they come and go", async () => {
    const kites = page.getByRole("table", { name: "Kites" });
    for (const name of ["kontrol", "kloud", "gateway", "klient"]) await kites.getByText(name, { exact: true }).first().waitFor();

    const math = spawn("npm", ["run", "example:math"], { cwd: CHECKOUT, env: mesh.env, detached: true, stdio: "ignore" });
    try {
      await kites.getByText("math", { exact: true }).waitFor();
    } finally {
      await interruptGroup(math);
    }
    await kites.getByText("math", { exact: true }).waitFor({ state: "detached" });
  });

  test("a machine is stopped and started", async () => {
    const row = page.getByRole("row").filter({ has: page.getByRole("button", { name: "Open a terminal on hello" }) });

    await row.getByRole("button", { name: "Stop hello" }).click();
    await row.getByRole("button", { name: "Stop hello: press again to confirm" }).click();
    await row.getByText("Stopped", { exact: true }).waitFor();
    await row.getByRole("button", { name: "Start hello" }).click();
    await row.getByText("Running", { exact: true }).waitFor();

    expect((await mesh.run("exec", "hello", "--", "echo", "usable")).stdout).toBe("usable\n");
  });

  test("a terminal survives a reload of the page", async () => {
    await page.getByRole("button", { name: "Open a terminal on hello" }).click();
    const screen = page.locator(".screen");
    await screen.getByText(/[#$] /).first().waitFor();
    await page.keyboard.type("kept=$((6*7)); echo before $kept\n");
    await screen.getByText("before 42").waitFor();

    await page.reload();

    await screen.getByText("before 42").waitFor();
    await screen.click();
    await page.keyboard.type("echo after $((kept+1))\n");
    await screen.getByText("after 43").waitFor();
  });
});

describe("GitLab", () => {
  const created = {
    event_name: "user_create",
    created_at: "2026-01-02T03:04:05Z",
    user_id: 41,
    username: "grace",
    name: "Grace",
    email: "g@example.com",
  };
  const destroyed = { ...created, event_name: "user_destroy" };

  test("a hook without the secret gets 401 and changes nothing", async () => {
    const before = await people();

    expect(await hook(created, {})).toBe(401);
    expect(await hook(created, { "x-gitlab-token": "a guess" })).toBe(401);

    expect(await people()).toEqual(before);
  });

  test("user_create makes the person, and the same delivery again makes nothing twice", async () => {
    const delivery = { "x-gitlab-token": HOOK_TOKEN, "idempotency-key": "delivery-1" };

    expect(await hook(created, delivery)).toBe(200);
    const [person] = await until("the person", SOON_MS, async () => nonEmpty(await peopleFromGitlab()));
    expect(await hook(created, delivery)).toBe(200);

    expect(person).toMatchObject({ username: "grace", state: "active", external: [{ subject: "41" }] });
    expect(await peopleFromGitlab()).toEqual([person]);
  });

  test("user_destroy ends the person's access and machines", async () => {
    const home = path.join(mesh.home, "home-of-grace");
    const issued = await mesh.run("call", "kontrol", "keys.issue", '{"username":"grace"}');
    const { kiteKey } = JSON.parse(issued.stdout) as { kiteKey: string };
    await mkdir(home);
    await writeFile(path.join(home, "kite.key"), kiteKey);
    const applied = await mesh.runAs(
      home,
      "stack",
      "apply",
      "-f",
      path.join(CHECKOUT, "deploy/local/hello.yaml"),
      "--name",
      "graces",
      "--yes",
    );
    expect(applied.status).toBe(0);
    const [machine] = JSON.parse((await mesh.runAs(home, "machine", "list", "--json")).stdout) as [Machine];
    expect(await processesMentioning(machine.id)).not.toEqual([]);

    expect(await hook(destroyed, { "x-gitlab-token": HOOK_TOKEN, "idempotency-key": "delivery-2" })).toBe(200);

    await until("the person to be removed", SOON_MS, async () => (await peopleFromGitlab()).every(({ state }) => state === "removed"));
    await until("the machine to end", SOON_MS, async () => (await processesMentioning(machine.id)).length === 0);
    expect((await mesh.runAs(home, "list")).status).toBe(1);
    expect((await mesh.run("people", "link", "grace")).status).toBe(1);
  });

  async function hook(body: object, headers: Record<string, string>): Promise<number> {
    const response = await fetch(`${mesh.gatewayUrl}/-/api/gitlab`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-gitlab-event": "System Hook", ...headers },
      body: JSON.stringify(body),
    });
    await response.arrayBuffer();
    return response.status;
  }
});

describe("after SIGTERM to npm", () => {
  test("nothing runs on, and npm start brings the machines back", async () => {
    await mesh.terminate();

    expect(mesh.output).toMatch(/postgres +stopped/);
    expect((await mesh.leaks()).filter((leak) => !leak.startsWith("file "))).toEqual([]);
    await mesh.start();
    expect(await mesh.run("exec", "hello", "--", "echo", "usable")).toMatchObject({ status: 0, stdout: "usable\n" });
  });
});

describe("after kill -9", () => {
  test("npm start finds the same people, stacks and machines, and klients reconnect by themselves", async () => {
    const before = {
      people: await people(),
      stacks: await mesh.json<Stack[]>("stack", "list"),
      machines: await mesh.json<Machine[]>("machine", "list"),
    };
    await mesh.run("exec", "hello", "--", "sh", "-c", "echo kept > ~/file");

    await mesh.kill9();
    await mesh.start();

    expect(await people()).toEqual(before.people);
    expect(await mesh.json<Stack[]>("stack", "list")).toEqual(before.stacks);
    expect(await mesh.json<Machine[]>("machine", "list")).toEqual(before.machines);
    const read = await mesh.run("exec", "hello", "--", "sh", "-c", "cat ~/file");
    expect(read).toEqual({ status: 0, stdout: "kept\n", stderr: "" });
  });

  test("Ctrl-C ends everything that was started", async () => {
    await mesh.interrupt();

    expect(mesh.output).toMatch(/postgres +stopped/);
    expect(mesh.output).not.toContain("✗");
    expect(await mesh.leaks()).toEqual([]);
    const list = await mesh.run("list");
    expect(list.status).toBe(5);
    expect(list.stdout).toContain("klient");
    expect(list.stderr).toMatch(/^kite: as of .* ago; kontrol does not answer: no mesh is running at .*; start it with npm start/);
    expect((await mesh.run("whoami")).status).toBe(3);
  });
});

async function kiteNames(): Promise<string[]> {
  const kites = await mesh.json<DirectoryKite[]>("list");
  return kites.map(({ kite }) => kite.name).sort();
}

async function stackNames(): Promise<string[]> {
  const stacks = await mesh.json<Stack[]>("stack", "list");
  return stacks.map(({ name }) => name).sort();
}

function people(): Promise<Person[]> {
  return mesh.json<Person[]>("people", "list");
}

async function peopleFromGitlab(): Promise<Person[]> {
  return (await people()).filter(({ external }) => external.length > 0);
}

/** The lines after the first, which is the plan. */
async function jsonLines<T>(...args: string[]): Promise<T[]> {
  const { status, stdout, stderr } = await mesh.run(...args, "--json");
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return stdout
    .trim()
    .split("\n")
    .slice(1)
    .map((line) => JSON.parse(line) as T);
}

function nonEmpty<T>(list: T[]): T[] | undefined {
  return list.length > 0 ? list : undefined;
}

/** Ctrl-C, as a shell sends it. */
async function interruptGroup(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null) return;
  const exited = once(child, "exit");
  process.kill(-child.pid, "SIGINT");
  await exited;
}
