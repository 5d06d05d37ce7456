import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CreateResource, Provider, ResourceState, ResourceType } from "@kite-mesh/kloud/provider";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { describeWith, findService } from "../../../../test/services.ts";
import { localProvider } from "./local-provider.ts";
import { findMarked, signalProcess } from "./processes.ts";

/** Stands for klient: says that it is there, starts a program in a session of its own that ignores SIGTERM, and stays. */
const KLIENT = `
  const { spawn } = require("node:child_process");
  const { appendFileSync, writeFileSync } = require("node:fs");
  writeFileSync(process.env.HOME + "/env.json", JSON.stringify({ ...process.env, cwd: process.cwd() }));
  appendFileSync(process.env.HOME + "/starts", process.pid + "\\n");
  console.log("klient is up");
  if (process.env.STUBBORN) spawn("/bin/sh", ["-c", "trap '' TERM; while :; do sleep 0.2; done"], { detached: true, stdio: "ignore" }).unref();
  setInterval(() => {}, 1000);
`;

/** Notes what it can read of the mesh's keys, from its home `<base>/<machines>/<id>/home`. */
const LOOK = `
  const { readFileSync, writeFileSync } = require("node:fs");
  const { dirname, join } = require("node:path");
  const read = (name) => { try { return readFileSync(join(dirname(__filename), name), "utf8"); } catch { return null; } };
  writeFileSync(process.env.HOME + "/seen.json", JSON.stringify([read("kite.key"), read("services/kite.key")]));
  setInterval(() => {}, 1000);
`;

const bwrap = findService("bubblewrap");

let base: string;
let provider: Provider;
const ids: string[] = [];

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "kite-local-"));
  await writeFile(join(base, "klient.cjs"), KLIENT);
  provider = open();
});

afterEach(async () => {
  for (const id of ids.splice(0)) await instance().delete({ id, state: null, signal: ANY });
});

afterAll(async () => {
  await provider.close();
  await rm(base, { recursive: true });
});

describe("local machines by process", () => machinesBy("process"));
describeWith("bubblewrap", "local machines by bubblewrap", () => machinesBy("bubblewrap"));
describeWith("bubblewrap", "what a sandbox hides", () => {
  test("the keys of the mesh are out of a machine's sight", async () => {
    await mkdir(join(base, "services"));
    for (const file of ["kite.key", "services/kite.key"]) await writeFile(join(base, file), "a secret");
    await writeFile(join(base, "look.cjs"), LOOK);
    const hidden = ["kite.key", "services", "none"].map((name) => join(base, name));
    const hiding = localProvider({ machinesDir: join(base, "machines"), klient: { main: join(base, "look.cjs") }, log: console, hidden });
    const id = newId();

    const state = await hiding.resources.local_instance?.create(request(id, "bubblewrap"));

    await vi.waitFor(async () => expect(JSON.parse(await readFileOf(state as ResourceState, "seen.json"))).toEqual([null, null]));
    await hiding.close();
  });
});

