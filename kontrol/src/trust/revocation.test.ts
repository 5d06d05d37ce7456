import { once } from "node:events";
import { callWith, Kite, method, PROTOCOL, type Remote } from "@kite-mesh/kite";
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { startBalancer } from "../../../test/balancer.ts";
import { freshDatabase } from "../../../test/postgres.ts";
import { startTestKontrol, type TestKontrol, type TestPerson, type WhoContract, whoMethods } from "../testing.ts";

// Two kontrols on one database. Whatever lets a caller in is taken back at one of them, while sessions are open by every way.

vi.setConfig({ testTimeout: 60_000 });
const databaseUrl = await freshDatabase();
let home: TestKontrol;
let other: TestKontrol;
let alice: TestPerson;
let kloud: TestPerson;
let made = 0;

beforeAll(async () => {
  [home, other] = [await startTestKontrol(databaseUrl), await startTestKontrol(databaseUrl)];
  alice = await home.person("alice");
  kloud = await home.service("kloud");
}, 60_000);
afterAll(async () => {
  for (const kontrol of [other, home]) await kontrol[Symbol.asyncDispose]();
});

type Revoke = (by: TestKontrol, bob: TestPerson, grant: string) => Promise<unknown>;
const WAYS = ["directly", "through the relay of its replica", "through the relay of another replica"] as const;
const REVOKED: [string, Revoke][] = [
  ["the kite.key", (by, bob) => by.root.keys.revoke({ jti: String(decodeJwt(bob.kiteKey).jti) })],
  ["the account", (by, bob) => by.root.people.remove({ username: bob.username })],
  ["the grant", (by, _bob, grant) => by.root.grants.remove({ id: grant })],
];

test.each(REVOKED.flatMap(([what, revoke]) => WAYS.map((way) => [what, way, revoke] as const)))(
  "%s is taken back: a session that was opened %s ends, with every call that waits",
  async (_what, way, revoke) => {
    const bob = await home.person(`bob-${made++}`);
    const kite = await kiteFor(way);
    const grant = await alice.kontrol.grants.add({ username: bob.username, role: "viewer", query: { id: kite.identity.id } });
    const session = await opened(kite, bob, way);
    expect(await session.who()).toEqual({ username: bob.username, role: "viewer" });
    const waiting = expect(callWith(session, { timeoutMs: 40_000 }).forever()).rejects.toMatchObject({ code: "disconnected" });

    await revoke(other, bob, grant.id);

    await waiting;
    await vi.waitFor(() => expect([...kite.sessions]).toEqual([]), { timeout: 10_000 });
    await expect(session.who()).rejects.toThrow();
  },
);

const LOST: [string, (bob: TestPerson) => Promise<Taken>][] = [
  [
    "an administrator is made a person like others",
    async (bob) => {
      await home.kontrol.ensureAccount({ username: bob.username, kind: "person", admin: true });
      return {
        owner: kloud,
        role: "owner",
        take: () => other.kontrol.ensureAccount({ username: bob.username, kind: "person", admin: false }),
      };
    },
  ],
  ["somebody leaves a team", async (bob) => inTeam(bob, (name) => bob.kontrol.teams.removeMember({ team: name, username: bob.username }))],
  [
    "somebody is put out of a team",
    async (bob) => inTeam(bob, (name) => other.root.teams.removeMember({ team: name, username: bob.username })),
  ],
  ["a team is removed", async (bob) => inTeam(bob, (name) => alice.kontrol.teams.remove({ name }))],
  [
    "a grant gives a lower role from now on",
    async (bob) => {
      const grant = { username: bob.username, query: { name: "revoked" } };
      const { id } = await alice.kontrol.grants.add({ ...grant, role: "operator" });
      const take = async () => {
        await alice.kontrol.grants.remove({ id });
        await alice.kontrol.grants.add({ ...grant, role: "viewer" });
      };
      return { owner: alice, role: "operator", take };
    },
  ],
];

