import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { bundleKlient } from "./bundle.ts";
import { isRunning } from "./src/process-session.ts";
import { startTestKontrol } from "./src/test-kontrol.ts";

test("a bundle in a folder of its own joins, registers and opens terminals; SIGTERM ends everything", { timeout: 30_000 }, async () => {
  await using machine = await startMachine();
  const klient = machine.start({ KITE_JOIN_TOKEN: machine.kontrol.joinToken, SECRET_SAUCE: "for programs", NODE_NO_WARNINGS: "1" });
  const terminal = await machine.openTerminal({ session: "work" });

  const shell = await terminal.pidOf("echo pid $$");
  await terminal.type("echo $TERM $SECRET_SAUCE [$KITE_JOIN_TOKEN] [$NODE_NO_WARNINGS] $(stty size)\r");
  await terminal.seen(/xterm-256color for programs \[\] \[\] 24 80/);
  const host = await terminal.pidOf("echo pid $PPID");
  expect(statSync(join(machine.home, ".kite/kite.key")).mode & 0o777).toBe(0o400);
  expect(statSync(join(machine.home, ".kite/klient")).mode & 0o777).toBe(0o700);
  klient.kill("SIGTERM");

  expect(await exitOf(klient)).toBe(0);
  expect([shell, host].filter(isRunning)).toEqual([]);
  expect(readdirSync(join(machine.home, ".kite/klient"))).toEqual(["pty-host.log"]);
  expect(machine.log()).toMatch(/joined the mesh.*registered.*klient ends/s);
  expect(machine.log()).not.toMatch(new RegExp(`eyJ|${machine.kontrol.joinToken}`));
});

test("terminals outlive a klient that is killed, and the next one needs no token", { timeout: 30_000 }, async () => {
  await using machine = await startMachine();
  const first = machine.start({ KITE_JOIN_TOKEN: machine.kontrol.joinToken });
  const before = await machine.openTerminal({ session: "work" });
  await before.type("X=kept; echo be''fore\r");
  await before.seen(/before\r\n/);
  const shell = await before.pidOf("echo pid $$");

  first.kill("SIGKILL");
  await exitOf(first);
  expect(isRunning(shell)).toBe(true);
  const second = machine.start({});
  await vi.waitFor(() => expect(machine.kontrol.registered()).toHaveLength(2));
  const after = await machine.openTerminal({ session: "work", mode: "resume" });

  await after.seen(/before\r\n/);
  await after.type("echo $X $$\r");
  await after.seen(new RegExp(`kept ${shell}\r\n`));
  expect(machine.kontrol.joined()).toBe(1);
  second.kill("SIGTERM");
  await exitOf(second);
  expect(isRunning(shell)).toBe(false);
});

test("SIGHUP ends klient alone; SIGTERM before it could register ends what was left", { timeout: 30_000 }, async () => {
  const machine = await startMachine();
  const first = machine.start({ KITE_JOIN_TOKEN: machine.kontrol.joinToken });
  const terminal = await machine.openTerminal({ session: "work" });
  const shell = await terminal.pidOf("echo pid $$");
  first.kill("SIGHUP");
  expect(await exitOf(first)).toBe(0);
  expect(isRunning(shell)).toBe(true);

  await machine.kontrol[Symbol.asyncDispose]();
  const second = machine.start({});
  await vi.waitFor(() => expect(machine.log().match(/klient starts/g)).toHaveLength(2));
  second.kill("SIGTERM");

  expect(await exitOf(second)).toBe(0);
  expect(isRunning(shell)).toBe(false);
  await machine[Symbol.asyncDispose]();
});

test.each([
  ["without a home", { KITE_HOME: "" }, "KITE_HOME is not set"],
  ["without a machine name", { KITE_MACHINE: "" }, "KITE_MACHINE is not set"],
  ["without key and token", {}, "without KITE_JOIN_TOKEN none can be obtained"],
  ["with a home that cannot be made", { KITE_HOME: "/dev/null/home" }, "KITE_HOME (/dev/null/home) cannot be written"],
  ["with a token that is not good", { KITE_JOIN_TOKEN: "wrong" }, "the join token is unknown or was used"],
])("klient %s says so and ends with 1", async (_, env, sentence) => {
  await using machine = await startMachine();

  const klient = machine.start(env);

  expect(await exitOf(klient)).toBe(1);
  expect(machine.log()).toContain(sentence);
});

test("bundling again leaves files alone that would not change", async () => {
  const outDir = mkdtempSync(join(tmpdir(), "klient-bundle-"));
  onTestFinished(() => rmSync(outDir, { recursive: true }));
  const { main } = await bundleKlient({ outDir });
  const { ino } = statSync(main);

  await bundleKlient({ outDir });

  expect(statSync(main).ino).toBe(ino);
  expect(readdirSync(outDir).sort()).toEqual(["main.mjs", "pty-host.mjs"]);
});

async function startMachine() {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "klient-home-")));
  const kontrol = await startTestKontrol();
  const { main } = await bundleKlient({ outDir: join(home, "bundle") });
  const children: ChildProcess[] = [];
  let log = "";

  const start = (env: Record<string, string>): ChildProcess => {
    const settings = {
      KITE_HOME: join(home, ".kite"),
      KITE_MACHINE: "hello",
      KITE_KONTROL_URL: kontrol.url,
      HOME: home,
      PATH: "/usr/bin:/bin",
    };
    const child = spawn(process.execPath, [main], { cwd: "/", env: { ...settings, ...env }, stdio: ["ignore", "ignore", "pipe"] });
    child.stderr?.on("data", (chunk) => {
      log += chunk;
    });
    children.push(child);
    return child;
  };
  const openTerminal = async (request: { session: string; mode?: "resume" }) => {
    await vi.waitFor(() => expect(kontrol.registered().length, log).toBeGreaterThan(0));
    let output = "";
    const remote = {
      output: (data: Uint8Array | string) => {
        output += Buffer.from(data as Uint8Array);
      },
      sessionEnded: () => {},
    };
    const session = await kontrol.connect().webterm.connect({ ...request, sizeX: 80, sizeY: 24, remote });
    const seen = (pattern: RegExp) => vi.waitFor(() => expect(output).toMatch(pattern));
    const type = async (text: string) => void (await session.input(text));
    const pidOf = async (command: string) => {
      const from = output.length;
      await type(`${command}\r`);
      return vi.waitFor(() => {
        const found = /pid (\d+)\r\n/.exec(output.slice(from));
        expect(found).not.toBeNull();
        return Number(found?.[1]);
      });
    };
    return { seen, type, pidOf };
  };
  const dispose = async () => {
    for (const child of children) child.kill("SIGTERM");
    await Promise.all(children.map(exitOf));
    await kontrol[Symbol.asyncDispose]();
    rmSync(home, { recursive: true, force: true });
  };
  return { home, kontrol, start, openTerminal, log: () => log, [Symbol.asyncDispose]: dispose };
}

/** Its status, once what it logged was read too: that comes at times after "exit". */
async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.stderr?.closed === false || (child.exitCode === null && child.signalCode === null)) await once(child, "close");
  return child.exitCode;
}
