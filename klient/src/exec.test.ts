import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { expect, onTestFinished, test, vi } from "vitest";
import { Programs } from "./exec.ts";
import { machineUser } from "./machine-user.ts";
import { isRunning } from "./process-session.ts";

test("a command's outputs and status are answered; -1 when a signal ended it", async () => {
  const { programs } = open();

  expect(await programs.run({ command: "echo out; echo err >&2; exit 3" }, scope())).toEqual({
    stdout: "out\n",
    stderr: "err\n",
    exitStatus: 3,
  });
  expect(await programs.run({ command: "kill -9 $$" }, scope())).toMatchObject({ exitStatus: -1 });
});

test("a command runs at home, with a clean environment", async () => {
  const { programs, home } = open();

  const { stdout } = await programs.run({ command: "pwd; env" }, scope());

  expect(stdout.split("\n")[0]).toBe(home);
  expect(stdout).toContain("LANG=C.UTF-8");
  expect(stdout).not.toMatch(/VITEST|NODE_/);
});

test("a command that takes too long is ended, with what it started", async () => {
  const { programs, home } = open();

  const run = programs.run({ command: `sleep 60 & echo $! > pid; wait`, timeoutMs: 2_000 }, scope());

  await expect(run).rejects.toMatchObject({ code: "deadline_exceeded", message: expect.stringContaining("2000 ms") });
  const { stdout } = await programs.run({ command: `cat ${home}/pid` }, scope());
  await vi.waitFor(() => expect(isRunning(Number(stdout))).toBe(false));
});

test("a command is ended when its caller gives up", async () => {
  const { programs } = open();
  const caller = new AbortController();
  const run = programs.run({ command: "trap '' TERM; while :; do sleep 0.05; done" }, scope(caller.signal));

  setImmediate(() => caller.abort());

  await expect(run).rejects.toMatchObject({ code: "cancelled" });
});

test("more output than an answer can hold ends the command, and names the limit", async () => {
  const { programs } = open();

  await expect(programs.run({ command: "yes" }, scope())).rejects.toMatchObject({
    code: "limit_exceeded",
    message: expect.stringContaining("4194304 bytes of stdout"),
  });
});

test("os.exec streams both outputs, and calls exit after everything was taken", async () => {
  const { programs } = open();
  const events: string[] = [];
  let bytes = 0;

  await new Promise<void>((resolve) => {
    void programs.start(
      {
        cmd: "sh",
        args: ["-c", "head -c 3000000 /dev/zero; echo err >&2; exit 7"],
        stdout: async (chunk) => {
          await new Promise(setImmediate);
          bytes += chunk.length;
        },
        stderr: (chunk) => void events.push(`err ${Buffer.from(chunk)}`),
        exit: (status) => {
          events.push(`exit ${status} after ${bytes}`);
          resolve();
        },
      },
      scope(),
    );
  });

  expect(events).toEqual(["err err\n", "exit 7 after 3000000"]);
});

test("a caller that takes nothing makes the program wait", async () => {
  const { programs, home } = open();
  const caller = new AbortController();
  let chunks = 0;

  await programs.start(
    { cmd: "sh", args: ["-c", "head -c 30000000 /dev/zero; touch done"], stdout: () => new Promise(() => void chunks++) },
    scope(undefined, caller.signal),
  );

  await vi.waitFor(() => expect(chunks).toBe(8));
  const { stdout } = await programs.run({ command: `ls ${home}` }, scope());
  expect(stdout).not.toContain("done");
  caller.abort();
});

test("a program ends with its caller's session, and one that refuses is killed", async () => {
  const { programs } = open();
  const session = new AbortController();
  const { promise: ready, resolve: isReady } = deferred();

  const { pid } = await programs.start(
    { cmd: "sh", args: ["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], stdout: isReady },
    scope(undefined, session.signal),
  );
  await ready;
  session.abort();

  await vi.waitFor(() => expect(isRunning(pid)).toBe(false));
});

test("input is given as bytes or as a stream, whose producer is told when the program stops reading", async () => {
  const { programs } = open();
  let returned = false;
  async function* produce() {
    try {
      for (;;) yield Buffer.from("line\n");
    } finally {
      returned = true;
    }
  }
  const outputOf = (request: { cmd: string; args?: string[]; stdin: Uint8Array | AsyncIterable<Uint8Array> }) =>
    new Promise<string>((resolve) => {
      let output = "";
      void programs.start(
        {
          ...request,
          stdout: (chunk) => {
            output += Buffer.from(chunk);
          },
          exit: () => resolve(output),
        },
        scope(),
      );
    });

  expect(await outputOf({ cmd: "cat", stdin: Buffer.from("héllo") })).toBe("héllo");
  expect(await outputOf({ cmd: "head", args: ["-n", "2"], stdin: produce() })).toBe("line\nline\n");
  await vi.waitFor(() => expect(returned).toBe(true));
});

test("only what was started here can be ended, by the names of signals", async () => {
  const { programs } = open();
  const { promise: exit, resolve: exited } = deferred<number>();
  const { pid } = await programs.start({ cmd: "sleep", args: ["60"], exit: exited }, scope());

  expect(() => programs.kill({ pid: process.pid })).toThrow(/pid \d+ not found/);
  expect(() => programs.kill({ pid, signal: "SIGNONSENSE" })).toThrow(/SIGNONSENSE/);
  programs.kill({ pid, signal: "SIGINT" });

  expect(await exit).toBe(130);
});

test("a program, folder or right that is missing is named", async () => {
  const { programs } = open();

  await expect(programs.start({ cmd: "no-such-program" }, scope())).rejects.toMatchObject({ code: "not_found", reason: "ProcessError" });
  await expect(programs.start({ cmd: "/etc/passwd" }, scope())).rejects.toMatchObject({
    code: "permission_denied",
    reason: "ProcessError",
  });
  await expect(programs.start({ cmd: "ls", workDir: "/no/such" }, scope())).rejects.toMatchObject({
    code: "not_found",
    message: expect.stringContaining("/no/such"),
  });
});

function open(): { programs: Programs; home: string } {
  const home = mkdtempSync(`${tmpdir()}/exec-`);
  const programs = new Programs({ user: machineUser({ HOME: home, PATH: "/usr/bin:/bin" }), graceMs: 200 });
  onTestFinished(async () => {
    await programs.close();
    rmSync(home, { recursive: true });
  });
  return { programs, home };
}

function scope(signal = new AbortController().signal, closed = new AbortController().signal) {
  return { signal, closed };
}

function deferred<T = unknown>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
