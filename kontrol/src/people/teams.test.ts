import { once } from "node:events";
import { callWith, type FoundKite, type Kite, type Remote, type WatchEvent } from "@kite-mesh/kite";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { freshDatabase } from "../../../test/postgres.ts";
import type { KontrolContract } from "../contract.ts";
import { only, startTestKontrol, type TestKontrol, type TestPerson, type WhoContract } from "../testing.ts";

// Two kontrols on one database: kites register at the other one, and are called with what this one gives. Every test has a team
// of its own, of which `alice` is the maintainer and `bob` a member; `carol` is in none.

vi.setConfig({ testTimeout: 30_000 });
const databaseUrl = await freshDatabase();
let mesh: TestKontrol;
let other: TestKontrol;
let team: string;
let alice: TestPerson;
let bob: TestPerson;
let carol: TestPerson;
let made = 0;
/** By how much the clock of `mesh` is ahead. */
let aheadMs = 0;

beforeAll(async () => {
  mesh = await startTestKontrol(databaseUrl, { clock: () => Date.now() + aheadMs });
  other = await startTestKontrol(databaseUrl);
});
afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});
beforeEach(async () => {
  aheadMs = 0;
  made++;
  [alice, bob, carol] = [await mesh.person(`alice${made}`), await mesh.person(`bob${made}`), await mesh.person(`carol${made}`)];
  team = `team-${made}`;
  await alice.kontrol.teams.create({ name: team });
  await alice.kontrol.teams.add({ team, username: bob.username });
});

test("whoever makes a team is its first maintainer, and those who are in it see it", async () => {
  const members = [
    { username: alice.username, role: "maintainer" },
    { username: bob.username, role: "member" },
  ];

  expect(await bob.kontrol.teams.get({ name: team })).toEqual({ name: team, members });
  expect(await alice.kontrol.teams.list()).toEqual([{ name: team, members: 2, role: "maintainer" }]);
  expect(await bob.kontrol.teams.list()).toEqual([{ name: team, members: 2, role: "member" }]);
  expect(await mesh.root.teams.list()).toContainEqual({ name: team, members: 2, role: null });
  expect(await mesh.root.teams.get({ name: team })).toEqual({ name: team, members });
});

test("to others a team cannot be told from one that does not exist", async () => {
  const answers = (name: string) => {
    const { teams, grants } = carol.kontrol;
    const tries: Promise<unknown>[] = [
      teams.get({ name }),
      teams.remove({ name }),
      teams.add({ team: name, username: carol.username }),
      teams.removeMember({ team: name, username: carol.username }),
      grants.add({ team: name, role: "viewer", query: {} }),
    ];
    return Promise.all(tries.map((answer) => answer.catch(({ code, message }) => ({ code, message: message.replace(name, "NAME") }))));
  };

  expect(await answers(team)).toEqual(await answers("not-there"));
  expect(await carol.kontrol.teams.list()).toEqual([]);
});

type Who = "member" | "maintainer" | "administrator" | "stranger";
const refused = "permission_denied";

