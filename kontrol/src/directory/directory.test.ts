import { expect, test } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { Directory } from "./directory.ts";

test("an entry that is missing in between is noticed, one that was seen is passed over", () => {
  const directory = emptyDirectory();

  expect(directory.apply({ revision: 1, change: registered(kite({ id: "a" }), 1) })).toBe(true);
  expect(directory.apply({ revision: 1, change: registered(kite({ id: "again" }), 1) })).toBe(true);
  expect(directory.apply({ revision: 3, change: registered(kite({ id: "c" }), 3) })).toBe(false);

  expect(directory.revision).toBe(1);
  expect([...directory.kites()].map((record) => record.kite.id)).toEqual(["a"]);
});

test("a late word about an older generation does not remove its successor", () => {
  const directory = emptyDirectory();
  directory.apply({ revision: 1, change: registered(kite({ id: "a" }), 1) });
  directory.apply({ revision: 2, change: registered(kite({ id: "a" }), 2) });

  directory.apply({ revision: 3, change: { kind: "kite.gone", id: "a", generation: 1, reason: "late" } });
  expect(directory.kite("a")?.generation).toBe(2);

  directory.apply({ revision: 4, change: { kind: "kite.gone", id: "a", generation: 2, reason: "its session closed" } });
  expect(directory.kite("a")).toBeUndefined();
});

test.each([
  [{ name: "math" }, ["a1", "a2", "b1"]],
  [{ name: "math", version: "^1.2" }, ["a1"]],
  [{ name: "math", version: ">=1 <3" }, ["a1", "b1"]],
  [{ username: "alice" }, ["a1", "a2"]],
  [{ username: "alice", name: "math", version: "3.0.0" }, ["a2"]],
  [{ id: "b1" }, ["b1"]],
  [{ id: "b1", name: "other" }, []],
  [{ name: "nobody" }, []],
  [{}, ["a1", "a2", "b1"]],
])("the query %j means %j", (query, ids) => {
  const directory = emptyDirectory();
  directory.apply({ revision: 1, change: registered(kite({ id: "a1", version: "1.2.3" }), 1) });
  directory.apply({ revision: 2, change: registered(kite({ id: "a2", version: "3.0.0" }), 2) });
  directory.apply({ revision: 3, change: registered(kite({ id: "b1", version: "2.0.0", username: "bob" }), 3) });

  expect([...directory.match(query)].map((record) => record.kite.id).sort()).toEqual(ids);
});

test.each<[string, Change[], string | undefined]>([
  ["its owner owns it", [account("alice")], "owner"],
  ["a stranger cannot see a private kite", [account("bob")], undefined],
  ["an administrator cannot see a person's private kite", [account("bob", { admin: true })], undefined],
  ["a removed account sees nothing", [account("bob", { state: "removed" }), mesh()], undefined],
  ["everybody may look at a kite that is visible to the mesh", [account("bob"), mesh()], "viewer"],
  ["a grant gives its role", [account("bob"), grant({ role: "operator" })], "operator"],
  ["of several grants the highest counts", [account("bob"), grant({ id: "1", role: "owner" }), grant({ id: "2" })], "owner"],
  ["a grant that ended gives nothing", [account("bob"), grant({ expiresAt: 1_000 })], undefined],
  ["a grant on other kites gives nothing", [account("bob"), grant({ query: { username: "alice", name: "other" } })], undefined],
  ["a grant by somebody else gives nothing", [account("bob"), grant({ owner: "carol", query: { username: "carol" } })], undefined],
  ["a grant to somebody else gives nothing", [account("bob"), grant({ username: "carol" })], undefined],
  [
    "a grant that was taken back gives nothing",
    [account("bob"), grant({}), { kind: "grant.removed", id: "g", username: "bob" }],
    undefined,
  ],
  ["a grant to a team gives its role to who is in it", [account("bob"), ...team("bob"), teamGrant({ role: "operator" })], "operator"],
  [
    "who maintains a team has no more by its grants than who is in it",
    [account("bob"), ...team("bob", "maintainer"), teamGrant({})],
    "viewer",
  ],
  ["who joins a team later has what it was given before", [account("bob"), ...team("carol"), teamGrant({}), joined("bob")], "viewer"],
  ["a grant to a team gives nothing to others", [account("bob"), ...team("carol"), teamGrant({ role: "owner" })], undefined],
  ["a person called like a team has nothing of it", [account("dev"), ...team("carol"), teamGrant({})], undefined],
  ["a team called like a person has nothing of that one's", [account("bob"), ...team("bob"), grant({ username: "dev" })], undefined],
  ["who left a team has what it was given no more", [account("bob"), ...team("bob"), teamGrant({}), left("bob")], undefined],
  [
    "a team that was removed gives nothing",
    [account("bob"), ...team("bob"), teamGrant({}), { kind: "team.removed", name: "dev", members: ["bob"] }],
    undefined,
  ],
  [
    "a grant that was taken back from a team gives nothing",
    [account("bob"), ...team("bob"), teamGrant({}), { kind: "team-grant.removed", id: "t", team: "dev" }],
    undefined,
  ],
  ["a grant to a team that ended gives nothing", [account("bob"), ...team("bob"), teamGrant({ expiresAt: 1_000 })], undefined],
  ["a grant to a team by somebody else gives nothing", [account("bob"), ...team("bob"), teamGrant({ owner: "carol" })], undefined],
  ["a grant to a team on other kites gives nothing", [account("bob"), ...team("bob"), teamGrant({ query: { name: "other" } })], undefined],
  [
    "of a grant to a team and a person's own the higher counts",
    [account("bob"), ...team("bob"), grant({ role: "operator" }), teamGrant({})],
    "operator",
  ],
  [
    "an account that was removed is in no team, also when it should come back",
    [account("bob"), ...team("bob"), teamGrant({}), account("bob", { state: "removed" }), account("bob")],
    undefined,
  ],
])("%s", (_title, changes, role) => {
  const directory = emptyDirectory();
  let revision = 0;
  for (const change of [registered(kite({}), 1), ...changes]) directory.apply({ revision: ++revision, change });
  const asks = changes.find((change) => change.kind === "account.changed")?.account.username ?? "";
  const record = directory.kite("k");

  expect(directory.access(record as KiteRecord, asks, 2_000)?.role).toBe(role);
});

