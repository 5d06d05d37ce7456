import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FoundKite, Kite, KiteError, type Methods, matcher, method, type Query } from "@kite-mesh/kite";
import { testCaller, until } from "@kite-mesh/kite/testing";
import type { OsExec } from "@kite-mesh/klient/contract";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import { program } from "../../../test/programs.ts";

// Every command is a process that loads the library, some hundred milliseconds of work on a core that others use too.
vi.setConfig({ testTimeout: 60_000 });

// A mesh as small as the command needs it: a registry that knows two kites and one stack, and a machine that is this computer.
const any = z.any();
const children = new Set<ChildProcess>();
let home: string;
let kites: Kite[];
let applied: unknown[];
let plan: { changes: object[]; empty: boolean };

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "kite-cli-mesh-"));
  const math = await serve("math", {
    square: method({ role: "viewer", input: z.number(), output: z.number() }, (n) => n * n),
    echo: method({ role: "viewer", input: any }, (value) => value),
    bytes: method({ role: "viewer" }, () => new Uint8Array([1, 2, 3])),
    count: method({ role: "viewer", input: z.number() }, async function* (to) {
      for (let n = 1; n <= to; n++) yield n;
    }),
    slow: method({ role: "viewer" }, () => new Promise(() => {})),
  });
  const klient = await serve("klient", { os: { exec: method({ input: any }, osExec), kill: method({ input: any }, osKill) } }, "hello");
  const kloud = await serve("kloud", kloudMethods());
  const entries = [math, klient, kloud].map(entryOf);
  // Killed a moment ago, and listed until its beats fail to come; whoever has its port now is another one.
  entries.push({ ...entryOf(math), kite: { ...math.identity, id: "dead" }, url: "http://127.0.0.1:1" });
  const find = (query: Query) => entries.filter(({ kite }) => matcher(query)(kite));
  const kontrol = await serve("kontrol", {
    getKites: method({ role: "viewer", input: any }, ({ query }) => ({ kites: find(query), revision: "1" })),
    getToken: method({ role: "viewer", input: any }, () => ({ token: "t", expiresAt: Date.now() + 600_000 })),
    watch: method({ role: "viewer", input: any }, async function* ({ query }) {
      const known = find(query).map(({ token: _token, tokenExpiresAt: _at, ...seen }) => seen);
      yield { type: "snapshot", revision: "1", kites: known };
      yield { type: "gone", revision: "2", kite: math.identity, reason: "it was stopped" };
      await new Promise(() => {});
    }),
    why: method({ role: "viewer", input: any }, ({ id }) => {
      const seen = { found: true, kite: { ...math.identity, id }, at: new Date(0).toISOString() };
      if (id === "lost") return { ...seen, state: "gone", reason: "two missed beats" };
      const kite = [math, klient].find(({ identity }) => identity.id === id)?.identity;
      if (kite !== undefined) return { ...seen, kite, state: "present", reason: "it registered" };
      return id === "busy" ? { ...seen, state: "present", reason: "its event loop has been blocked for 4.8 s" } : { found: false };
    }),
    departed: method({ role: "viewer", input: any }, ({ query }) => {
      const kite = { ...math.identity, id: "before" };
      return matcher(query)(kite)
        ? [{ found: true, kite, at: new Date(0).toISOString(), state: "gone", reason: "its session closed" }]
        : [];
    }),
    whoami: method({ role: "viewer" }, () => ({ username: "alice", admin: true, kind: "person" })),
  });
  const claims = Buffer.from(JSON.stringify({ sub: "alice", iss: "kontrol", kontrolURL: kontrol.url })).toString("base64url");
  await writeFile(join(home, "kite.key"), `${Buffer.from('{"alg":"EdDSA"}').toString("base64url")}.${claims}.AAAA`);
});

afterAll(async () => {
  for (const kite of kites) await kite.close();
  for (const child of children) child.kill("SIGKILL");
  await rm(home, { recursive: true, force: true });
});

test("a call prints its result as JSON for programs", async () => {
  expect(await kite("call", "math", "square", "12")).toMatchObject({ status: 0, stdout: "144\n", stderr: "" });
  expect((await kite("call", "math", "echo", '{"a": [1, "zwei"]}')).stdout).toBe('{"a":[1,"zwei"]}\n');
  expect((await kite("call", "math", "square", "-3")).stdout).toBe("9\n");
});