test.each<[Who, string, (asked: TestKontrol["root"]["teams"]) => Promise<unknown>, unknown]>([
  ["member", "add somebody", (teams) => teams.add({ team, username: carol.username }), refused],
  ["maintainer", "add somebody", (teams) => teams.add({ team, username: carol.username }), { role: "member", added: true }],
  ["administrator", "add somebody", (teams) => teams.add({ team, username: carol.username }), { role: "member", added: true }],
  ["member", "become a maintainer", (teams) => teams.add({ team, username: bob.username, role: "maintainer" }), refused],
  [
    "maintainer",
    "make one",
    (teams) => teams.add({ team, username: bob.username, role: "maintainer" }),
    { role: "maintainer", added: false },
  ],
  ["maintainer", "add somebody again", (teams) => teams.add({ team, username: bob.username }), { role: "member", added: false }],
  ["maintainer", "add nobody", (teams) => teams.add({ team, username: "nobody" }), "not_found"],
  ["member", "take out another", (teams) => teams.removeMember({ team, username: alice.username }), refused],
  ["maintainer", "take out another", (teams) => teams.removeMember({ team, username: bob.username }), { removed: true }],
  ["administrator", "take out the last maintainer", (teams) => teams.removeMember({ team, username: alice.username }), { removed: true }],
  ["maintainer", "leave as the last one", (teams) => teams.removeMember({ team, username: alice.username }), "failed_precondition"],
  [
    "maintainer",
    "be a member as the last one",
    (teams) => teams.add({ team, username: alice.username, role: "member" }),
    "failed_precondition",
  ],
  ["member", "leave", (teams) => teams.removeMember({ team, username: bob.username }), { removed: true }],
  ["maintainer", "take out who is not in it", (teams) => teams.removeMember({ team, username: carol.username }), { removed: false }],
  ["member", "remove the team", (teams) => teams.remove({ name: team }), refused],
  ["maintainer", "remove the team", (teams) => teams.remove({ name: team }), { removed: true }],
  ["administrator", "remove the team", (teams) => teams.remove({ name: team }), { removed: true }],
  ["stranger", "make a team for another", (teams) => teams.create({ name: `of-${team}`, maintainer: bob.username }), refused],
  [
    "administrator",
    "make a team for another",
    (teams) => teams.create({ name: `of-${team}`, maintainer: bob.username }),
    { members: [{}] },
  ],
  ["administrator", "make one for a service", (teams) => teams.create({ name: `of-${team}`, maintainer: "kontrol" }), refused],
  ["stranger", "make one of a name that is taken", (teams) => teams.create({ name: team }), "already_exists"],
  ["stranger", "make one of a name that is hard to read", (teams) => teams.create({ name: "Team One" }), "invalid_argument"],
])("what a team answers to a %s who wants to %s", async (who, _what, call, expected) => {
  const kontrols = { member: bob.kontrol, maintainer: alice.kontrol, administrator: mesh.root, stranger: carol.kontrol };

  const answer = call(kontrols[who].teams);

  if (typeof expected === "string") await expect(answer).rejects.toMatchObject({ code: expected });
  else expect(await answer).toMatchObject(expected as object);
});

test("the name of a team that was removed is not given again, and removing it again is no mistake", async () => {
  expect(await alice.kontrol.teams.remove({ name: team })).toEqual({ removed: true });

  expect(await alice.kontrol.teams.remove({ name: team })).toEqual({ removed: false });
  expect(await bob.kontrol.teams.removeMember({ team, username: bob.username })).toEqual({ removed: false });
  expect(await bob.kontrol.teams.list()).toEqual([]);
  await expect(bob.kontrol.teams.create({ name: team })).rejects.toMatchObject({ code: "already_exists" });
});

test("a grant is for a person or for a team, never for both or nobody", async () => {
  const terms = { role: "viewer", query: {} } as const;

  for (const receiver of [{ username: bob.username, team }, {}])
    await expect(alice.kontrol.grants.add({ ...terms, ...receiver } as never)).rejects.toMatchObject({ code: "invalid_argument" });
});

test("everybody in a team has what was given to it, those who join later too, and it is in their lists", async () => {
  await shared();
  const grant = await alice.kontrol.grants.add({ team, role: "operator", query: { name: "shared" } });
  expect(grant).toEqual({ id: grant.id, owner: alice.username, team, role: "operator", query: expect.anything(), expiresAt: null });
  await alice.kontrol.teams.add({ team, username: carol.username });

  for (const person of [bob, carol]) {
    expect(await (await calling(person)).who()).toEqual({ username: person.username, role: "operator" });
    expect(await person.kontrol.grants.list()).toEqual([grant]);
    expect(await person.kontrol.grants.remove({ id: grant.id })).toEqual({ removed: false });
  }
  expect(await alice.kontrol.grants.remove({ id: grant.id })).toEqual({ removed: true });
  expect(await bob.kontrol.grants.list()).toEqual([]);
});

