import { once } from "node:events";
import type { WatchEvent } from "@kite-mesh/kite";
import { testIdentity } from "@kite-mesh/kite/testing";
import { expect, onTestFinished, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolOptions } from "../kontrol.ts";
import { startTestKontrol } from "../testing.ts";
import { startBusyProcess } from "./test-busy-process.ts";

// Real processes, which take seconds to start where others run beside them.
vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000, interval: 50 };
const databaseUrl = await freshDatabase();

test("a kite that blocks its event loop for longer than two beats stays, and why says for how long", async () => {
  await using mesh = await startMesh({ heartbeatMs: 1_000 });
  const busy = await mesh.start("blocks");
  const seen = mesh.watch();
  await vi.waitFor(async () => expect((await mesh.why("blocks")).beat).toHaveProperty("blockedMs", 0), LONG);

  busy.block(6_000);
  const reason = /^it registered, and its session is open; last beat \d.* ago; its event loop has been blocked for [3-6]\.\d s$/;
  await vi.waitFor(async () => expect((await mesh.why("blocks")).reason).toMatch(reason), LONG);
  await busy.says("awake");

  await vi.waitFor(async () => expect((await mesh.why("blocks")).beat).toMatchObject({ blockedMs: 0 }), LONG);
  expect(seen.map(({ type }) => type)).toEqual(["snapshot"]);
});

test("a kite whose process is killed leaves at once, and why says that its session closed", async () => {
  await using mesh = await startMesh();
  const busy = await mesh.start("killed");

  busy.process.kill("SIGKILL");

  await vi.waitFor(async () => expect(await mesh.why("killed")).toMatchObject({ state: "gone", reason: "its session closed" }), LONG);
});

test("a kite whose process is stopped leaves after two beats, and is back when it goes on", async () => {
  await using mesh = await startMesh({ heartbeatMs: 1_000 });
  const busy = await mesh.start("stopped");
  await vi.waitFor(async () => expect((await mesh.why("stopped")).beat).toHaveProperty("lagMs"), LONG);

  busy.process.kill("SIGSTOP");
  await vi.waitFor(async () => expect(await mesh.why("stopped")).toMatchObject({ state: "gone", reason: "it missed 2 heartbeats" }), LONG);
  busy.process.kill("SIGCONT");

  await vi.waitFor(async () => expect(await mesh.why("stopped")).toMatchObject({ state: "present" }), LONG);
});

test("a kite whose event loop is blocked for too long counts as dead, and why says so", async () => {
  await using mesh = await startMesh({ heartbeatMs: 1_000, hungMs: 2_500 });
  const busy = await mesh.start("hangs");

  busy.block(5_000);
  const reason = expect.stringMatching(/^its event loop was blocked for [2-5]\.\d s, so it could not answer$/);
  await vi.waitFor(async () => expect(await mesh.why("hangs")).toMatchObject({ state: "gone", reason }), LONG);
  await busy.says("awake");

  await vi.waitFor(async () => expect(await mesh.why("hangs")).toMatchObject({ state: "present" }), LONG);
});

test("beats over their socket keep a kite, say how its event loop is, and end with its session", async () => {
  await using mesh = await startMesh({ heartbeatMs: 400 });
  const { ticket, leave } = await mesh.register("by-hand");
  const socket = mesh.dial("by-hand", ticket);
  await once(socket, "open");

  const beating = setInterval(() => socket.send("[0,120]"), 200);
  onTestFinished(() => clearInterval(beating));
  await once(socket, "message");
  await vi.waitFor(async () => expect((await mesh.why("by-hand")).beat).toMatchObject({ blockedMs: 0, lagMs: 120 }), LONG);
  const closed = once(socket, "close");
  await leave();

  expect((await closed)[0]).toBe(4404);
  await vi.waitFor(async () => expect(await mesh.why("by-hand")).toMatchObject({ state: "gone", reason: "its session closed" }), LONG);
});