test("a kite that was killed and is still listed is passed over", async () => {
  const calls = await Promise.all([1, 2, 3, 4].map((n) => kite("call", "math", "square", String(n))));

  expect(calls.map(({ stdout }) => stdout)).toEqual(["1\n", "4\n", "9\n", "16\n"]);
});

test("a stream is printed item by item, bytes as they are", async () => {
  expect((await kite("call", "math", "count", "3")).stdout).toBe("1\n2\n3\n");
  expect((await kite("call", "math", "bytes")).stdout).toBe("\u0001\u0002\u0003");
});

test.each([
  [["call", "mat", "square", "12"], /^kite: no kite matches mat; did you mean math\?\n$/],
  [["call", "math", "sqare", "12"], /^kite: .*sqare.*square.*\n$/],
  [["call", "math", "square", "twelve"], /^kite: .*square.*expected number.*\n$/],
  [["call", "math", "square"], /^kite: .*square.*expected number.*\n$/],
  [["call", "math", "square", "1", "2"], /^kite: .*takes 1 argument, got 2\n$/],
  [["why", "nobody"], /^kite: no kite that nobody could mean is there, or has left within a week; .*\n$/],
  [["exec", "helo", "--", "true"], /^kite: no machine is called helo; did you mean hello\?\n$/],
  [["machine", "info", "helo"], /^kite: no machine is called helo; did you mean hello\?\n$/],
])("%j is answered with one sentence", async (args, message) => {
  const { status, stdout, stderr } = await kite(...args);

  expect([stdout, stderr]).toEqual(["", expect.stringMatching(message)]);
  expect(status).toBe(args[0] === "exec" ? 255 : 1);
});

test("a call without an answer ends with its time, and says that it may have run", async () => {
  expect(await kite("call", "--timeout", "5", "math", "slow")).toEqual({
    status: 124,
    stdout: "",
    stderr: "kite: slow did not answer within 5 s; it may have run; look what has happened before you repeat it\n",
  });
});

test("list shows the kites, and what happens to them with --watch", async () => {
  const table = await kite("list");
  const json = JSON.parse((await kite("list", "--json", "math")).stdout);
  const watching = start("list", "--watch", "math");
  await until(() => watching.output().includes("stopped"), 10_000);
  watching.child.kill("SIGINT");

  expect(table.stdout).toMatch(/NAME +VERSION[\s\S]*math +1\.0\.0 +alice/);
  expect(json).toMatchObject([{ kite: { name: "math" }, role: "viewer" }, { kite: { id: "dead" } }]);
  expect(JSON.stringify(json)).not.toContain("token");
  expect(await watching.status).toBe(130);
  expect(watching.output()).toMatch(/^= \/alice\/local\/math\/.*\n= .*\/dead\n- \/alice\/local\/math\/.* \(it was stopped\)\n$/);
});

test("why tells since when and for what reason a kite is gone, and how one is that is there", async () => {
  expect((await kite("why", "busy")).stdout).toMatch(/\/busy is there since .*: its event loop has been blocked for 4\.8 s\n$/);
  expect((await kite("why", "lost")).stdout).toMatch(/^\/alice\/local\/math\/1\.0\.0\/.*\/lost is gone since .*: two missed beats\n$/);
});

test("why takes a name as well, and says which kites it took it for", async () => {
  const { stdout, stderr } = await kite("why", "math@^1.0");
  const json = JSON.parse((await kite("why", "/alice/local/math", "--json")).stdout);

  expect(stdout).toMatch(
    /^\/alice\/local\/math\/.* is there since .*: it registered\n\/alice\/.*\/before is gone since .*: its session closed\n$/,
  );
  expect(stderr).toBe("kite: math@^1.0 means 2 kites; give one's id to ask for it alone\n");
  expect(json).toMatchObject([{ state: "present" }, { state: "gone", kite: { id: "before" } }]);
  expect((await kite("why", "math@^9")).status).toBe(1);
});