test("a watcher sees a kite appear the moment he joins, and vanish the moment he leaves, at another kontrol too", async () => {
  const { identity } = await shared();
  await alice.kontrol.grants.add({ team, role: "viewer", query: { name: "shared" } });
  const there = mesh.closing(carol.kite({ name: "watcher", kontrolUrl: other.kontrol.url }));
  const watching = [carol.kontrol.watch({ query: { name: "shared" } }), Promise.resolve(there.watch({ name: "shared" }))];
  const events = await Promise.all(watching.map(async (each) => (await each)[Symbol.asyncIterator]()));
  const next = () => Promise.all(events.map(async (each) => ((await each.next()).value as WatchEvent & { kites?: unknown }).kites));
  expect(await next()).toEqual([[], []]);

  await alice.kontrol.teams.add({ team, username: carol.username });
  const appeared = [{ kite: identity, role: "viewer" }];
  expect(await next()).toMatchObject([appeared, appeared]);
  await carol.kontrol.teams.removeMember({ team, username: carol.username });
  expect(await next()).toEqual([[], []]);

  for (const each of events) await each.return?.();
});

test.each<[string, (grant: string) => Promise<unknown>]>([
  ["he leaves the team", () => bob.kontrol.teams.removeMember({ team, username: bob.username })],
  ["he is taken out of the team", () => alice.kontrol.teams.removeMember({ team, username: bob.username })],
  ["the team is removed", () => mesh.root.teams.remove({ name: team })],
  ["the grant is taken back", (id) => alice.kontrol.grants.remove({ id })],
  ["he is removed", () => mesh.root.people.remove({ username: bob.username })],
  ["whoever gave it is removed", () => mesh.root.people.remove({ username: alice.username })],
])("the sessions that a team's grant opened end when %s, direct and through the relay, and their tokens are refused", async (_, end) => {
  await shared();
  const behindNat = mesh.closing(alice.kite({ name: "hidden", kontrolUrl: other.kontrol.url }));
  await behindNat.register();
  const { id } = await alice.kontrol.grants.add({ team, role: "operator", query: {} });
  const [direct, hidden] = (await Promise.all(
    ["shared", "hidden"].map(async (name) => only((await bob.kontrol.getKites({ query: { name } })).kites)),
  )) as [FoundKite, FoundKite];
  const sessions = [showing(direct.url, direct.token), await calling(bob, "hidden")];
  for (const session of sessions) expect(await session.who()).toEqual({ username: bob.username, role: "operator" });

  await end(id);

  for (const session of sessions) await refusedSoon(session);
  await refusedSoon(showing(direct.url, direct.token));
  expect(await knock(hidden.url, hidden.token)).toBe("unauthenticated");
});

test("a team's grant that ends gives no token beyond its time, and ends sessions by itself", async () => {
  await shared();
  const expiresAt = Date.now() + 60_000;
  await alice.kontrol.grants.add({ team, role: "viewer", query: {}, expiresAt });
  const { url, token, tokenExpiresAt } = only((await bob.kontrol.getKites({ query: { name: "shared" } })).kites);
  const session = showing(url, token);
  expect(await session.who()).toEqual({ username: bob.username, role: "viewer" });
  expect(tokenExpiresAt).toBe(expiresAt);

  aheadMs = 60_000;
  // With every grant kontrol looks anew when the next one ends.
  const grant = await alice.kontrol.grants.add({ username: carol.username, role: "viewer", query: {} });

  await vi.waitFor(async () => expect(await alice.kontrol.grants.list()).toEqual([grant]), { timeout: 10_000 });
  await refusedSoon(session);
});

