import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { PtyHost } from "./pty-host.ts";
import { PtyHostClient } from "./pty-host-client.ts";
import { PTY_HOST_PROGRAM } from "./pty-host-process.ts";
import { loadPtyModule } from "./pty-module.ts";
import { type AttachRequest, PTY_HOST_SOCKET } from "./pty-protocol.ts";

// Two seconds of work on a core of its own; others have been seen to leave a tenth of one.
const MEGABYTES_MS = 60_000;

test("two viewers see the same output; the one who comes later first sees the screen", async () => {
  const { client } = await startHost();
  const first = await view(client, { session: "work" });
  await first.type("echo o''ne\r");
  await first.seen(/one\r\n/);

  const second = await view(client, { session: "work", mode: "shared" });
  await second.seen(/one\r\n/);
  await second.type("echo t''wo\r");

  await Promise.all([first.seen(/two\r\n/), second.seen(/two\r\n/)]);
});

test("opening a session elsewhere ends one's own viewer, never somebody else's", async () => {
  const { client } = await startHost();
  const mine = await view(client, { session: "work" });
  const theirs = await view(client, { session: "work", mode: "shared", by: { user: "bob", isOwner: false } });

  await view(client, { session: "work", mode: "resume" });

  await vi.waitFor(() => expect(mine.ended()).toBe(true));
  await mine.seen(/opened elsewhere/);
  expect(theirs.ended()).toBe(false);
});

test("a session ends with its program, after the last output", async () => {
  const { client } = await startHost();
  const viewer = await view(client, { session: "work" });

  await viewer.type("seq 1 3000; echo b''ye; exit\r");

  await vi.waitFor(() => expect(viewer.ended()).toBe(true));
  expect(viewer.output()).toMatch(/2999\r\n3000\r\nbye\r\n$/);
  expect(await client.list()).toEqual([]);
});

test("a viewer who only looks cannot type, resize, end or make a session", async () => {
  const { client } = await startHost();
  const typist = await view(client, { session: "work" });
  const onlooker = await view(client, { session: "work", canType: false, cols: 20, rows: 5, by: { user: "bob", isOwner: false } });

  await onlooker.type("echo in''truder\r");
  client.resize(onlooker.number, 30, 7);
  client.terminate(onlooker.number);
  await typist.type("stty size\r");

  await onlooker.seen(/24 80\r\n/);
  expect(typist.output()).not.toContain("intruder");
  await expect(view(client, { session: "new", canType: false })).rejects.toMatchObject({ code: "permission_denied" });
});

test("the last viewer who sets the size wins, also by joining", async () => {
  const { client } = await startHost();
  const first = await view(client, { session: "work" });

  await view(client, { session: "work", mode: "shared", cols: 100, rows: 30 });
  await first.type("stty size\r");
  await first.seen(/30 100\r\n/);

  client.resize(first.number, 90, 20);
  await first.type("stty size\r");
  await first.seen(/20 90\r\n/);
});

test("a viewer that takes nothing neither stalls the program nor the others, and gets the final screen when it wakes up", {
  timeout: 2 * MEGABYTES_MS,
}, async () => {
  const { client } = await startHost();
  const [stuck, awake] = [await view(client, { session: "work", asleep: true }), await view(client, { session: "work", mode: "shared" })];

  await awake.type("seq 1 600000; echo f''in\r");
  await awake.seen(/fin\r\n/, MEGABYTES_MS);
  const whileAsleep = stuck.output().length;
  stuck.wake();

  await stuck.seen(/600000\r\nfin\r\n/);
  expect(awake.output()).toContain("1\r\n2\r\n3\r\n");
  expect(whileAsleep).toBeLessThan(1_300_000);
  expect(stuck.output()).not.toContain("\r\n400000\r\n");
});

test("without a screen every byte waits for its viewer, and the program ends when the viewer leaves", {
  timeout: 2 * MEGABYTES_MS,
}, async () => {
  const { client } = await startHost();
  const viewer = await view(client, { mode: "noscreen", asleep: true });

  await viewer.type("seq 1 400000; echo f''in\r");
  await vi.waitFor(() => expect(viewer.output().length).toBeGreaterThan(1_000_000));
  viewer.wake();
  await viewer.seen(/399999\r\n400000\r\nfin\r\n/, MEGABYTES_MS);
  expect(viewer.output().match(/\d+\r\n/g)).toHaveLength(400_000);

  client.detach(viewer.number);
  await vi.waitFor(async () => expect(await client.list()).toEqual([]));
});

test("sessions are made, found, renamed and ended by those who may", async () => {
  const { client } = await startHost();
  const bob = { user: "bob", isOwner: false };
  await view(client, { session: "work" });

  await expect(view(client, { session: "other", mode: "resume" })).rejects.toMatchObject({ code: "not_found" });
  await expect(view(client, { session: "other", mode: "shared" })).rejects.toMatchObject({ code: "not_found" });
  await expect(client.kill({ session: "work", by: bob })).rejects.toMatchObject({ code: "permission_denied" });
  await expect(client.rename({ from: "work", to: "play", by: bob })).rejects.toMatchObject({ code: "permission_denied" });
  await view(client, { session: "busy" });
  await expect(client.rename({ from: "work", to: "busy", by: ALICE })).rejects.toMatchObject({ code: "already_exists" });

  await client.rename({ from: "work", to: "play", by: ALICE });
  expect(await client.list()).toEqual(["busy", "play"]);
  await client.kill({ session: "play", by: ALICE });
  expect(await client.list()).toEqual(["busy"]);
});

