import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { callWith, Kite, method, type Remote } from "@kite-mesh/kite";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { startBalancer } from "../../../test/balancer.ts";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { only, openTestWire, startTestKontrol, type TestKontrol, type TestPerson, type WhoContract } from "../testing.ts";

vi.setConfig({ testTimeout: 30_000 });
const BEAT_MS = 500;
// For how long one replica waits for another: for an answer, and for the end of a link.
const GOODBYE_MS = 2_000;
const databaseUrl = await freshDatabase();
let replicas: TestKontrol[];
let alice: TestPerson;
let bob: TestPerson;
let made = 0;

beforeAll(async () => {
  replicas = [];
  for (let index = 0; index < 3; index++) replicas.push(await startTestKontrol(databaseUrl));
  [alice, bob] = [await at(0).person("alice"), await at(0).person("bob")];
}, 60_000);
afterAll(async () => {
  for (const replica of replicas) await replica[Symbol.asyncDispose]();
});

test.each([0, 1, 2].flatMap((kite) => [0, 1, 2].map((caller) => [kite, caller] as const)))(
  "a kite that registered at replica %d is called through replica %d",
  async (home, door) => {
    const kite = await hidden(home);

    const remote = await through(door, kite, alice);

    expect(await remote.who()).toEqual({ username: "alice", role: "owner" });
  },
);

test("a link that was passed on is refused by the kite's own replica, as any other", async () => {
  const kite = await hidden(0);

  const [refusal, { code }] = await refused(1, kite, "not-a-token");
  const other = await alice.kontrol.getToken({ query: { name: "kontrol" } });
  const [wrong] = await refused(1, kite, other.token);

  expect([refusal, wrong]).toMatchObject([{ refused: { code: "unauthenticated" } }, { refused: { code: "unauthenticated" } }]);
  expect(code).toBe(4002);
});

test("bad tokens for kites of another replica keep nobody out there: they are refused, and counted, where they came", async () => {
  const tries = { tries: 2, perMs: 7_200_000 };
  await using far = await startTestKontrol(databaseUrl, { entryLimits: { credentials: tries } });
  const kite = await hidden(far);

  const good = await tokenFor(kite, alice);
  const bad = good.replace(/[^.]+$/, "A".repeat(86));

  for (let knocked = 0; knocked < 4; knocked++) {
    const [refusal] = await refused(1, kite, bad);
    expect(refusal).toMatchObject({ refused: { code: "unauthenticated" } });
  }

  expect(await (await through(1, kite, alice)).who()).toEqual({ username: "alice", role: "owner" });
});

test("a flood of beats for kites that are not here counts like any other strangers", async () => {
  await using small = await startTestKontrol(databaseUrl, { entryLimits: { handshakes: { tries: 3, perMs: 10_800_000 } } });
  const answers: string[] = [];

  for (let sent = 0; sent < 5; sent++) {
    const socket = new WebSocket(`${small.kontrol.url.replace("http", "ws")}/beats/nobody-${sent}`, ["kite.beats", "kite.ticket.made-up"]);
    const [error] = (await once(socket, "error")) as [Error];
    answers.push(error.message.slice(-3));
  }

  expect(answers).toEqual(["401", "401", "401", "429", "429"]);
});

test("what was passed on once is not passed on again, whoever says so", async () => {
  const kite = await hidden(0);
  const token = await tokenFor(kite, alice);

  // A replica asks nobody on behalf of what was passed on: until it has heard of the kite, it says that there is none.
  await vi.waitFor(async () => {
    const [refusal] = await refused(1, kite, token, { "kontrol-forwarded": "1" });
    expect(refusal).toMatchObject({ refused: { code: "unavailable", message: expect.stringContaining("will be back") } });
  });
});