function machinesBy(rung: "process" | "bubblewrap"): void {
  test("a machine starts with its name, a join token and nothing else of ours", async () => {
    const state = await create(rung);

    const env = JSON.parse(await readFileOf(state, "env.json")) as Record<string, string>;
    expect(state).toMatchObject({ status: "running", attributes: { isolation: rung, rung } });
    expect(env).toMatchObject({
      KITE_MACHINE_ID: state.id,
      KITE_MACHINE: "hello",
      KITE_PROVIDER: "local",
      KITE_JOIN_TOKEN: "join-1",
      HOME: home(state),
      cwd: home(state),
    });
    expect(Object.keys(env).filter((name) => /^(NODE_|VITEST|npm_|CI$|GITHUB)/.test(name))).toEqual([]);
    await vi.waitFor(() => expect(readFileSync(String(state.attributes.log), "utf8")).toContain("klient is up"));
  });

  test("creating it again, also by another process's provider, finds the klient that runs", async () => {
    const state = await create(rung);
    const other = open();

    const again = await other.resources.local_instance?.create(request(state.id, rung));

    expect(again).toEqual(state);
    expect(await starts(state)).toBe(1);
    await other.close();
  });

  test("stopping ends everything, keeps the data, and starting goes on without a token", async () => {
    const state = await create(rung, { env: { STUBBORN: "1" } });
    await vi.waitFor(async () => expect((await processes(state)).length).toBeGreaterThan(1));
    await writeFile(join(home(state), "work"), "mine");

    const stopped = await instance().stop?.({ id: state.id, state, signal: ANY });

    expect(stopped?.status).toBe("stopped");
    expect(await processes(state)).toEqual([]);
    await rm(join(home(state), "env.json"));
    const started = await instance().start?.({ id: state.id, state, signal: ANY });
    expect(started?.status).toBe("running");
    expect(await readFileOf(state, "env.json")).not.toContain("join-1");
    expect(await readFileOf(state, "work")).toBe("mine");
  });

  test("deleting leaves neither process nor file, and may be repeated", async () => {
    const state = await create(rung, { env: { STUBBORN: "1" } });
    await vi.waitFor(async () => expect((await processes(state)).length).toBeGreaterThan(1));
    await mkdir(join(home(state), "locked"));
    await writeFile(join(home(state), "locked", "file"), "");
    await chmod(join(home(state), "locked"), 0o500);

    await instance().delete({ id: state.id, state, signal: ANY });
    await instance().delete({ id: state.id, state: null, signal: ANY });

    expect(await processes(state)).toEqual([]);
    expect(existsSync(join(base, "machines", state.id))).toBe(false);
    expect(await instance().read({ id: state.id, state, signal: ANY })).toBeNull();
  });

  test("a klient that ended by itself is stopped, and starts again once", async () => {
    const state = await create(rung);
    // One of them may end with another before its turn comes.
    for (const found of await findMarked(`KITE_MACHINE_ID=${state.id}`)) await signalProcess(found, "SIGKILL");
    await vi.waitFor(async () => expect((await instance().read({ id: state.id, state, signal: ANY }))?.status).toBe("stopped"));

    await Promise.all([1, 2, 3].map(async () => await instance().start?.({ id: state.id, state, signal: ANY })));

    await vi.waitFor(async () => expect(await starts(state)).toBe(2));
  });
}

test("other variables start the klient again with them; the same ones do not", async () => {
  const state = await create("process", { env: { COLOUR: "red" } });

  await instance().update({ ...request(state.id, "process", { env: { COLOUR: "red" } }), previous: state });
  expect(await starts(state)).toBe(1);
  await rm(join(home(state), "env.json"));
  const updated = await instance().update({ ...request(state.id, "process", { env: { COLOUR: "blue" } }), previous: state });

  expect(updated).toMatchObject({ status: "running", attributes: { env: { COLOUR: "blue" } } });
  expect(JSON.parse(await readFileOf(state, "env.json"))).toMatchObject({ COLOUR: "blue" });
});