test("who leaves a team and has another grant connects again with that one, and the owner's own sessions stay", async () => {
  await shared();
  await alice.kontrol.grants.add({ team, role: "operator", query: {} });
  await alice.kontrol.grants.add({ username: bob.username, role: "viewer", query: {} });
  const { url, token } = only((await alice.kontrol.getKites({ query: { name: "shared" } })).kites);
  const [asBob, asAlice] = [await calling(bob), showing(url, token)];
  expect(await asBob.who()).toEqual({ username: bob.username, role: "operator" });
  expect(await asAlice.who()).toEqual({ username: alice.username, role: "owner" });

  await alice.kontrol.teams.removeMember({ team, username: bob.username });

  await vi.waitFor(async () => expect(await asBob.who()).toEqual({ username: bob.username, role: "viewer" }), { timeout: 10_000 });
  await alice.kontrol.teams.remove({ name: team });
  expect(await asAlice.who()).toEqual({ username: alice.username, role: "owner" });
});

test("when a grant to many people on many kites ends, its kites end all sessions, and those who may stay come back", async () => {
  await using database = await sql();
  await shared();
  await alice.kontrol.grants.add({ team, role: "viewer", query: {} });
  const [url, bobs] = [
    only((await alice.kontrol.getKites({ query: { name: "shared" } })).kites).url,
    await bob.kontrol.getToken({ query: { name: "shared" } }),
  ];
  const [asAlice, asBob] = [await calling(alice), showing(url, bobs.token)];
  expect([await asAlice.who(), await asBob.who()]).toMatchObject([{ role: "owner" }, { role: "viewer" }]);
  await database.crowd(400);
  await database.query(
    `insert into kontrol.kites (id, username, environment, name, version, region, hostname, url, visibility, labels, generation, holder, gone_at)
     select $1 || n, $1, 'e', 'n', '1.0.0', 'r', 'h', 'http://10.0.0.1:1', 'private', '{}', 0, md5(n::text)::uuid, now() from generate_series(1, 20) n`,
    [alice.username],
  );

  await alice.kontrol.teams.remove({ name: team });

  await refusedSoon(asBob);
  await vi.waitFor(async () => expect(await asAlice.who()).toEqual({ username: alice.username, role: "owner" }), { timeout: 10_000 });
  const count = "select count(*)::int as count from kontrol.revocations where reason = $1 and username is null";
  expect((await database.query<{ count: number }>(count, [`the team ${team} was removed`])).rows).toEqual([{ count: 21 }]);
});

test("nobody can fill the mesh with teams, members or grants to a team", async () => {
  await using database = await sql();
  const full = { code: "limit_exceeded" };
  const grant = { team, role: "viewer", query: {} } as const;

  await database.query(
    "insert into kontrol.team_grants (owner, team, role, query) select $1, $2, 'viewer', '{}' from generate_series(1, 1000)",
    [carol.username, team],
  );
  await expect(bob.kontrol.grants.add(grant)).rejects.toMatchObject(full);
  await database.crowd(498);
  await expect(alice.kontrol.teams.add({ team, username: carol.username })).rejects.toMatchObject(full);
  expect(await alice.kontrol.teams.removeMember({ team, username: bob.username })).toEqual({ removed: true });
  expect(await alice.kontrol.teams.add({ team, username: carol.username })).toMatchObject({ added: true });

  await database.query("insert into kontrol.teams (name, created_by) select $1 || '.' || n, $2 from generate_series(1, 1000) n", [
    team,
    bob.username,
  ]);
  await expect(bob.kontrol.teams.create({ name: `${team}-more` })).rejects.toMatchObject(full);
  await database.query("insert into kontrol.memberships select $1 || '.' || n, $2, 'member' from generate_series(1, 99) n", [
    team,
    carol.username,
  ]);
  await expect(carol.kontrol.teams.create({ name: `${team}-too` })).rejects.toMatchObject(full);
  await database.query("delete from kontrol.memberships where team = $1 || '.99'", [team]);
  expect(await carol.kontrol.teams.create({ name: `${team}-too` })).toMatchObject({ name: `${team}-too` });
});

test("a kontrol that starts later knows teams, members and what they were given", async () => {
  await shared();
  const grant = await alice.kontrol.grants.add({ team, role: "operator", query: { name: "shared" } });

  await using later = await startTestKontrol(databaseUrl);
  const there = later.closing(bob.kite({ kontrolUrl: later.kontrol.url }));

  expect(await there.kontrol<KontrolContract>().grants.list()).toEqual([grant]);
  expect(await there.kontrol<KontrolContract>().teams.get({ name: team })).toMatchObject({ members: [{}, { username: bob.username }] });
  expect(only(await there.find({ name: "shared" })).role).toBe("operator");
});