test("a link that has ended leaves no wait behind, for which a kontrol that stops would go on", async () => {
  const kite = await hidden(0);
  const [set, cleared] = [vi.spyOn(globalThis, "setTimeout"), vi.spyOn(globalThis, "clearTimeout")];
  const waits = () => set.mock.results.flatMap(({ value }, index) => (set.mock.calls[index]?.[1] === GOODBYE_MS ? [value] : []));

  await using wire = await openTestWire(at(1).kontrol.url);
  const links = await Promise.all(Array.from({ length: 5 }, () => opened(wire.url, kite, alice)));
  // Without a goodbye: after one both sides may close at once, and neither waits for the other.
  wire.cut();
  await through(1, kite, alice).then((remote) => remote.who());

  // One for the answer of the other replica, one for its goodbye.
  await vi.waitFor(() => {
    expect(waits().length).toBeGreaterThanOrEqual(2 * links.length + 1);
    const over = new Set(cleared.mock.calls.map(([timer]) => timer));
    expect(waits().filter((timer) => !over.has(timer as NodeJS.Timeout))).toEqual([]);
  });
  for (const spy of [set, cleared]) spy.mockRestore();
});

test("a grant that ends takes the links with it that were passed on", async () => {
  const kite = await hidden(0);
  const grant = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: { id: kite.identity.id } });
  const remote = await through(2, kite, bob);
  expect(await remote.who()).toEqual({ username: "bob", role: "viewer" });
  // Listened for first: it may close before the answer is here.
  const ended = closed(await opened(2, kite, bob));

  await alice.kontrol.grants.remove({ id: grant.id });

  expect((await ended).code).toBe(4002);
  await vi.waitFor(() => expect(callWith(remote, { timeoutMs: 2_000 }).who()).rejects.toThrow());
});

test("a kite whose replica goes is called again on the same session when it has registered at another", async () => {
  const first = await startTestKontrol(databaseUrl);
  await using balancer = await startBalancer(() => [first.kontrol.url, at(1).kontrol.url]);
  const session = method({ role: "viewer" }, (call) => call.session.id);
  const id = `hidden-${made++}`;
  const kite = alice.kite({ name: "hidden", id, kontrolUrl: balancer.url, methods: { session } });
  await kite.register();
  const caller = alice.kite({ route: () => `${at(2).kontrol.url}/relay/${id}` });
  const remote = track(await caller.connect<{ session(): Promise<string> }>({ id }));
  const before = await remote.session();

  await first[Symbol.asyncDispose]();

  expect(await callWith(remote, { timeoutMs: 20_000 }).session()).toBe(before);
});

test("a kite.key that one replica has just issued opens all of them", async () => {
  for (let round = 0; round < 10; round++) {
    const { kiteKey } = await at(0).root.keys.issue({ username: "alice" });
    const kite = track(new Kite({ name: "new", version: "1.0.0", kiteKey, kontrolUrl: at(1 + (round % 2)).kontrol.url }));

    await expect(kite.kontrol<KontrolContract>().whoami()).resolves.toMatchObject({ username: "alice" });
  }
});

test("a watch goes on at another replica after a revision that this one has not heard of yet", async () => {
  const watched = { query: { name: "seen" } };
  for (let round = 0; round < 10; round++) {
    const kite = await listening(0, "seen");
    const { revision } = await alice.kontrol.getKites(watched);
    const there = dialled(1 + (round % 2));
    const events = (await there.watch({ ...watched, since: revision }))[Symbol.asyncIterator]();
    await kite.close();

    expect((await events.next()).value).toMatchObject({ type: "gone", kite: { id: kite.identity.id } });
    await events.return?.();
  }
});

test("an older kite beats at any replica, and registers anew where it beats when its own is gone", async () => {
  const first = await startTestKontrol(databaseUrl);
  const { kiteKey } = await at(0).root.keys.issue({ username: "alice", alg: "RS256" });
  const kite = { username: "alice", environment: "e", name: "older", version: "1.0.0", region: "r", hostname: "h", id: "older-1" };
  const body = JSON.stringify({ url: "http://10.0.0.7:3636/kite", kite, auth: { type: "kiteKey", key: kiteKey } });
  const register = (replica: TestKontrol) => fetch(`${replica.kontrol.url}/register`, { method: "POST", body });
  const beat = async (replica: TestKontrol) => (await fetch(`${replica.kontrol.url}/heartbeat?id=${kite.id}`)).text();
  expect((await register(first)).status).toBe(200);

  expect([await beat(at(1)), await beat(first), await beat(at(2))]).toEqual(["pong", "pong", "pong"]);
  await first[Symbol.asyncDispose]();
  expect(await beat(at(1))).toBe("registeragain");
  expect((await register(at(1))).status).toBe(200);

  expect([await beat(at(1)), await beat(at(2))]).toEqual(["pong", "pong"]);
});

