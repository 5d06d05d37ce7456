import { once } from "node:events";
import { method, type RelayLink, type Remote, RemoteStream } from "@kite-mesh/kite";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { startTestKontrol, type TestKontrol, type TestPerson, type WhoContract, whoMethods } from "../testing.ts";

const FRAME_BYTES = 64 * 1024;
const BUFFERED_BYTES = 256 * 1024;
const SETTLED = { timeout: 15_000 };
// 100 MB through two relays, where other tests have the cores.
vi.setConfig({ testTimeout: 120_000 });
const databaseUrl = await freshDatabase();
let mesh: TestKontrol;
/** A second replica: what comes to it for a kite of the first is passed on. */
let other: TestKontrol;
let alice: TestPerson;
let registrations = 0;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { relayLimits: { frameBytes: FRAME_BYTES, bufferedBytes: BUFFERED_BYTES } });
  other = await startTestKontrol(databaseUrl);
  alice = await mesh.person("alice");
});
afterAll(async () => {
  for (const kontrol of [other, mesh]) await kontrol[Symbol.asyncDispose]();
});
const DOORS: [string, () => TestKontrol][] = [
  ["its own replica", () => mesh],
  ["another replica", () => other],
];
beforeEach(() => {
  registrations++;
});

test("frames go both ways through the relay, text as text and bytes as bytes", async () => {
  const { link, open } = await hidden();
  const socket = await open();
  const got = collect(socket);

  socket.send("hello");
  socket.send(Uint8Array.of(1, 2, 3));
  const incoming = (await link).incoming[Symbol.asyncIterator]();
  expect((await incoming.next()).value).toBe("hello");
  expect((await incoming.next()).value).toEqual(Uint8Array.of(1, 2, 3));
  (await link).send("welcome");
  (await link).send(Uint8Array.of(4, 5));

  await vi.waitFor(() => expect(got).toEqual(["welcome", Uint8Array.of(4, 5)]));
  socket.close();
  expect((await incoming.next()).done).toBe(true);
});

test.each(DOORS)("a kite that does not read stops a caller at %s, and none of 100 MB is lost when it reads again", async (_, door) => {
  const { link, open } = await hidden();
  const socket = await open(door());
  await link;
  const frame = new Uint8Array(FRAME_BYTES / 2).fill(7);
  const COUNT = 3_200;
  for (let index = 0; index < COUNT; index++) socket.send(frame);

  // What waits: the stream's window, the relay's own bound and the kernel's buffers on the way; far from all 100 MB.
  await vi.waitFor(async () => {
    const before = socket.bufferedAmount;
    await mesh.root.whoami();
    expect(socket.bufferedAmount).toBe(before);
  }, SETTLED);
  expect(socket.bufferedAmount).toBeGreaterThan((COUNT * frame.length) / 2);

  let bytes = 0;
  for await (const part of (await link).incoming) {
    bytes += part.length;
    if (bytes === COUNT * frame.length) break;
  }
  expect(bytes).toBe(COUNT * frame.length);
});

test.each(DOORS)("a caller at %s that does not read stops the kite, and the relay keeps no more than its bound", async (_, door) => {
  const { link, open } = await hidden();
  const socket = await open(door());
  socket.pause();
  const { send, pulled } = await link;
  const frame = new Uint8Array(FRAME_BYTES / 2);
  const COUNT = 2_000;
  for (let index = 0; index < COUNT; index++) send(frame);

  await vi.waitFor(async () => {
    const before = pulled();
    await mesh.root.whoami();
    expect(pulled()).toBe(before);
    expect(before).toBeGreaterThan(0);
  }, SETTLED);
  expect(pulled()).toBeLessThan(COUNT / 2);
  const got = collect(socket);
  socket.resume();
  await vi.waitFor(() => expect(got).toHaveLength(COUNT), { timeout: 60_000 });
});

test.each(DOORS)("a link at %s that moves as much as it can leaves room for the others", async (_, door) => {
  const chunk = new Uint8Array(FRAME_BYTES / 2);
  const CHUNKS = 1_000;
  const bulk = method({ role: "viewer" }, async function* () {
    for (let index = 0; index < CHUNKS; index++) yield chunk;
  });
  const kite = alice.kite({ name: "noisy", id: `noisy-${registrations}`, methods: { bulk, ...whoMethods } });
  await kite.register();
  const route = () => `${door().kontrol.url}/relay/${kite.identity.id}`;
  const callers = [alice.kite({ route }), alice.kite({ route })] as const;
  const noisy = await callers[0].connect<{ bulk(): Promise<AsyncIterable<Uint8Array>> }>({ id: kite.identity.id });
  const quiet = await callers[1].connect<WhoContract>({ id: kite.identity.id });
  let chunks = 0;
  const moved = (async () => {
    for await (const _ of await noisy.bulk()) chunks++;
  })();
  await vi.waitFor(() => expect(chunks).toBeGreaterThan(0), SETTLED);

  const between: number[] = [];
  for (let call = 0; call < 5; call++) {
    const before = chunks;
    await quiet.who();
    between.push(chunks - before);
  }

  // What one answer has to wait for is what was on its way before it: some windows of a stream, and not all that there is.
  expect(Math.max(...between) * chunk.length).toBeLessThan(8 * 1024 * 1024);
  await moved;
  expect(chunks).toBe(CHUNKS);
});