test("a user has at most 20 sessions, in whichever way they are made", async () => {
  const { client } = await startHost();
  for (let index = 0; index < 20; index++) await view(client, index % 2 === 0 ? {} : { mode: "noscreen" });

  await expect(view(client, {})).rejects.toMatchObject({ code: "limit_exceeded" });
  await expect(view(client, { mode: "noscreen" })).rejects.toMatchObject({ code: "limit_exceeded" });
  await view(client, { by: { user: "bob", isOwner: false } });
});

test("terminals outlive the client, and show the same screen to the next", async () => {
  const { client, folder } = await startHost();
  const before = await view(client, { session: "work" });
  await before.type("X=kept; printf '\\033[1;32mgreen\\n'\r");
  await before.seen(/green/);

  client.close();
  const next = new PtyHostClient({ folder, program: PTY_HOST_PROGRAM, env: {} });
  onTestFinished(() => next.close());
  const after = await view(next, { session: "work", mode: "resume" });

  await after.seen(/\[(1;32|32;1)mgreen/);
  await after.type("echo $X\r");
  await after.seen(/kept\r\n/);
});

test("the socket lies in the state folder, for its owner alone, however deep that is", async () => {
  const { client, folder } = await startHost({ below: "a-folder-with-a-long-name/".repeat(8) });

  expect(statSync(join(folder, PTY_HOST_SOCKET)).mode & 0o777).toBe(0o600);
  await (await view(client, {})).seen(/\$ /);
});

test("an idle host ends, and so does one whose folder is gone", async () => {
  const idle = await startHost({ idleMs: 50 });
  await vi.waitFor(() => expect(idle.why()).toBe("no terminals for a while"));

  // It must not have been idle before the terminal is there.
  const orphan = await startHost({ idleMs: 2_000 });
  await view(orphan.client, {});
  rmSync(orphan.folder, { recursive: true });
  await vi.waitFor(() => expect(orphan.why()).toContain("the state folder is gone"));
});

const ALICE = { user: "alice", isOwner: true };

async function startHost({ idleMs = 60_000, below = "" } = {}): Promise<{ client: PtyHostClient; folder: string; why: () => string }> {
  const root = mkdtempSync(join(tmpdir(), "pty-host-"));
  const folder = join(root, below);
  mkdirSync(folder, { recursive: true });
  let why = "";
  const { name, module } = loadPtyModule();
  const host = new PtyHost({
    folder,
    pty: { name, module },
    idleMs,
    onEnd: (reason) => {
      why = reason;
    },
  });
  await host.listen();
  const client = new PtyHostClient({ folder, program: PTY_HOST_PROGRAM, env: {} });
  onTestFinished(async () => {
    client.close();
    await host.close("the test is over");
    rmSync(root, { recursive: true, force: true });
  });
  return { client, folder, why: () => why };
}

interface TestViewer {
  number: number;
  output(): string;
  ended(): boolean;
  seen(pattern: RegExp, timeoutMs?: number): Promise<void>;
  type(text: string): Promise<void>;
  wake(): void;
}

async function view(client: PtyHostClient, request: Partial<AttachRequest> & { asleep?: boolean }): Promise<TestViewer> {
  const { asleep = false, ...rest } = request;
  const chunks: Buffer[] = [];
  let [awake, unacknowledged, ended] = [!asleep, 0, false];
  let attached: { viewer: number } | undefined;
  const acknowledge = () => {
    if (!awake || attached === undefined || unacknowledged === 0) return;
    client.acknowledge(attached.viewer, unacknowledged);
    unacknowledged = 0;
  };
  const sink = {
    output: (data: Buffer) => {
      chunks.push(Buffer.from(data));
      unacknowledged += data.length;
      setImmediate(acknowledge);
    },
    ended: () => {
      ended = true;
    },
  };
  const shell = { file: "/bin/sh", args: [], cwd: "/", env: { PATH: "/usr/bin:/bin", PS1: "$ " } };
  attached = await client.attach({ mode: "create", cols: 80, rows: 24, by: ALICE, canType: true, shell, ...rest }, sink);
  const number = attached.viewer;
  const output = () => Buffer.concat(chunks).toString();
  return {
    number,
    output,
    ended: () => ended,
    seen: (pattern, timeoutMs) => vi.waitFor(() => expect(endOf(chunks)).toMatch(pattern), timeoutMs),
    type: async (text) => client.type(number, Buffer.from(text)),
    wake: () => {
      awake = true;
      acknowledge();
    },
  };
}

/** The last hundred kilobytes or so: some tests print megabytes. */
function endOf(chunks: readonly Buffer[]): string {
  let [from, bytes] = [chunks.length, 0];
  while (from > 0 && bytes < 100_000) bytes += chunks[--from]?.length ?? 0;
  return Buffer.concat(chunks.slice(from)).toString();
}
