import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Caller, type ContractOf, callWith, KiteError, type Role } from "@kite-mesh/kite";
import { connectedPair, testCaller } from "@kite-mesh/kite/testing";
import { expect, expectTypeOf, onTestFinished, test, vi } from "vitest";
import type { KlientContract } from "./contract.ts";
import { Programs } from "./exec.ts";
import { Files } from "./files.ts";
import { machineUser } from "./machine-user.ts";
import { klientMethods } from "./methods.ts";
import { PtyHost } from "./pty-host.ts";
import { PtyHostClient } from "./pty-host-client.ts";
import { PTY_HOST_PROGRAM } from "./pty-host-process.ts";
import { loadPtyModule } from "./pty-module.ts";
import { Terminals } from "./terminal.ts";

test("the methods keep the contract", () => {
  expectTypeOf<ContractOf<ReturnType<typeof klientMethods>>>().toExtend<KlientContract>();
});

test("a terminal is opened, typed into, resized, left and resumed with its screen", async () => {
  const machine = await startMachine();
  const { client } = await machine.as("alice", "owner");
  const first = viewer();

  const session = await client.webterm.connect({ session: "work", sizeX: 80, sizeY: 24, remote: first.remote });
  await session.input("echo h🚀é''llo; stty size\r");
  await first.seen(/h🚀éllo\r\n24 80\r\n/);
  await session.setSize(100, 30);
  await session.controlSequence("stty size\r");
  await first.seen(/30 100\r\n/);
  await session.close();

  const second = viewer();
  const resumed = await client.webterm.connect({ session: "work", sizeX: 100, sizeY: 30, mode: "resume", remote: second.remote });
  await second.seen(/h🚀éllo\r\n24 80\r\n/);
  expect(await client.webterm.getSessions()).toEqual(["work"]);

  await resumed.terminate();
  await vi.waitFor(() => expect(second.ended()).toBe(true));
  expect(await client.webterm.getSessions()).toEqual([]);
});

test("output goes on where it was after the link was cut", async () => {
  const machine = await startMachine();
  const { client, pair } = await machine.as("alice", "owner");
  const screen = viewer();
  const session = await client.webterm.connect({ session: "work", sizeX: 80, sizeY: 24, remote: screen.remote });

  await session.input("for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.05; done\r");
  await screen.seen(/line 2\r\n/);
  pair.cut();

  await screen.seen(/line 1\r\nline 2\r\nline 3\r\nline 4\r\nline 5\r\nline 6\r\nline 7\r\nline 8\r\nline 9\r\n/);
});

test("a caller whose session is lost leaves its terminal behind", async () => {
  const machine = await startMachine();
  const { client, pair } = await machine.as("alice", "owner");
  await client.webterm.connect({ session: "work", sizeX: 80, sizeY: 24, remote: viewer().remote });
  await client.webterm.connect({ mode: "noscreen", sizeX: 80, sizeY: 24, remote: viewer().remote });

  await pair[Symbol.asyncDispose]();

  await vi.waitFor(() => expect(machine.sessions()).toEqual([{ name: "work", user: "alice", viewers: 0 }]));
});

test("a viewer looks on and cannot type; an operator types and cannot end what is not theirs", async () => {
  const machine = await startMachine();
  const owner = await machine.as("alice", "owner");
  const looking = await machine.as("vera", "viewer");
  const operating = await machine.as("otto", "operator");
  const [screen, veras] = [viewer(), viewer()];
  const session = await owner.client.webterm.connect({ session: "work", sizeX: 80, sizeY: 24, remote: screen.remote });

  const onlooking = await looking.client.webterm.connect({ session: "work", sizeX: 20, sizeY: 5, remote: veras.remote });
  await session.input("echo se''en\r");
  await veras.seen(/seen\r\n/);
  for (const attempt of [
    () => onlooking.input("x"),
    () => onlooking.controlSequence("\x03"),
    () => onlooking.setSize(1, 1),
    () => onlooking.terminate(),
  ]) {
    await expect(attempt()).rejects.toMatchObject({ code: "permission_denied" });
  }
  await expect(looking.client.webterm.connect({ sizeX: 80, sizeY: 24, remote: viewer().remote })).rejects.toMatchObject({
    code: "permission_denied",
  });
  await expect(operating.client.webterm.killSession({ session: "work" })).rejects.toMatchObject({ code: "permission_denied" });
  await expect(operating.client.webterm.killSessions()).rejects.toMatchObject({ code: "permission_denied" });

  await operating.client.webterm.connect({ session: "work", mode: "shared", sizeX: 80, sizeY: 24, remote: viewer().remote });
  expect(screen.ended()).toBe(false);
  expect(await owner.client.webterm.killSessions()).toBe(true);
  await vi.waitFor(() => expect([screen.ended(), veras.ended()]).toEqual([true, true]));
});

test("every method asks for its role", async () => {
  const machine = await startMachine();
  const { client } = await machine.as("vera", "viewer");

  expect(await client.fs.abs({ path: "~" })).toMatchObject({ absPath: machine.home });
  expect(await client.klient.info()).toMatchObject({ home: machine.home, os: process.platform, providerName: "test" });
  expect(await client.os.home()).toBe(machine.home);
  for (const attempt of [
    () => client.exec({ command: "true" }),
    () => client.os.exec({ cmd: "true" }),
    () => client.fs.writeFile({ path: "x", content: "" }),
    () => client.fs.remove({ path: "x" }),
    () => client.webterm.rename({ oldName: "a", newName: "b" }),
  ]) {
    await expect(attempt()).rejects.toMatchObject({ code: "permission_denied" });
  }
});