test("whatever is done to teams can be read afterwards, with who did it", async () => {
  const { id } = await alice.kontrol.grants.add({ team, role: "viewer", query: {} });
  await mesh.root.teams.add({ team, username: bob.username, role: "maintainer" });
  await alice.kontrol.teams.add({ team, username: carol.username });
  await carol.kontrol.teams.removeMember({ team, username: carol.username });
  await bob.kontrol.teams.remove({ name: team });

  const { entries } = await mesh.root.audit.list({ limit: 7 });

  expect(entries.reverse().map(({ actor, action, subject, details }) => ({ actor, action, subject, details }))).toEqual([
    { actor: alice.username, action: "teams.create", subject: team, details: {} },
    { actor: alice.username, action: "teams.add", subject: bob.username, details: { team, role: "member" } },
    {
      actor: alice.username,
      action: "grants.add",
      subject: team,
      details: { grant: id, team, role: "viewer", query: { username: alice.username }, expiresAt: null },
    },
    { actor: "root", action: "teams.add", subject: bob.username, details: { team, role: "maintainer" } },
    { actor: alice.username, action: "teams.add", subject: carol.username, details: { team, role: "member" } },
    { actor: carol.username, action: "teams.removeMember", subject: carol.username, details: { team } },
    {
      actor: bob.username,
      action: "teams.remove",
      subject: team,
      details: { grants: [id], members: expect.arrayContaining([alice.username, bob.username]) },
    },
  ]);
});

/** A kite of alice's that can be dialled, and that hears of revocations from the other kontrol. */
async function shared(): Promise<Kite> {
  const kite = mesh.closing(alice.kite({ name: "shared", kontrolUrl: other.kontrol.url }));
  await kite.listen();
  await kite.register();
  await vi.waitFor(async () => expect((await alice.kontrol.getKites({ query: { id: kite.identity.id } })).kites).toHaveLength(1));
  return kite;
}

async function calling(person: TestPerson, name = "shared"): Promise<Remote<WhoContract>> {
  return mesh.closing(await person.kite({ name: "caller" }).connect<WhoContract>({ username: alice.username, name }));
}

/** A caller who has this token and gets no other. */
function showing(url: string, key: string): Remote<WhoContract> {
  return mesh.closing(bob.kite({ name: "caller" }).dial<WhoContract>({ url, auth: { type: "token", key } }));
}

/** Who may get another token asks for it, and is answered only when there is one. */
async function refusedSoon(session: Remote<WhoContract>): Promise<void> {
  const code = expect.stringMatching(/^(unauthenticated|permission_denied|not_found|deadline_exceeded)$/);
  await vi.waitFor(() => expect(callWith(session, { timeoutMs: 1_000 }).who()).rejects.toMatchObject({ code }), { timeout: 10_000 });
}

/** How the relay refuses a token. */
async function knock(url: string, token: string): Promise<string> {
  const socket = new WebSocket(url.replace("http", "ws"), ["kite.v1", `kite.token.${token}`]);
  try {
    const [frame] = (await once(socket, "message")) as [Buffer];
    return JSON.parse(frame.toString()).refused.code;
  } finally {
    socket.terminate();
  }
}

async function sql() {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  return {
    query: client.query.bind(client) as pg.Client["query"],
    /** So many more members, who were always there. */
    crowd: async (count: number) => {
      const values = [`${team}-`, count];
      await client.query(
        "insert into kontrol.accounts (username, kind, name) select $1 || n, 'person', 'x' from generate_series(1, $2::int) n",
        values,
      );
      await client.query("insert into kontrol.memberships select $3, $1 || n, 'member' from generate_series(1, $2::int) n", [
        ...values,
        team,
      ]);
    },
    [Symbol.asyncDispose]: () => client.end(),
  };
}
