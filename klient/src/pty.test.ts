import { expect, test, vi } from "vitest";
import { isRunning } from "./process-session.ts";
import { Pty, type PtyExit } from "./pty.ts";
import { loadPtyModule, PTY_MODULES, type PtyModuleName } from "./pty-module.ts";

const available = PTY_MODULES.filter((name) => {
  try {
    return loadPtyModule([name]).name === name;
  } catch {
    return false;
  }
});

test("a terminal library loads here", () => {
  expect(available).not.toEqual([]);
});

for (const name of available) {
  test(`${name}: 200 short commands lose no byte`, { timeout: 60_000 }, async () => {
    const expected = `${Array.from({ length: 2000 }, (_, index) => `${index + 1}\r\n`).join("")}END\r\n`;

    let complete = 0;
    for (let round = 0; round < 20; round++) {
      const outputs = await Promise.all(Array.from({ length: 10 }, () => run(name, "seq 1 2000; echo END")));
      complete += outputs.filter(({ output }) => output === expected).length;
    }

    expect(complete).toBe(200);
  });

  test(`${name}: what a slow reader left in the terminal arrives after the program's exit`, async () => {
    const program = start(name, "printf %01000d 7");

    program.pty.pause();
    await vi.waitFor(() => expect(isRunning(program.pty.pid)).toBe(false));
    program.pty.resume();

    await program.exit;
    expect(program.output()).toHaveLength(1000);
  });

  test(`${name}: a full terminal, and a process that goes on printing, do not hide the end of the output`, async () => {
    const noise = "trap '' HUP; while echo noise; do :; done 2>/dev/null &";
    const program = start(name, `seq 1 20000; echo END; ${noise}`);

    program.pty.pause();
    await new Promise(setImmediate);
    program.pty.resume();
    await program.exit;

    // Cut anywhere: it goes on for as long as there is a terminal.
    expect(program.output()).toMatch(/\n19999\r\n20000\r\nEND\r\n[noise\r\n]*$/);
  });

  test(`${name}: exit status, signal and size are reported`, async () => {
    expect((await run(name, "exit 7")).exit).toEqual({ exitCode: 7, signal: 0 });
    expect((await run(name, "kill -9 $$")).exit.signal).toBe(9);
    expect((await run(name, "stty size")).output).toBe("24 80\r\n");
  });

  test(`${name}: input reaches the program, and input that it never reads is refused at a bound`, async () => {
    const program = start(name, "read line; echo got $line; exec sleep 60");

    expect(program.pty.write(Buffer.from("héllo\n"))).toBe(true);
    await vi.waitFor(() => expect(program.output()).toContain("got héllo"));
    const accepted = [1, 2, 3, 4].map(() => program.pty.write(Buffer.alloc(512 * 1024, "x\n")));
    process.kill(program.pty.pid, "SIGKILL");

    expect(accepted).toContain(false);
    expect((await program.exit).signal).toBe(9);
  });
}

function start(name: PtyModuleName, script: string): { pty: Pty; output: () => string; exit: Promise<PtyExit> } {
  const { module } = loadPtyModule([name]);
  const chunks: Buffer[] = [];
  let exited: (exit: PtyExit) => void = () => {};
  const exit = new Promise<PtyExit>((resolve) => {
    exited = resolve;
  });
  const pty = new Pty({
    module,
    file: "/bin/sh",
    args: ["-c", script],
    cwd: "/",
    env: { PATH: "/usr/bin:/bin", LANG: "C.UTF-8" },
    cols: 80,
    rows: 24,
    onData: (chunk) => void chunks.push(chunk),
    onExit: (status) => exited(status),
  });
  return { pty, output: () => Buffer.concat(chunks).toString(), exit };
}

async function run(name: PtyModuleName, script: string): Promise<{ output: string; exit: PtyExit }> {
  const program = start(name, script);
  const exit = await program.exit;
  return { output: program.output(), exit };
}
