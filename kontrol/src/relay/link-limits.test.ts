import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../../test/postgres.ts";
import { Directory } from "../directory/directory.ts";
import { silent, startTestKontrol, type TestKontrol, type TestPerson } from "../testing.ts";
import { Forwarder } from "./forwarding.ts";

// How many links there may be, and which of them live.

vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000, interval: 50 };
const PER_CALLER = 64;
const PER_KITE = 256;
let mesh: TestKontrol;
let alice: TestPerson;

beforeAll(async () => {
  mesh = await startTestKontrol(await freshDatabase());
  alice = await mesh.person("alice");
});
afterAll(() => mesh[Symbol.asyncDispose]());

test("a kite has so many links and no more, whoever they are of, and another kite has room", async () => {
  const callers = await Promise.all(["bob", "carol", "dora", "emil", "fred"].map((username) => mesh.person(username)));
  for (const { username } of callers) await alice.kontrol.grants.add({ username, role: "viewer", query: {} });
  const [popular, other] = [await silentKite("popular"), await silentKite("other")];
  const last = callers.pop() as TestPerson;
  for (const caller of callers) {
    const token = await tokenFor(caller, popular.id);
    for (let link = 0; link < PER_CALLER; link++) dial(popular.url, token);
  }
  await vi.waitFor(() => expect(popular.links()).toBe(PER_KITE), LONG);

  const [refusal] = (await once(dial(popular.url, await tokenFor(last, popular.id)), "message")) as [Buffer];

  expect(JSON.parse(refusal.toString())).toMatchObject({
    refused: { code: "overloaded", message: `${PER_KITE} callers are linked to popular; try again in a moment` },
  });
  dial(other.url, await tokenFor(last, other.id));
  await vi.waitFor(() => expect(other.links()).toBe(1), LONG);
});

test("a caller whose machine lost its power is noticed, and takes no place; one that answers stays", async () => {
  // Asked often enough for a test, and seldom enough for a busy machine to answer.
  await using asking = await startTestKontrol(await freshDatabase(), { relayLimits: { pingMs: 3_000 } });
  const owner = await asking.person("alice");
  const kite = await silentKite("asked", asking, owner);
  const token = await tokenFor(owner, kite.id);
  const [dead, alive] = [dial(kite.url, token, { autoPong: false }), dial(kite.url, token)];
  const closed = once(dead, "close");
  await vi.waitFor(() => expect(kite.links()).toBe(2), LONG);

  await closed;

  await vi.waitFor(() => expect(kite.ended()).toBe(1), LONG);
  expect(alive.readyState).toBe(WebSocket.OPEN);
});

test("a replica passes on so many links and no more, and has room again when one has ended", () => {
  const forwarder = new Forwarder({
    directory: new Directory({ revocationsMs: 1 }),
    replicas: { find: async () => undefined },
    holder: "here",
    holds: () => false,
    fresh: async () => false,
    // None is answered yet.
    admits: () => new Promise(() => {}),
    logger: silent,
  });
  const upgrade = forwarder.around(() => expect.unreachable("it is for a kite of another replica"));
  const ask = () => {
    const socket = new Said();
    upgrade({ url: "/relay/elsewhere", headers: {}, rawHeaders: [] } as unknown as IncomingMessage, socket, Buffer.alloc(0));
    return socket;
  };

  const passedOn = Array.from({ length: 4_096 }, ask);

  expect(passedOn.filter(({ said }) => said !== "")).toEqual([]);
  expect(ask().said).toMatch(/^HTTP\/1\.1 503 [\s\S]*this kontrol passes on as many links as it can; try again in a moment/);
  passedOn[0]?.emit("close");
  expect(ask().said).toBe("");
  forwarder.close();
});

/** What was written to a caller's socket. */
class Said extends Duplex {
  said = "";
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.said += chunk.toString();
    done();
  }
}

/** A kite behind the relay that takes links and says nothing. */
async function silentKite(name: string, at = mesh, owner = alice) {
  const id = `${name}-kite`;
  const caller = at.closing(owner.kite()).kontrol();
  let links = 0;
  let ended = 0;
  const kite = { username: "alice", environment: "test", name, version: "1.0.0", region: "here", hostname: "h", id };
  const { url } = await caller.register({
    kite,
    onLink: ({ incoming }) => {
      links++;
      void (async () => {
        for await (const _ of incoming);
        ended++;
      })().catch(() => {});
      return nothing();
    },
  });
  return { id, url, links: () => links, ended: () => ended };
}

async function* nothing(): AsyncGenerator<string, void, undefined> {
  await new Promise<void>(() => {});
}

async function tokenFor(caller: TestPerson, id: string): Promise<string> {
  return (await caller.kontrol.getToken({ query: { id } })).token;
}

function dial(url: string, token: string, options: { autoPong?: boolean } = {}): WebSocket {
  const socket = new WebSocket(url.replace("http", "ws"), ["kite.v1", `kite.token.${token}`], options);
  socket.on("error", () => {});
  mesh.closing({ [Symbol.asyncDispose]: async () => socket.terminate() });
  return socket;
}
