import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { isRunning } from "./process-session.ts";
import { PtyHostClient } from "./pty-host-client.ts";
import { PTY_HOST_PROGRAM } from "./pty-host-process.ts";

test("the first terminal starts the host; shutdown leaves no process and no socket, not even of a program that ignores hang-ups", async () => {
  const { client, folder } = start();
  const [first, second] = await Promise.all([open(client), open(client)]);
  const pids = [
    await first.pidOf("nohup sleep 300 & echo pid $!"),
    await first.pidOf("echo pid $PPID"),
    await second.pidOf("trap '' HUP TERM; echo pid $$"),
  ];
  const hosts = new Set([await first.pidOf("echo pid $PPID"), await second.pidOf("echo pid $PPID")]);

  await client.shutdown();

  expect(hosts.size).toBe(1);
  await vi.waitFor(() => expect(pids.filter(isRunning)).toEqual([]));
  expect(readdirSync(folder)).toEqual(["pty-host.log"]);
});

test("when the host is killed its viewers are told, its shells end, and the next terminal starts another", async () => {
  const { client } = start();
  const [first, second] = [await open(client), await open(client)];
  const [shell, other, host] = [await first.pidOf("echo pid $$"), await second.pidOf("echo pid $$"), await first.pidOf("echo pid $PPID")];

  process.kill(host, "SIGKILL");

  await vi.waitFor(() => expect([first.ended(), second.ended()]).toEqual([true, true]));
  await vi.waitFor(() => expect([shell, other].filter(isRunning)).toEqual([]));
  const next = await open(client);
  expect(await next.pidOf("echo pid $PPID")).not.toBe(host);
});

test("a host that cannot start is reported, with the place to look", async () => {
  const { folder } = start();
  const client = new PtyHostClient({ folder, program: join(folder, "missing.js"), env: {} });

  await expect(open(client)).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining("pty-host.log") });
});

function start(): { client: PtyHostClient; folder: string } {
  const folder = mkdtempSync(join(tmpdir(), "pty-host-"));
  const client = new PtyHostClient({ folder, program: PTY_HOST_PROGRAM, env: {} });
  onTestFinished(async () => {
    await client.shutdown();
    client.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { client, folder };
}

async function open(client: PtyHostClient) {
  let [output, ended] = ["", false];
  const { viewer } = await client.attach(
    {
      mode: "create",
      cols: 80,
      rows: 24,
      by: { user: "alice", isOwner: true },
      canType: true,
      shell: { file: "/bin/sh", args: [], cwd: "/", env: { PATH: "/usr/bin:/bin", PS1: "" } },
    },
    {
      output: (data) => {
        output += data.toString();
      },
      ended: () => {
        ended = true;
      },
    },
  );
  return {
    ended: () => ended,
    pidOf: async (command: string): Promise<number> => {
      const from = output.length;
      client.type(viewer, Buffer.from(`${command}\r`));
      return vi.waitFor(() => {
        const found = /pid (\d+)\r\n/.exec(output.slice(from));
        expect(found).not.toBeNull();
        return Number(found?.[1]);
      });
    },
  };
}