test("a ticket that is forged, of another kite or of an earlier registration opens nothing, and beats for nobody", async () => {
  await using mesh = await startMesh();
  const [first, other] = [await mesh.register("mine"), await mesh.register("other")];
  const socket = mesh.dial("mine", first.ticket);
  await once(socket, "open");
  const replaced = once(socket, "close");
  await mesh.register("mine");

  expect((await replaced)[0]).toBe(4404);
  for (const ticket of [first.ticket, other.ticket, "forged", ""]) expect(await refusal(mesh.dial("mine", ticket))).toBe(401);
  expect(await refusal(mesh.dial("nobody", first.ticket))).toBe(401);
  expect((await mesh.why("mine")).beat).not.toHaveProperty("lagMs");
});

test("who beats far too often, or sends something else, loses the socket, and nobody else notices", async () => {
  await using mesh = await startMesh();
  const { ticket } = await mesh.register("floods");
  const polite = await mesh.register("polite");
  const sockets = [mesh.dial("floods", ticket), mesh.dial("polite", polite.ticket)] as const;
  await Promise.all(sockets.map((socket) => once(socket, "open")));
  const closed = once(sockets[0], "close");
  let answers = 0;
  sockets[0].on("message", () => answers++);

  for (let n = 0; n < 1_000; n++) sockets[0].send("[0,0]");

  expect((await closed)[0]).toBe(4002);
  expect(answers).toBeLessThan(10);
  expect(await refusal(mesh.dial("floods", ticket))).toBe(429);
  sockets[1].send("[0,1]");
  expect(String((await once(sockets[1], "message"))[0])).toBe("[]");
  sockets[1].send("[0,1,2]");
  expect((await once(sockets[1], "close"))[0]).toBe(4001);
  expect(await mesh.why("polite")).toMatchObject({ state: "present" });
});

test("a newer socket takes the place of the one before it", async () => {
  await using mesh = await startMesh();
  const { ticket } = await mesh.register("twice");
  const first = mesh.dial("twice", ticket);
  await once(first, "open");
  const closed = once(first, "close");

  const second = mesh.dial("twice", ticket);
  await once(second, "open");

  expect((await closed)[0]).toBe(4004);
  second.send("[0,7]");
  await once(second, "message");
  expect((await mesh.why("twice")).beat).toMatchObject({ lagMs: 7 });
});

async function startMesh(options: Partial<KontrolOptions> = {}) {
  const mesh = await startTestKontrol(databaseUrl, options);
  const alice = await mesh.person("alice");
  const url = mesh.kontrol.url;
  return {
    start: (id: string) => startBusyProcess({ id, kiteKey: alice.kiteKey, kontrolUrl: url }),
    async why(id: string) {
      const answer = await alice.kontrol.why({ id });
      if (!answer.found) throw new Error(`nobody knows ${id}`);
      return answer;
    },
    watch() {
      const seen: WatchEvent[] = [];
      const watcher = alice.kite({ name: "watcher" });
      void (async () => {
        for await (const event of watcher.watch({ name: "busy" })) seen.push(event);
      })();
      return seen;
    },
    /** A registration in a session of its own, by hand. */
    async register(id: string) {
      const session = mesh.closing(alice.kite({ name: "test" }));
      const registered = await session.kontrol().register({ kite: testIdentity({ name: "by-hand", id }), url: "ws://127.0.0.1:1" });
      return { ticket: registered.ticket ?? "", leave: () => session.close() };
    },
    dial(id: string, ticket: string) {
      const socket = new WebSocket(`${url.replace("http", "ws")}/beats/${id}`, ["kite.beats", ...(ticket && [`kite.ticket.${ticket}`])]);
      socket.on("error", () => {}); // what is refused says so in its answer
      onTestFinished(() => socket.terminate());
      return socket;
    },
    [Symbol.asyncDispose]: () => mesh[Symbol.asyncDispose](),
  };
}

async function refusal(socket: WebSocket): Promise<number | undefined> {
  const [, response] = await once(socket, "unexpected-response");
  return response.statusCode;
}
