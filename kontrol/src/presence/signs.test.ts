import type { Kite, WatchEvent } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { openTestWire, silent, startTestKontrol } from "../testing.ts";
import { Pulse } from "./pulse.ts";
import { SessionSigns } from "./signs.ts";
import { startBusyProcess } from "./test-busy-process.ts";

// Real connections that a wire in between lets go half open: neither side hears of it.

vi.setConfig({ testTimeout: 90_000 });
const LONG = { timeout: 60_000, interval: 50 };
const BEATS = /^\/beats\//;
const SESSIONS = /^(?!\/beats\/)/;
const TURNS = { blockedMs: 0, lagMs: 3 };
const databaseUrl = await freshDatabase();

test("a kite whose session is cut while its thread beats dials it again, and nobody sees it go", async () => {
  await using mesh = await startCutMesh();
  const kite = await mesh.beating("cut");
  const [session] = mesh.sessionsOf(kite);
  const seen = mesh.watch("cut");

  mesh.wire.freeze({ path: SESSIONS, toCome: false });

  await vi.waitFor(() => expect(mesh.said).toContain("a kite beats, and its session answers nothing"), LONG);
  await vi.waitFor(
    async () => expect((await mesh.why(kite)).reason).toMatch(/^it registered, and its session is open; last beat [\d.]+ s ago$/),
    LONG,
  );
  expect(await kite.kontrol<KontrolContract>().whoami()).toMatchObject({ username: "alice" });
  expect(mesh.sessionsOf(kite)).toEqual([session]);
  expect(seen.map(({ type }) => type)).toEqual(["snapshot"]);
});

test("a kite whose session is cut and cannot be dialled again leaves although its thread beats, before the session would notice", async () => {
  await using mesh = await startCutMesh();
  const kite = await mesh.beating("away");

  mesh.wire.freeze({ path: SESSIONS });

  await vi.waitFor(async () => expect(await mesh.why(kite)).toMatchObject({ state: "gone", reason: "it missed 2 heartbeats" }), LONG);
});

test("a kite whose thread is cut alone stays: its session beats", async () => {
  await using mesh = await startCutMesh();
  const kite = await mesh.beating("threadless");
  const seen = mesh.watch("threadless");

  mesh.wire.freeze({ path: BEATS });

  await vi.waitFor(async () => expect((await mesh.why(kite)).beat).not.toHaveProperty("lagMs"), LONG);
  expect(seen.map(({ type }) => type)).toEqual(["snapshot"]);
});

test("a process that is blocked does not answer in its session either, and stays", async () => {
  await using mesh = await startCutMesh();
  const busy = await startBusyProcess({ id: "busy", kiteKey: mesh.alice.kiteKey, kontrolUrl: mesh.kontrol.url });
  const seen = mesh.watch("busy");
  const why = async () => (await mesh.alice.kontrol.why({ id: "busy" })) as { beat?: object };
  await vi.waitFor(async () => expect((await why()).beat).toHaveProperty("blockedMs", 0), LONG);

  busy.block(10_000);
  await vi.waitFor(async () => expect(((await why()).beat as { blockedMs: number }).blockedMs).toBeGreaterThan(5_000), LONG);
  await busy.says("awake");

  await vi.waitFor(async () => expect((await why()).beat).toHaveProperty("blockedMs", 0), LONG);
  expect(seen.map(({ type }) => type)).toEqual(["snapshot"]);
});

test("beats of a loop that turns are not believed while the session is silent; of one that stood still they are", () => {
  const signs = new SessionSigns({ heartbeatMs: 10_000, logger: silent });
  const pulse = new Pulse(10_000, 0);
  pulse.sign = "silent";

  expect(signs.believes({ pulse }, TURNS)).toBe(false);
  expect(signs.believes({ pulse }, { blockedMs: 0, lagMs: 2_600 })).toBe(true);
  expect(signs.believes({ pulse }, TURNS)).toBe(true);
});

test("no more than a thousand sessions are asked in a second, none twice at a time, and none of a process that is blocked", () => {
  const signs = new SessionSigns({ heartbeatMs: 10_000, logger: silent });
  const call = vi.fn(() => new Promise<never>(() => {}));
  const held = () => ({ session: { state: "open", call }, pulse: new Pulse(10_000, 0), record: { kite: {} } }) as never;
  const first = held();

  signs.ask(held(), { blockedMs: 4_000, lagMs: 4_000 });
  for (let twice = 0; twice < 2; twice++) signs.ask(first, TURNS);
  expect(call).toHaveBeenCalledTimes(1);
  for (let many = 0; many < 3_000; many++) signs.ask(held(), TURNS);

  expect(call.mock.calls.length).toBeLessThan(2_000);
});

async function startCutMesh() {
  const said: string[] = [];
  const log = { ...silent, info: (_: unknown, sentence?: string) => void said.push(sentence ?? "") };
  const mesh = await startTestKontrol(databaseUrl, { heartbeatMs: 2_000, log });
  const alice = await mesh.person("alice");
  const wire = await openTestWire(mesh.kontrol.url);
  const why = async ({ identity: { id } }: Kite) => {
    const answer = await alice.kontrol.why({ id });
    if (!answer.found) throw new Error(`nobody knows ${id}`);
    return answer;
  };
  return {
    kontrol: mesh.kontrol,
    alice,
    wire,
    said,
    why,
    /** A kite that beats from its thread, over the wire. */
    async beating(id: string) {
      const kite = alice.kite({ name: id, id, kontrolUrl: wire.url });
      await kite.listen();
      await kite.register();
      await vi.waitFor(async () => expect((await why(kite)).beat).toHaveProperty("lagMs"), LONG);
      return kite;
    },
    sessionsOf: ({ identity: { id } }: Kite) =>
      [...mesh.kontrol.kite.sessions].filter(({ caller }) => caller.kite?.id === id).map((session) => session.id),
    watch(id: string) {
      const seen: WatchEvent[] = [];
      const watcher = alice.kite({ name: "watcher" });
      void (async () => {
        for await (const event of watcher.watch({ id })) seen.push(event);
      })();
      return seen;
    },
    async [Symbol.asyncDispose]() {
      await wire[Symbol.asyncDispose]();
      await mesh[Symbol.asyncDispose]();
    },
  };
}