test("a flood of beats from one source, for kites that are nowhere, keeps nobody else's beat from another replica", async () => {
  const own = await freshDatabase();
  await using far = await startTestKontrol(own);
  await using near = await startTestKontrol(own, { trustedProxies: ["127.0.0.1"] });
  await far.person("alice");
  const { kiteKey } = await far.root.keys.issue({ username: "alice", alg: "RS256" });
  const kite = { username: "alice", environment: "e", name: "older", version: "1.0.0", region: "r", hostname: "h", id: "older-1" };
  const body = JSON.stringify({ url: "http://10.0.0.7:3636/kite", kite, auth: { type: "kiteKey", key: kiteKey } });
  expect((await fetch(`${far.kontrol.url}/register`, { method: "POST", body })).status).toBe(200);
  const beat = (from: string, id: string) => fetch(`${near.kontrol.url}/heartbeat?id=${id}`, { headers: { "x-forwarded-for": from } });
  expect(await (await beat("192.0.2.2", kite.id)).text()).toBe("pong");
  const client = new pg.Client({ connectionString: own });
  await client.connect();
  // Whoever is looked for in the log stays at work for as long.
  await client.query("begin; lock table kontrol.head in access exclusive mode");

  const flood = Array.from({ length: 400 }, (_, n) => beat("192.0.2.1", `nobody-${n}`));
  await fetch(`${near.kontrol.url}/healthz`);
  const others = await Promise.all([beat("192.0.2.2", kite.id), beat("192.0.2.3", kite.id)].map(async (asked) => (await asked).text()));
  await client.query("commit");
  await client.end();

  expect(others).toEqual(["pong", "pong"]);
  const answers = await Promise.all(flood);
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 429]));
  const refused = answers.find(({ status }) => status === 429);
  expect(Number(refused?.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await refused?.json()).toEqual({ err: expect.stringContaining("the limit beats is 60 in 5 s") });
});

test("a stopped replica's kites stay for two beats, kontrol itself for good, and others know whose sessions are open", async () => {
  const own = await freshDatabase();
  await using staying = await startTestKontrol(own, { heartbeatMs: BEAT_MS });
  const leaving = await startTestKontrol(own, { heartbeatMs: BEAT_MS });
  const carol = await leaving.person("carol");
  const kite = await hidden(leaving, carol);
  const why = async () => await staying.root.why({ id: kite.identity.id });
  await vi.waitFor(
    async () => expect(await why()).toMatchObject({ state: "present", reason: expect.stringContaining("with another kontrol") }),
    { timeout: 10_000 },
  );
  // It takes nobody out while it is younger than two beats; this one is waited for with a kontrol that left before.
  const early = await startTestKontrol(own, { heartbeatMs: BEAT_MS });
  const first = await hidden(early, carol);
  await early.kontrol.close();
  await vi.waitFor(async () => expect(await staying.root.why({ id: first.identity.id })).toMatchObject({ state: "gone" }), {
    timeout: 20_000,
  });

  const there = staying.closing(
    carol.kite().dial<KontrolContract>({ url: staying.kontrol.url, auth: { type: "kiteKey", key: carol.kiteKey } }),
  );
  // Watched before it ends: by the time that a session has been opened two beats may have passed, and the kite be gone.
  const watching = (await there.watch({ query: { name: "hidden" } }))[Symbol.asyncIterator]();
  expect((await watching.next()).value).toMatchObject({ type: "snapshot", kites: [{ kite: { id: kite.identity.id } }] });

  await leaving.kontrol.close();
  const gone = (await watching.next()).value;
  await watching.return?.();

  expect(gone).toMatchObject({ type: "gone", reason: "its kontrol stopped, and it did not come back" });
  expect(await silentMs(own)).toBeGreaterThanOrEqual(2 * BEAT_MS);
  await vi.waitFor(
    async () => {
      const found = only((await staying.root.getKites({ query: { name: "kontrol" } })).kites);
      expect(found.url).toBe(staying.kontrol.url);
    },
    { timeout: 10_000 },
  );
  await leaving[Symbol.asyncDispose]();
});