test("a viewer reads files, but no credentials: neither by name, by link, nor through /proc", async () => {
  const machine = await startMachine();
  mkdirSync(join(machine.home, ".kite", "klient"), { recursive: true });
  for (const path of [".kite/kite.key", ".kite/klient/pty-host.log", "notes"]) writeFileSync(join(machine.home, path), "text");
  symlinkSync(join(machine.home, ".kite"), join(machine.home, "innocent"));
  const [looking, operating] = [await machine.as("vera", "viewer"), await machine.as("otto", "operator")];

  expect(Buffer.from((await looking.client.fs.readFile({ path: "notes" })).content).toString()).toBe("text");
  for (const path of [
    ".kite/kite.key",
    ".kite/klient/pty-host.log",
    "innocent/kite.key",
    `/proc/self/root${machine.home}/.kite/kite.key`,
    "/proc/self/mem",
    "/proc/thread-self/environ",
    "/proc/self/task/../environ",
  ]) {
    await expect(looking.client.fs.readFile({ path, blockSize: 16 }), path).rejects.toMatchObject({ code: "permission_denied" });
  }
  expect(Buffer.from((await operating.client.fs.readFile({ path: ".kite/kite.key" })).content).toString()).toBe("text");
});

test("files and commands work over a session, with bytes and errors intact", async () => {
  const machine = await startMachine();
  const { client } = await machine.as("otto", "operator");
  const content = Buffer.from([0, 255, 27, 10, 128]);

  expect(await client.fs.writeFile({ path: "data", content })).toBe(5);
  expect(Buffer.from((await client.fs.readFile({ path: "data" })).content)).toEqual(content);
  expect(await client.exec({ command: "wc -c < data; exit 3" })).toEqual({ stdout: "5\n", stderr: "", exitStatus: 3 });
  await client.exec({ command: "truncate -s 15M large" });
  expect((await client.fs.readFile({ path: "large" })).content).toHaveLength(15 * 1024 * 1024);
  await expect(client.fs.readFile({ path: "none" })).rejects.toMatchObject({ code: "not_found", reason: "fsError" });
  await expect(client.exec({ command: "" })).rejects.toMatchObject({ code: "invalid_argument" });
  await expect(client.webterm.connect({ session: "a b", sizeX: 80, sizeY: 24, remote: viewer().remote })).rejects.toMatchObject({
    code: "invalid_argument",
  });
});

test("os.exec streams through a session in both directions, and ends with the call that is given up", async () => {
  const machine = await startMachine();
  const { client, pair } = await machine.as("otto", "operator");
  async function* input() {
    for (let index = 0; index < 100; index++) yield Buffer.alloc(10_000, "x");
  }
  let bytes = 0;

  const status = await new Promise<number>((resolve) => {
    void client.os.exec({
      cmd: "cat",
      stdin: input(),
      stdout: (chunk) => {
        bytes += chunk.length;
      },
      exit: resolve,
    });
  });
  expect([status, bytes]).toEqual([0, 1_000_000]);

  await expect(callWith(client, { timeoutMs: 200 }).exec({ command: "echo $$ > pid; sleep 60" })).rejects.toMatchObject({
    code: "deadline_exceeded",
  });
  const { pid } = await client.os.exec({ cmd: "sleep", args: ["60"] });
  await pair[Symbol.asyncDispose]();
  const { client: again } = await machine.as("otto", "operator");
  await vi.waitFor(async () => {
    const { stdout } = await again.exec({ command: `for p in ${pid} $(cat pid); do kill -0 $p 2>/dev/null && echo $p; done; true` });
    expect(stdout).toBe("");
  });
});

async function startMachine() {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "klient-")));
  const user = { ...machineUser({ HOME: home, PATH: "/usr/bin:/bin", PS1: "$ " }), shell: "/bin/sh" };
  const pty = loadPtyModule();
  const host = new PtyHost({ folder: home, pty, onEnd: () => {} });
  await host.listen();
  const client = new PtyHostClient({ folder: home, program: PTY_HOST_PROGRAM, env: {} });
  const programs = new Programs({ user });
  const methods = klientMethods({
    user,
    version: "0.0.0",
    providerName: "test",
    programs,
    terminals: new Terminals({ host: client, user }),
    files: new Files({ home, stateFolder: join(home, ".kite") }),
  });
  onTestFinished(async () => {
    client.close();
    await Promise.all([programs.close(), host.close("the test is over")]);
    rmSync(home, { recursive: true, force: true });
  });
  const as = async (username: string, role: Role) => {
    const caller: Caller = testCaller({ username, role });
    const pair = await connectedPair(methods, { authenticate: async () => caller, graceMs: 300 });
    onTestFinished(() => pair[Symbol.asyncDispose]());
    return { client: pair.client, pair };
  };
  return { home, as, sessions: () => host.list() };
}

function viewer() {
  let [output, ended] = ["", false];
  const decoder = new TextDecoder();
  const remote = {
    output: (data: Uint8Array | string) => {
      if (typeof data === "string") throw new KiteError("invalid_argument", "expected bytes");
      output += decoder.decode(data, { stream: true });
    },
    sessionEnded: () => {
      ended = true;
    },
  };
  return {
    remote,
    ended: () => ended,
    seen: (pattern: RegExp) => vi.waitFor(() => expect(output).toMatch(pattern)),
  };
}