test("why takes a machine's name for its klient", async () => {
  expect((await kite("why", "hello")).stdout).toMatch(/^\/alice\/local\/klient\/.*\/hello\/.* is there since .*: it registered\n$/);
});

test("exec streams both outputs and exits with the program's status", async () => {
  const { status, stdout, stderr } = await kite("exec", "hello", "--", "sh", "-c", "echo out; echo err >&2; exit 3");

  expect([status, stdout, stderr]).toEqual([3, "out\n", "err\n"]);
});

test("exec passes its input on, to the end", async () => {
  const text = "line\n".repeat(100_000);

  const { status, stdout } = await kite({ input: text }, "exec", "hello", "--", "wc", "-c");

  expect([status, stdout.trim()]).toEqual([0, "500000"]);
});

test("exec forwards options of the program, its folder and its variables", async () => {
  const { stdout } = await kite("exec", "--cwd", "/", "--env", "COLOUR=teal", "hello", "sh", "-c", "pwd; echo $COLOUR $1", "--", "--json");

  expect(stdout).toBe("/\nteal --json\n");
});

test("a program that is not there is told from a connection that failed", async () => {
  const { status, stderr } = await kite("exec", "hello", "no-such-program");

  expect([status, stderr]).toEqual([127, "kite: could not start no-such-program\n"]);
});

test("a signal to exec reaches the program, whose status is then its own", async () => {
  const flag = join(home, "started");
  const running = start("exec", "hello", "--", "sh", "-c", `trap 'exit 7' TERM; touch ${flag}; while :; do sleep 0.05; done`);
  await until(() => existsSync(flag), 15_000);

  running.child.kill("SIGTERM");

  expect(await running.status).toBe(7);
});

test("exec says that the connection was lost, which is no status of the program's", async () => {
  const flag = join(home, "lost");
  const running = start("exec", "hello", "--", "sh", "-c", `touch ${flag}; sleep 30`);
  await until(() => existsSync(flag), 15_000);
  const klient = kites.find(({ identity }) => identity.name === "klient") as Kite;

  klient.endSessions(() => true, new KiteError("disconnected", "the test ends it"));

  expect(await running.status).toBe(255);
  expect(running.output()).toMatch(/kite: the connection to hello was lost, and sh may still be running there/);
});

test("a plan that only creates is applied without a terminal, and its progress is shown", async () => {
  plan = { empty: false, changes: [change("create")] };

  const { status, stdout, stderr } = await kite("stack", "apply", "-f", await template());

  expect(status).toBe(0);
  expect(stdout).toMatch(/\+ local_instance\.hello create\n.*memory = 64\n1 to create, 0 to update/);
  expect(stderr).toBe("apply hello: 50% hello: starting\napply hello: 100% done\n");
  expect(applied.at(-1)).toMatchObject({ planId: "p1", variables: {} });
});

test("a plan that replaces is not applied unless somebody agrees", async () => {
  plan = { empty: false, changes: [change("replace")] };
  const before = applied.length;

  const refused = await kite("stack", "apply", "-f", await template());
  expect(refused).toMatchObject({ status: 2, stderr: expect.stringMatching(/deletes or replaces local_instance\.hello.*add --yes/) });
  expect(applied).toHaveLength(before);

  expect((await kite("stack", "apply", "-f", await template(), "--yes")).status).toBe(0);
  expect(applied).toHaveLength(before + 1);
});

test("an operation that fails is an error with its reason; --json prints its events", async () => {
  const { status, stdout, stderr } = await kite("stack", "destroy", "hello", "--json");

  expect(status).toBe(1);
  expect(stderr).toBe("kite: destroy hello failed: the disk is full\n");
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).state),
  ).toEqual(["running", "failed"]);
});

async function serve(name: string, methods: Methods, hostname = "here"): Promise<Kite> {
  const made = new Kite({
    name,
    version: "1.0.0",
    username: name === "kloud" ? "kloud" : "alice",
    hostname,
    methods,
    authenticate: async () => testCaller(),
  });
  kites = [...(kites ?? []), made];
  await made.listen();
  return made;
}

function entryOf(made: Kite): FoundKite {
  const common = {
    visibility: "private",
    labels: {},
    role: "viewer",
    registeredAt: 0,
    token: "secret.token.here",
    tokenExpiresAt: Date.now() + 600_000,
  } as const;
  return { kite: made.identity, url: made.url ?? "", ...common };
}