test("a replica that cannot be reached is told of in a session's words, and only to those with a token", async () => {
  const kite = await hidden(0);
  const token = await tokenFor(kite, alice);
  // Takes connections and says nothing, as a machine does that hangs.
  await using hole = await blackHole();
  await using lost = await startTestKontrol(databaseUrl, { replicaUrl: hole.url });
  const hanging = await hidden(lost, alice);
  const other = await tokenFor(hanging, alice);

  const [refusal, { code }] = await refused(1, hanging, other);
  const [stranger] = await refused(1, hanging, token);

  expect(refusal).toMatchObject({ refused: { code: "unavailable" } });
  expect(code).toBe(4404);
  expect(stranger).toMatchObject({ refused: { code: "unauthenticated" } });
});

function at(index: number): TestKontrol {
  return replicas[index] as TestKontrol;
}

function track<T extends AsyncDisposable>(resource: T): T {
  return at(0).closing(resource);
}

/** A kite that is reached through the relay alone. */
async function hidden(home: number | TestKontrol, owner = alice): Promise<Kite> {
  const { kontrol } = typeof home === "number" ? at(home) : home;
  const kite = owner.kite({ name: "hidden", id: `hidden-${made++}`, kontrolUrl: kontrol.url });
  await kite.register();
  return kite;
}

async function listening(home: number, name: string): Promise<Kite> {
  const kite = alice.kite({ name, kontrolUrl: at(home).kontrol.url });
  await kite.listen();
  await kite.register();
  return kite;
}

/** kontrol as alice calls it at one replica. */
function dialled(index: number): Remote<KontrolContract> {
  const { url } = at(index).kontrol;
  return track(alice.kite().dial<KontrolContract>({ url, auth: { type: "kiteKey", key: alice.kiteKey } }));
}

/** A kite, called through the relay of one replica. */
async function through(door: number, { identity: { id } }: Kite, by: TestPerson): Promise<Remote<WhoContract>> {
  const caller = by.kite({ route: () => `${at(door).kontrol.url}/relay/${id}` });
  return track(await caller.connect<WhoContract>({ id }));
}

async function tokenFor({ identity: { id } }: Kite, by: TestPerson): Promise<string> {
  return (await by.kontrol.getToken({ query: { id } })).token;
}

function socketTo(door: number | string, { identity: { id } }: Kite, token: string, headers: Record<string, string> = {}): WebSocket {
  const url = `${(typeof door === "string" ? door : at(door).kontrol.url).replace("http", "ws")}/relay/${id}`;
  const socket = new WebSocket(url, ["kite.v1", `kite.token.${token}`], { headers });
  socket.on("error", () => {});
  return socket;
}

/** A link without a session, which the kite has taken; by a replica, or by an address in front of one. */
async function opened(door: number | string, kite: Kite, by: TestPerson): Promise<WebSocket> {
  const socket = socketTo(door, kite, await tokenFor(kite, by));
  await once(socket, "open");
  return socket;
}

/** What a link is refused with: the frame, and how the socket closes. */
async function refused(door: number, kite: Kite, token: string, headers = {}): Promise<[unknown, { code: number }]> {
  const socket = socketTo(door, kite, token, headers);
  const ended = closed(socket);
  const [frame] = (await once(socket, "message")) as [Buffer];
  return [JSON.parse(frame.toString()), await ended];
}

async function closed(socket: WebSocket): Promise<{ code: number }> {
  const [code] = (await once(socket, "close")) as [number];
  return { code };
}

/** For how long the one process that has left says nothing, and the one that lives has been there, by the database's clock. */
async function silentMs(url: string): Promise<number> {
  return askOne(url, "select extract(epoch from now() - max(beat_at)) * 1000 as ms from kontrol.replicas where url is null");
}

async function askOne(url: string, query: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ ms: string }>(query);
  await client.end();
  return Number(rows[0]?.ms);
}

async function blackHole(): Promise<AsyncDisposable & { url: string }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on("error", () => {})));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