test("a frame that is too large ends that link alone", async () => {
  const { open } = await hidden();
  const [socket, other] = [await open(), await open()];

  socket.send(new Uint8Array(FRAME_BYTES + 1));

  expect((await closed(socket)).code).toBe(1009);
  expect(other.readyState).toBe(WebSocket.OPEN);
  other.close();
});

test("a link on which nothing is said is closed, and says so", async () => {
  // Asked once, with an answer that is nothing said; by the second time it has been idle, so how soon it answers decides nothing.
  await using quiet = await startTestKontrol(await freshDatabase(), { relayLimits: { idleMs: 200, pingMs: 150 } });
  const { open } = await hidden(quiet, await quiet.person("alice"));

  const { code, reason } = await closed(await open());

  expect({ code, reason }).toEqual({ code: 4003, reason: "nothing was said for too long" });
});

test("a kite that leaves closes its links, and is refused with words a session understands afterwards", async () => {
  const { open, leave, dial, link } = await hidden();
  const ended = closed(await open());
  await link;

  await leave();
  expect((await ended).code).toBe(4404);

  const refused = dial();
  const [first] = (await once(refused, "message")) as [Buffer];
  expect(JSON.parse(first.toString())).toMatchObject({
    refused: { code: "unavailable", message: expect.any(String) },
  });
  expect((await closed(refused)).code).toBe(4404);
});

test("a refusal in letters of several bytes is shortened to what a close frame holds, and kontrol goes on", async () => {
  const { leave, dial } = await hidden(mesh, alice, "環".repeat(80));
  await leave();

  const refused = dial();

  const { code, reason } = await closed(refused);
  expect([code, reason]).toEqual([4404, expect.stringContaining("環環環")]);
  expect(await mesh.root.whoami()).toBeDefined();
});

test("a caller may have so many links and no more", async () => {
  const { dial, links } = await hidden(mesh, await mesh.person("many"));
  const sockets = Array.from({ length: 64 }, () => dial());
  await vi.waitFor(() => expect(links()).toBe(64), { timeout: 10_000 });

  const refused = dial();
  const [first] = (await once(refused, "message")) as [Buffer];

  expect(JSON.parse(first.toString())).toMatchObject({ refused: { code: "limit_exceeded", message: expect.stringContaining("64 links") } });
  for (const socket of sockets) socket.terminate();
});

/** A kite behind the relay whose side of the links is the test's. */
async function hidden(at = mesh, owner = alice, name = "hidden") {
  const id = `hidden-${registrations}`;
  const kontrol: Remote<KontrolContract> = at.closing(
    owner.kite().dial<KontrolContract>({ url: at.kontrol.url, auth: { type: "kiteKey", key: owner.kiteKey } }),
  );
  let resolveLink: (side: KiteSide) => void = () => {};
  const link = new Promise<KiteSide>((resolve) => (resolveLink = resolve));
  let links = 0;
  const kite = { username: "alice", environment: "test", name, version: "1.0.0", region: "here", hostname: "h", id };
  const { url } = await kontrol.register({
    kite,
    onLink: (opened) => {
      const side = kiteSide(opened);
      links++;
      resolveLink(side);
      return side.outgoing;
    },
  });
  const { token } = await owner.kontrol.getToken({ query: { id } });
  const dial = (door = at) => {
    const address = url.replace(at.kontrol.url, door.kontrol.url).replace("http", "ws");
    return track(new WebSocket(address, ["kite.v1", `kite.token.${token}`]));
  };
  const open = async (door = at) => {
    const socket = dial(door);
    await once(socket, "open");
    return socket;
  };
  return { link, links: () => links, dial, open, leave: () => kontrol[Symbol.asyncDispose]() };
}

interface KiteSide extends RelayLink {
  readonly outgoing: AsyncIterable<string | Uint8Array>;
  send(frame: string | Uint8Array): void;
  pulled(): number;
}

function kiteSide(link: RelayLink): KiteSide {
  const queue: (string | Uint8Array)[] = [];
  let wake = () => {};
  let pulled = 0;
  async function* outgoing() {
    for (;;) {
      const frame = queue.shift();
      if (frame === undefined) await new Promise<void>((resolve) => (wake = resolve));
      else {
        pulled++;
        yield frame;
      }
    }
  }
  expect(link.incoming).toBeInstanceOf(RemoteStream);
  const send = (frame: string | Uint8Array) => {
    queue.push(frame);
    wake();
  };
  return { ...link, outgoing: outgoing(), send, pulled: () => pulled };
}

function track(socket: WebSocket): WebSocket {
  socket.on("error", () => {});
  return socket;
}

function collect(socket: WebSocket): (string | Uint8Array)[] {
  const got: (string | Uint8Array)[] = [];
  socket.on("message", (data: Buffer, isBinary) => got.push(isBinary ? new Uint8Array(data) : data.toString()));
  return got;
}

async function closed(socket: WebSocket): Promise<{ code: number; reason: string }> {
  const [code, reason] = (await once(socket, "close")) as [number, Buffer];
  return { code, reason: reason.toString() };
}