async function osExec(request: OsExec) {
  const child = spawn(request.cmd, request.args ?? [], { cwd: request.workDir, env: { ...process.env, ...request.envs }, stdio: "pipe" });
  children.add(child);
  await once(child, "spawn").catch(() => {
    throw new KiteError("not_found", `could not start ${request.cmd}`, { reason: "ProcessError" });
  });
  void (async () => {
    for await (const chunk of (request.stdin ?? []) as AsyncIterable<Uint8Array>) child.stdin.write(chunk);
    child.stdin.end();
  })().catch(() => child.stdin.destroy());
  const pump = async (from: AsyncIterable<Buffer>, to: ((chunk: Uint8Array) => unknown) | undefined) => {
    for await (const chunk of from) await to?.(chunk);
  };
  const pumped = Promise.all([pump(child.stdout, request.stdout), pump(child.stderr, request.stderr)]);
  // Who asked may be gone by then.
  void Promise.all([once(child, "exit"), pumped])
    .then(([[code]]) => request.exit?.(code ?? 143))
    .catch(() => {});
  return { pid: child.pid };
}

function osKill({ pid, signal }: { pid: number; signal: NodeJS.Signals }) {
  process.kill(pid, signal);
  return {};
}

function kloudMethods(): Methods {
  applied = [];
  const machine = {
    id: "m1",
    label: "hello",
    stack: "hello",
    owner: "alice",
    provider: "local",
    state: "Running",
    kiteId: null,
    attributes: {},
    createdAt: "",
  };
  const stack = {
    id: "s1",
    name: "hello",
    owner: "alice",
    state: "running",
    operationId: null,
    error: null,
    machines: [machine],
    createdAt: "",
    updatedAt: "",
  };
  return {
    stack: {
      plan: method({ role: "viewer", input: any }, () => ({ id: "p1", stack: "hello", engine: "builtin", machines: [], ...plan })),
      apply: method({ role: "viewer", input: any }, (request) => ({ operationId: `apply-${applied.push(request)}` })),
      destroy: method({ role: "viewer", input: any }, () => ({ operationId: "destroy-1" })),
      get: method({ role: "viewer", input: any }, () => stack),
      list: method({ role: "viewer" }, () => [stack]),
    },
    machine: { list: method({ role: "viewer" }, () => [machine]) },
    operation: {
      watch: method({ role: "viewer", input: any }, async function* ({ operationId }) {
        const [event, fails] = [{ sequence: 1, operationId, machine: null, at: "", error: null }, operationId.startsWith("destroy")];
        yield { ...event, state: "running", percentage: 50, message: "starting", machine: "hello" };
        if (fails) yield { ...event, state: "failed", percentage: 50, message: "failed", error: "the disk is full" };
        else yield { ...event, state: "succeeded", percentage: 100, message: "done" };
      }),
    },
  };
}

function change(action: string) {
  return {
    address: "local_instance.hello",
    action,
    before: action === "create" ? null : { memory: 32 },
    after: { memory: 64 },
    replaceReasons: [],
  };
}

async function template(): Promise<string> {
  const path = join(home, "stack.yaml");
  await writeFile(path, "name: hello\n");
  return path;
}

type Args = [{ input: string }, ...string[]] | string[];

async function kite(...args: Args): Promise<{ status: number | string; stdout: string; stderr: string }> {
  const [first, ...rest] = args;
  const { child, streams, status } = typeof first === "object" ? start(...(rest as string[])) : start(...(args as string[]));
  child.stdin?.end(typeof first === "object" ? first.input : undefined);
  return { status: await status, ...streams };
}

function start(...args: string[]) {
  const child = spawn(process.execPath, [program("kite"), ...args], {
    env: { ...process.env, KITE_HOME: home },
    cwd: home,
  });
  children.add(child);
  const streams = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (streams.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (streams.stderr += chunk.toString()));
  const status = once(child, "close").then(([code, signal]) => (code === null ? String(signal) : Number(code)));
  return { child, streams, status, output: () => streams.stdout + streams.stderr };
}
