import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT, type Finished, startMesh, type TestMesh } from "../mesh.ts";
import { program } from "../programs.ts";

// Whatever a person gets wrong: a sentence that says what was expected, what came and what to do, and nothing half done.
let mesh: TestMesh;

beforeAll(async () => {
  mesh = await startMesh();
}, 120_000);

afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
}, 60_000);

describe("npm start", () => {
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), "kite-start-"));
  });
  afterAll(async () => {
    await chmod(folder, 0o700);
    await rm(folder, { recursive: true, force: true });
  });

  test.each(["KONTROL_PORT", "GATEWAY_PORT"])("names the port of %s that is taken, before it starts anything", async (setting) => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const port = String((taken.address() as AddressInfo).port);
    const home = path.join(folder, setting);

    const ended = await start({ KITE_HOME: home, KONTROL_PORT: "0", GATEWAY_PORT: "0", [setting]: port });
    taken.close();

    expect(ended.status).toBe(1);
    expect(ended.stdout + ended.stderr).toMatch(new RegExp(`${port}.*(taken|in use)`));
    expect(ended.stdout + ended.stderr).toContain(setting);
    expect(await readdir(home)).not.toContain("postgres");
  });

  test.each(["nonsense", "70000", "-1"])("says what a port is when it gets %s", async (port) => {
    const ended = await start({ KITE_HOME: path.join(folder, "port"), KONTROL_PORT: port });

    expect(ended.status).toBe(1);
    expect(ended.stdout + ended.stderr).toMatch(new RegExp(`KONTROL_PORT should be a port from 1 to 65535.*"${port}"`));
  });

  test("refuses a home that cannot be written", async () => {
    const file = path.join(folder, "a-file");
    await writeFile(file, "");

    const ended = await start({ KITE_HOME: path.join(file, "home") });

    expect(ended.status).toBe(1);
    expect(ended.stdout + ended.stderr).toMatch(/KITE_HOME .*should be a folder that can be made and written/);
  });

  test("refuses a home that a newer version wrote, and leaves it as it is", async () => {
    const home = path.join(folder, "newer");
    await mkdir(home);
    await writeFile(path.join(home, "version"), "999\n");

    const ended = await start({ KITE_HOME: home });

    expect(ended.status).toBe(1);
    expect(ended.stdout + ended.stderr).toMatch(/written by a newer version.*999/);
    expect(await readdir(home)).toEqual(["version"]);
  });

  test("refuses a home that another mesh uses", async () => {
    const ended = await start({ KITE_HOME: mesh.home, KONTROL_PORT: "0", GATEWAY_PORT: "0" });

    expect(ended.status).toBe(1);
    expect(ended.stdout + ended.stderr).toContain(String(mesh.pid));
    expect((await mesh.run("list")).status).toBe(0);
  });

  async function start(env: Record<string, string>): Promise<Finished> {
    const child = spawn(process.execPath, [program("mesh")], {
      cwd: CHECKOUT,
      env: { ...mesh.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const output = { stdout: "", stderr: "" };
    child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString("utf8")));
    child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString("utf8")));
    const [status] = (await once(child, "close")) as [number | null];
    return { status, ...output };
  }
});

describe("a stack file", () => {
  const cases: [title: string, text: string, says: RegExp][] = [
    ["is not YAML", "name: [unclosed", /YAML/],
    ["has an unknown key", "name: bad\nresources: {}\n", /resources/],
    ["has an unknown provider", "name: bad\nresource:\n  nimbus_instance:\n    web: {}\n", /nimbus/],
    ["has a duplicate machine name", "name: bad\nresource:\n  local_instance:\n    web: {}\n    web: {}\n", /web/],
  ];

  test.each(cases)("that %s is refused with the place, and makes nothing", async (_, text, says) => {
    const file = path.join(mesh.home, "bad.yaml");
    await writeFile(file, text);

    const ended = await mesh.run("stack", "apply", "-f", file, "--yes");

    expect(ended).toMatchObject({ status: expect.toBeOneOf([1, 2]), stdout: "" });
    expect(ended.stderr).toMatch(says);
    expect(ended.stderr.trim().split("\n")).toHaveLength(1);
    expect(await mesh.json<{ name: string }[]>("stack", "list")).toMatchObject([{ name: "hello" }]);
  });

  test("that is not there is named", async () => {
    const ended = await mesh.run("stack", "plan", "-f", "/no/such.yaml");

    expect(ended.status).not.toBe(0);
    expect(ended.stderr).toContain("/no/such.yaml");
  });
});

describe("the kite command", () => {
  const cases: [title: string, args: string[], says: RegExp][] = [
    ["an unknown kite", ["call", "nobody", "square", "12"], /no kite matches nobody/],
    ["an unknown method", ["call", "kloud", "stack.lst"], /Method not found: stack\.lst; did you mean stack\.list/],
    ["wrong arguments", ["call", "kloud", "stack.get", '{"name":7}'], /stack\.get does not accept its argument: .*name/],
    ["an unknown machine", ["exec", "hallo", "--", "true"], /no machine is called hallo; did you mean hello\?/],
    ["an unknown command", ["stak", "list"], /unknown command 'stak'.*stack/],
  ];

  test.each(cases)("says in a line what is wrong with %s", async (_, args, says) => {
    const ended = await mesh.run(...args);

    expect(ended.status).not.toBe(0);
    expect(ended.stdout).toBe("");
    expect(ended.stderr).toMatch(says);
    expect(ended.stderr.trim().split("\n")).toHaveLength(1);
  });

  test("says that no mesh is there when there is none", async () => {
    const ended = await mesh.runAs(path.join(mesh.home, "nothing-here"), "list");

    expect(ended.status).toBe(3);
    expect(ended.stderr).toMatch(/no kite\.key; start a mesh with npm start/);
  });
});

describe("over HTTP", () => {
  const url = (place: string) => `${mesh.gatewayUrl}${place}`;
  const token = () => /secret, made here: (\S+)\)/.exec(mesh.output)?.[1] ?? "";
  const post = (body: BodyInit, headers: Record<string, string> = {}) =>
    fetch(url("/-/api/gitlab"), {
      method: "POST",
      headers: { "content-type": "application/json", "x-gitlab-event": "System Hook", ...headers },
      body,
    });

  test.each<[string, () => Promise<Response>, number, RegExp]>([
    ["is not JSON", () => post("{", { "x-gitlab-token": token() }), 400, /not JSON/],
    ["is not signed", () => post("{}"), 401, /X-Gitlab-Token/],
    ["is too large", () => post(new Uint8Array(26 * 1024 * 1024), { "x-gitlab-token": token() }), 413, /larger than/],
  ])("a hook body that %s is refused with a sentence", async (_, send, status, says) => {
    const response = await send();

    expect(response.status).toBe(status);
    expect(((await response.json()) as { error: string }).error).toMatch(says);
  });

  test("a sign-in link works once, and says so the second time", async () => {
    const link = await mesh.json<{ url: string }>("people", "link");
    const secret = new URL(link.url).searchParams.get("t") ?? "";
    const signIn = () =>
      fetch(url("/sign-in"), {
        method: "POST",
        redirect: "manual",
        headers: { origin: mesh.gatewayUrl },
        body: new URLSearchParams({ t: secret }),
      });

    const first = await signIn();
    const second = await signIn();

    expect(first.status).toBe(303);
    expect(first.headers.get("set-cookie")).toMatch(/HttpOnly/i);
    expect(second.status).toBeGreaterThanOrEqual(400);
    expect(second.headers.get("set-cookie")).toBeNull();
    expect(await second.text()).toContain("This link has been used");
  });
});