test("a process that only has the number of an old klient is not taken for it", async () => {
  const state = await create("process");
  await instance().stop?.({ id: state.id, state, signal: ANY });
  const stat = await readFile(`/proc/${process.pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  fields[19] = "1";

  await writeFile(join(base, "machines", state.id, "process"), `${process.pid} (node) ${fields.join(" ")}`);

  expect((await instance().read({ id: state.id, state, signal: ANY }))?.status).toBe("stopped");
});

test("when the process that made a machine is killed, the machine lives on and is found", async () => {
  const id = newId();
  const source = new URL("./local-provider.ts", import.meta.url).href;
  const script = `
    const { localProvider } = await import(${JSON.stringify(source)});
    const provider = localProvider({ machinesDir: ${JSON.stringify(join(base, "machines"))}, klient: { main: ${JSON.stringify(join(base, "klient.cjs"))} }, log: console });
    await provider.resources.local_instance.create({ id: ${JSON.stringify(id)}, label: "hello", attributes: { isolation: "process" },
      boot: { kontrolUrl: "ws://127.0.0.1:1", joinToken: "t", hostname: "hello", username: "ada" }, progress() {}, signal: new AbortController().signal });
    console.log("made");
    setInterval(() => {}, 1000);
  `;
  const maker = spawn(process.execPath, ["--conditions=mesh-source", "--import", "tsx", "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await firstOutput(maker);

  maker.kill("SIGKILL");
  await once(maker, "exit");

  const state = await instance().read({ id, state: null, signal: ANY });
  expect(state?.status).toBe("running");
  await instance().start?.({ id, state, signal: ANY });
  await vi.waitFor(async () => expect(await starts(state ?? unreachable())).toBe(1));
}, 30_000);

test("bubblewrap that is asked for and missing is said, and what to do", async () => {
  const without = open("/nowhere/bwrap");

  await expect(without.resources.local_instance?.create(request(newId(), "bubblewrap"))).rejects.toThrow(
    /bwrap is not installed; install bubblewrap, or ask for "auto"/,
  );

  expect(await without.describe()).toMatch(/rung 3 of 3.*bwrap is not installed.*not a security boundary/);
  await without.close();
});

test.each([
  [{ isolation: "docker" }, /auto/],
  [{ env: { NODE_OPTIONS: "--inspect" } }, /reserved/],
  [{ env: { "A B": "x" } }, /Invalid key|variable's name/],
])("attributes %j are refused", async (attributes, message) => {
  const checked = await instance().schema["~standard"].validate(attributes);

  expect(JSON.stringify(checked.issues)).toMatch(message);
});

test("an id that would lead out of the folder is refused", async () => {
  await expect(instance().read({ id: "../../etc", state: null, signal: ANY })).rejects.toThrow(/a machine's id/);
});

const ANY = new AbortController().signal;

function open(withBwrap = bwrap): Provider {
  const options = { machinesDir: join(base, "machines"), klient: { main: join(base, "klient.cjs") }, log: console, graceMs: 300 };
  return localProvider(withBwrap === undefined ? options : { ...options, bwrap: withBwrap });
}

function instance(): ResourceType {
  return provider.resources.local_instance ?? unreachable();
}

function newId(): string {
  const id = crypto.randomUUID();
  ids.push(id);
  return id;
}

function request(id: string, isolation: string, attributes: Record<string, unknown> = {}): CreateResource {
  const boot = { kontrolUrl: "ws://127.0.0.1:1", joinToken: "join-1", hostname: "hello", username: "ada" };
  return { id, label: "hello", attributes: { isolation, ...attributes }, boot, progress: () => undefined, signal: ANY };
}

async function create(isolation: string, attributes: Record<string, unknown> = {}): Promise<ResourceState> {
  const state = await instance().create(request(newId(), isolation, attributes));
  await readFileOf(state, "starts");
  return state;
}

function home(state: ResourceState): string {
  return String(state.attributes.home);
}

/** The text of a file in a machine's home, as soon as it is there. */
async function readFileOf(state: ResourceState, name: string): Promise<string> {
  return await vi.waitFor(
    async () => {
      const text = await readFile(join(home(state), name), "utf8");
      if (text === "") throw new Error(`${name} is still empty`);
      return text;
    },
    { timeout: 10_000 },
  );
}

async function starts(state: ResourceState): Promise<number> {
  return (await readFileOf(state, "starts")).trim().split("\n").length;
}

async function processes(state: ResourceState): Promise<number[]> {
  return (await findMarked(`KITE_MACHINE_ID=${state.id}`)).map(({ pid }) => pid);
}

async function firstOutput({ stdout }: ChildProcess): Promise<void> {
  if (stdout !== null) await once(stdout, "data", { signal: AbortSignal.timeout(20_000) });
}

function unreachable(): never {
  throw new Error("this cannot happen");
}