test("an administrator owns the kites of services", () => {
  const directory = emptyDirectory();
  const changes = [account("kloud", { kind: "service" }), account("root", { admin: true }), registered(kite({ username: "kloud" }), 3)];
  for (const [index, change] of changes.entries()) directory.apply({ revision: index + 1, change });

  expect(directory.access(directory.kite("k") as KiteRecord, "root", 0)?.role).toBe("owner");
});

test("of two grants with the same role the one that lasts longer counts, whoever got it", () => {
  const directory = emptyDirectory();
  const changes = [registered(kite({}), 1), account("bob"), ...team("bob"), grant({ expiresAt: 5_000 }), teamGrant({ expiresAt: 9_000 })];
  for (const [index, change] of changes.entries()) directory.apply({ revision: index + 1, change });

  expect(directory.access(directory.kite("k") as KiteRecord, "bob", 0)).toEqual({ role: "viewer", until: 9_000 });
});

test("an entry of a kind that only a later version knows is passed over", () => {
  const directory = emptyDirectory();
  const later = (kind: string) => ({ kind, name: "x", record: {} }) as unknown as Change;
  const kinds = ["fleet.formed", "kite.renamed", "team.renamed", "grant.lent"];

  for (const [index, kind] of kinds.entries()) expect(directory.apply({ revision: index + 1, change: later(kind) })).toBe(true);
  directory.apply({ revision: kinds.length + 1, change: registered(kite({}), 1) });

  expect(directory.kite("k")).toBeDefined();
});

test("the tail of the log is bounded, and says when it does not reach back", () => {
  const directory = emptyDirectory();
  for (let revision = 1; revision <= 15_000; revision++) {
    directory.apply({ revision, change: { kind: "key.issued", jti: "same", username: "alice" } });
  }

  expect(
    directory
      .since(14_990)
      ?.map(({ revision }) => revision)
      .at(0),
  ).toBe(14_991);
  expect(directory.since(15_000)).toEqual([]);
  expect(directory.since(1)).toBeUndefined();
  expect(directory.since(15_001)).toBeUndefined();
});

function emptyDirectory(): Directory {
  const directory = new Directory({ revocationsMs: 600_000 });
  directory.reset({ revision: 0, kites: [], accounts: [], grants: [], teams: [], members: [], keys: [], revocations: [] });
  return directory;
}

function kite(fields: Partial<KiteRecord["kite"]>): KiteRecord["kite"] {
  return { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id: "k", ...fields };
}

function registered(kite: KiteRecord["kite"], generation: number, visibility: "private" | "mesh" = "private"): Change {
  const record = { kite, url: "http://127.0.0.1:1", visibility, labels: {}, jti: null, generation, holder: "h", registeredAt: 0 };
  return { kind: "kite.registered", record };
}

function mesh(): Change {
  return registered(kite({}), 9, "mesh");
}

function account(username: string, fields: { admin?: boolean; kind?: "person" | "service"; state?: "active" | "removed" } = {}): Change {
  return { kind: "account.changed", account: { username, admin: false, kind: "person", state: "active", ...fields } };
}

function grant(fields: Partial<Extract<Change, { kind: "grant.added" }>["grant"]>): Change {
  const grant = {
    id: "g",
    owner: "alice",
    username: "bob",
    role: "viewer" as const,
    query: { username: "alice", name: "math" },
    expiresAt: null,
  };
  return { kind: "grant.added", grant: { ...grant, ...fields } };
}

function team(username: string, role: "member" | "maintainer" = "member"): Change[] {
  return [{ kind: "team.created", name: "dev" }, joined(username, role)];
}

function joined(username: string, role: "member" | "maintainer" = "member"): Change {
  return { kind: "member.added", member: { team: "dev", username, role } };
}

function left(username: string): Change {
  return { kind: "member.removed", team: "dev", username };
}

function teamGrant(fields: Partial<Extract<Change, { kind: "team-grant.added" }>["grant"]>): Change {
  const grant = { id: "t", owner: "alice", team: "dev", role: "viewer" as const, query: { name: "math" }, expiresAt: null };
  return { kind: "team-grant.added", grant: { ...grant, ...fields } };
}