test.each(LOST.flatMap(([what, prepare]) => WAYS.map((way) => [what, way, prepare] as const)))(
  "%s: a session that was opened %s ends, and so does the token",
  async (_what, way, prepare) => {
    const bob = await home.person(`bob-${made++}`);
    const { owner, role, take } = await prepare(bob);
    const kite = await kiteFor(way, home.kontrol.url, owner);
    const session = await opened(kite, bob, way);
    expect(await session.who()).toEqual({ username: bob.username, role });
    const { token } = await bob.kontrol.getToken({ query: { id: kite.identity.id } });
    const waiting = expect(callWith(session, { timeoutMs: 40_000 }).forever()).rejects.toMatchObject({ code: "disconnected" });

    await take();

    await waiting;
    if (way === "directly") {
      const thief = home.closing(new Kite({ name: "thief", version: "1.0.0" }));
      const holder = home.closing(thief.dial<WhoContract>({ url: kite.url as string, auth: { type: "token", key: token } }));
      await expect(holder.who()).rejects.toMatchObject({ code: "unauthenticated" });
    } else {
      const { kontrol } = way === "through the relay of another replica" ? other : home;
      const link = new WebSocket(`${kontrol.url}/relay/${kite.identity.id}`, [PROTOCOL, `kite.token.${token}`]);
      const [said] = (await once(link, "message")) as [Buffer];
      expect(JSON.parse(said.toString())).toMatchObject({ refused: { code: "unauthenticated" } });
      link.terminate();
    }
  },
);

test("what came from a token ends with the credential that the token came from", async () => {
  const bob = await home.person(`bob-${made++}`);
  const kite = await kiteFor("directly");
  await alice.kontrol.grants.add({ username: bob.username, role: "viewer", query: { id: kite.identity.id } });
  const { token } = await bob.kontrol.getToken({ query: { id: kite.identity.id }, ttlMs: 60_000 });
  const holder = alice.kite().dial<WhoContract>({ url: kite.url as string, auth: { type: "token", key: token } });
  expect(await home.closing(holder).who()).toMatchObject({ username: bob.username });

  await other.root.keys.revoke({ jti: String(decodeJwt(bob.kiteKey).jti) });

  await vi.waitFor(() => expect([...kite.sessions]).toEqual([]), { timeout: 10_000 });
  // A call that crosses the end of the session is disconnected; those after it are refused.
  await vi.waitFor(() => expect(holder.who()).rejects.toMatchObject({ code: "unauthenticated" }));
});

test("what is taken back while a kite's replica restarts is heard at the one where the kite comes back", async () => {
  const leaving = await startTestKontrol(databaseUrl);
  let open = [leaving.kontrol.url];
  await using balancer = await startBalancer(() => open);
  const bob = await home.person(`bob-${made++}`);
  const kite = await kiteFor("directly", balancer.url);
  const hidden = await kiteFor("through the relay of its replica", balancer.url);
  const grant = await alice.kontrol.grants.add({ username: bob.username, role: "viewer", query: { name: "revoked" } });
  const sessions = [await opened(kite, bob, "directly"), await opened(hidden, bob, "through the relay of another replica")];
  await Promise.all(sessions.map((session) => session.who()));

  open = [other.kontrol.url];
  const closed = leaving[Symbol.asyncDispose]();
  await other.root.grants.remove({ id: grant.id });
  await closed;

  await vi.waitFor(() => expect([...kite.sessions, ...hidden.sessions]).toEqual([]), { timeout: 20_000 });
});

interface RevokedContract extends WhoContract {
  /** Answers when its session ends. */
  forever(): Promise<void>;
}

const methods = {
  ...whoMethods,
  forever: method({ role: "viewer" }, ({ signal }) => once(signal, "abort")),
};

/** What somebody has, and how it is taken from them. */
interface Taken {
  readonly owner: TestPerson;
  readonly role: string;
  take(): Promise<unknown>;
}

async function inTeam(bob: TestPerson, take: (name: string) => Promise<unknown>): Promise<Taken> {
  const name = `team-${made++}`;
  await alice.kontrol.teams.create({ name });
  await alice.kontrol.teams.add({ team: name, username: bob.username });
  await alice.kontrol.grants.add({ team: name, role: "operator", query: { name: "revoked" } });
  return { owner: alice, role: "operator", take: () => take(name) };
}

async function kiteFor(way: (typeof WAYS)[number], kontrolUrl = home.kontrol.url, owner = alice): Promise<Kite> {
  const kite = owner.kite({ name: "revoked", id: `revoked-${made++}`, kontrolUrl, methods });
  if (way === "directly") await kite.listen();
  await kite.register();
  return kite;
}

async function opened({ identity: { id } }: Kite, bob: TestPerson, way: (typeof WAYS)[number]): Promise<Remote<RevokedContract>> {
  const { kontrol } = way === "through the relay of another replica" ? other : home;
  const route = ({ url }: { url: string }) => (way === "directly" ? url : `${kontrol.url}/relay/${id}`);
  // A kontrol that is closed must not be who this caller asks.
  const caller = bob.kite({ kontrolUrl: home.kontrol.url, route });
  return home.closing(await caller.connect<RevokedContract>({ id }));
}
