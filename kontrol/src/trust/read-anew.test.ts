import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { callWith, type Kite, type Logger, method, type Remote, type WatchEvent } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import pg from "pg";
import { expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../../test/postgres.ts";
import { asking } from "../test-attacker.ts";
import { silent, startTestKontrol, type TestKontrol, type WhoContract, whoMethods } from "../testing.ts";

// A kontrol that was cut off from its database for longer than the log reaches back reads the tables anew. Whatever was taken
// back meanwhile has to end there all the same, by every way, although no entry tells of it any more.

vi.setConfig({ testTimeout: 60_000 });
const LONG = { timeout: 30_000, interval: 50 };

test("what was revoked while a kontrol was away for longer than the log reaches back ends there when it has read the tables", async () => {
  const databaseUrl = await freshDatabase();
  await using home = await startTestKontrol(databaseUrl);
  await using gate = await openGate(databaseUrl);
  const logged: string[] = [];
  const log: Logger = { ...silent, info: (_, said) => void logged.push(String(said)) };
  await using away = await startTestKontrol(gate.url, { log });
  const [alice, bob, carol] = [await home.person("alice"), await home.person("bob"), await home.person("carol")];
  const [direct, hidden] = [await kiteAt(away, alice.kite, "direct"), await kiteAt(away, alice.kite, "hidden")];
  const { id: grant } = await alice.kontrol.grants.add({ username: "bob", role: "viewer", query: {} });
  const carols = asking(away, "kiteKey", carol.kiteKey);
  expect(await carols.whoami()).toMatchObject({ username: "carol" });
  const bobs = bob.kite({ kontrolUrl: home.kontrol.url });
  const sessions = [await called(away, bobs, direct), await called(away, bobs, hidden)];
  for (const session of sessions) expect(await session.who()).toEqual({ username: "bob", role: "viewer" });
  const { closed } = await linked(away, hidden, (await bob.kontrol.getToken({ query: { id: hidden.identity.id } })).token);
  const seen: WatchEvent[] = [];
  const events = await asking(away, "kiteKey", bob.kiteKey).watch({ query: { username: "alice" } });
  const reading = async () => {
    for await (const event of events) seen.push(event);
  };
  // Ends with the kontrol that it is read from.
  void reading().catch(() => {});
  await vi.waitFor(() => expect(seen).toMatchObject([{ type: "snapshot", kites: { length: 2 } }]), LONG);
  const waiting = sessions.map((session) =>
    expect(callWith(session, { timeoutMs: 50_000 }).forever()).rejects.toMatchObject({ code: "disconnected" }),
  );

  gate.shut();
  await home.root.grants.remove({ id: grant });
  await home.root.keys.revoke({ jti: String(decodeJwt(carol.kiteKey).jti) });
  await forget(databaseUrl);
  expect(await carols.whoami()).toMatchObject({ username: "carol" });
  gate.open();

  await Promise.all(waiting);
  await closed;
  await vi.waitFor(() => expect([...direct.sessions, ...hidden.sessions]).toEqual([]), LONG);
  await vi.waitFor(() => expect(seen.at(-1)).toMatchObject({ type: "snapshot", kites: [] }), LONG);
  await vi.waitFor(() => expect(carols.whoami()).rejects.toMatchObject({ code: "unauthenticated" }), LONG);
  expect(logged).toContain("the log no longer reaches back that far; reading the tables");
});

test("a kite that was taken out meanwhile is told so when its kontrol has read the tables, and comes back", async () => {
  const databaseUrl = await freshDatabase();
  await using gate = await openGate(databaseUrl);
  await using away = await startTestKontrol(gate.url);
  const alice = await away.person("alice");
  const kite = await kiteAt(away, alice.kite, "direct");
  const { id } = kite.identity;
  const generation = async () => Number((await query(databaseUrl, PRESENT, [id]))[0]?.["generation"] ?? 0);
  const before = await generation();

  gate.shut();
  await query(databaseUrl, BURY, [id]);
  await query(databaseUrl, "update kontrol.head set revision = revision + 1");
  await forget(databaseUrl);
  expect(await generation()).toBe(0);
  gate.open();

  // It has to hear of it: its session with its kontrol was never lost, and its beats are taken there.
  await vi.waitFor(async () => expect(await generation()).toBeGreaterThan(before), LONG);
  await vi.waitFor(async () => expect((await alice.kontrol.getKites({ query: { id } })).kites).toMatchObject([{ url: kite.url }]), LONG);
});

const PRESENT = "select generation from kontrol.kites where id = $1 and gone_at is null";
/** As another kontrol does with the kites of one that it takes for dead. */
const BURY = "update kontrol.kites set gone_at = now(), gone_reason = 'its kontrol stopped, and it did not come back' where id = $1";

interface ForeverContract extends WhoContract {
  /** Answers when its session ends. */
  forever(): Promise<void>;
}

/** A kite of alice's whose session is at that kontrol; behind the relay, unless it is `direct`. */
async function kiteAt({ kontrol }: TestKontrol, make: (options: object) => Kite, name: "direct" | "hidden"): Promise<Kite> {
  const forever = method({ role: "viewer" }, ({ signal }) => once(signal, "abort"));
  const kite = make({ name, kontrolUrl: kontrol.url, methods: { ...whoMethods, forever } });
  if (name === "direct") await kite.listen();
  await kite.register();
  return kite;
}

async function called(at: TestKontrol, caller: Kite, { identity: { id } }: Kite): Promise<Remote<ForeverContract>> {
  return at.closing(await caller.connect<ForeverContract>({ id }));
}

/** Settles when the relay has closed the link because somebody's right to it ended. */
async function linked({ kontrol }: TestKontrol, { identity: { id } }: Kite, token: string): Promise<{ closed: Promise<void> }> {
  const socket = new WebSocket(`${kontrol.url.replace("http", "ws")}/relay/${id}`, ["kite.v1", `kite.token.${token}`]);
  socket.on("error", () => {});
  await once(socket, "open");
  const closed = once(socket, "close").then(([code]) => expect(code).toBe(4002));
  return { closed };
}

/** As after a week. */
async function forget(databaseUrl: string): Promise<void> {
  await query(databaseUrl, "delete from kontrol.log where revision < (select revision from kontrol.head)");
}

async function query(databaseUrl: string, text: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query<Record<string, unknown>>(text, values);
  await client.end();
  return rows;
}

/** A way to the database that can be shut, for connections that there are and for those to come, and opened again. */
async function openGate(databaseUrl: string) {
  const target = new URL(databaseUrl);
  // A cluster of tests listens in a folder.
  const folder = target.searchParams.get("host");
  const sockets = new Set<Socket>();
  let isOpen = true;
  const server = createServer((near) => {
    if (!isOpen) return void near.destroy();
    const far = folder === null ? connect(Number(target.port), target.hostname) : connect(`${folder}/.s.PGSQL.${target.port}`);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on("error", () => one.destroy());
      one.once("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const shut = () => {
    isOpen = false;
    for (const socket of sockets) socket.destroy();
  };
  const url = new URL(databaseUrl);
  url.searchParams.delete("host");
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: url.href,
    shut,
    open: () => {
      isOpen = true;
    },
    [Symbol.asyncDispose]: async () => {
      shut();
      server.close();
      await once(server, "close");
    },
  };
}
