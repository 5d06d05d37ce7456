import { KiteError, type WatchEvent } from "@kite-mesh/kite";
import { expect, test, vi } from "vitest";
import type { Change, KiteRecord } from "../database/record.ts";
import { Directory } from "./directory.ts";
import { Watchers, type WatchRequest } from "./watch.ts";

test("a watcher gets a snapshot with its revision, then changes with theirs", async () => {
  const { write, watch } = mesh();
  write(registered("a"));
  const watching = watch({ query: { name: "math" } });

  expect(await next(watching)).toMatchObject({ type: "snapshot", revision: "2", kites: [{ kite: { id: "a" }, role: "owner" }] });
  write(registered("b"));
  write(registered("other", { name: "other" }));
  write({ kind: "kite.gone", id: "a", generation: 2, reason: "its session closed" });

  expect(await next(watching)).toMatchObject({ type: "registered", revision: "3", kite: { kite: { id: "b" } } });
  expect(await next(watching)).toMatchObject({ type: "gone", revision: "5", kite: { id: "a" }, reason: "its session closed" });
});

test("a watcher that was away goes on after the revision it had", async () => {
  const { write, watch } = mesh();
  write(registered("a"));
  write(registered("b"));

  const watching = watch({ query: { name: "math" }, since: "2" });
  write(registered("c"));

  expect(await next(watching)).toMatchObject({ type: "registered", revision: "3", kite: { kite: { id: "b" } } });
  expect(await next(watching)).toMatchObject({ type: "registered", revision: "4", kite: { kite: { id: "c" } } });
});

test("a watch ends with the token that opened it, and is gone from memory", async () => {
  vi.useFakeTimers({ now: 0 });
  const directory = new Directory({ revocationsMs: 60_000 });
  const watchers = new Watchers(directory, Date.now);
  const watching = watchers.watch({ query: {}, username: "alice", until: 600_000 })[Symbol.asyncIterator]();
  await watching.next();
  const ended = watching.next().catch((thrown: unknown) => thrown);

  await vi.advanceTimersByTimeAsync(599_000);
  expect(watchers.size).toBe(1);
  await vi.advanceTimersByTimeAsync(1_000);

  expect(await ended).toMatchObject({ code: "token_expired" });
  expect(watchers.size).toBe(0);
  expect(await outcome(watchers.watch({ query: {}, username: "alice", until: 600_000 }))).toMatchObject({ code: "token_expired" });
  expect(watchers.size).toBe(0);
  vi.useRealTimers();
});

test.each([
  ["no longer remembered", "1", 14_000],
  ["not reached yet", "999999", 1],
])("a revision that is %s starts again with a snapshot", async (_title, since, changes) => {
  const { write, watch } = mesh();
  for (let index = 0; index < changes; index++) write(registered("a"));

  expect(await next(watch({ query: {}, since }))).toMatchObject({ type: "snapshot", kites: [{ kite: { id: "a" } }] });
});

test("a watcher that another kontrol has told more goes on after that, and is not led back", async () => {
  const { write, watch } = mesh({ behindMs: 60_000 });
  write(registered("a"));

  const watching = watch({ query: {}, since: "4" });
  write(registered("b"));
  write(account("alice"));
  write(registered("c"));

  expect(await next(watching)).toMatchObject({ type: "registered", revision: "5", kite: { kite: { id: "c" } } });
});

test("a watcher that does not read keeps nothing but a mark, and goes on with a snapshot", async () => {
  const { write, watch } = mesh();
  const watching = watch({ query: {} });
  await next(watching);
  for (let index = 0; index < 300; index++) write(registered(`kite-${index}`));

  const event = await next(watching);
  expect(event).toMatchObject({ type: "snapshot", revision: "301" });
  expect(event).toHaveProperty("kites.length", 300);
  write(registered("last"));
  expect(await next(watching)).toMatchObject({ type: "registered", revision: "302" });
});

test("a kite that comes back as another version leaves those who watch the old one", async () => {
  const { write, watch } = mesh();
  write(registered("a", { version: "1.0.0" }));
  const watching = watch({ query: { name: "math", version: "^1" } });
  await next(watching);

  write(registered("a", { version: "2.0.0" }));

  expect(await next(watching)).toMatchObject({ type: "gone", kite: { id: "a", version: "1.0.0" } });
});

test("a grant that comes or goes shows a new snapshot to its receiver alone", async () => {
  const { write, watch } = mesh();
  write(account("bob"));
  write(registered("a"));
  const [bob, alice] = [watch({ query: {}, username: "bob" }), watch({ query: {} })];
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [] });
  await next(alice);

  const query = { username: "alice" };
  write({ kind: "grant.added", grant: { id: "g", owner: "alice", username: "bob", role: "viewer", query, expiresAt: null } });
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [{ kite: { id: "a" }, role: "viewer" }] });
  write({ kind: "grant.removed", id: "g", username: "bob" });
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [] });

  write(registered("b"));
  expect(await next(alice)).toMatchObject({ type: "registered", kite: { kite: { id: "b" } } });
});

const GRANTED: Change = {
  kind: "team-grant.added",
  grant: { id: "t", owner: "alice", team: "dev", role: "viewer", query: { username: "alice" }, expiresAt: null },
};
const TEAM: Change[] = [{ kind: "team.created", name: "dev" }, GRANTED];
const LEFT: Change = { kind: "member.removed", team: "dev", username: "bob" };
const JOINED: Change = { kind: "member.added", member: { team: "dev", username: "bob", role: "member" } };

test("who joins a team sees at once what it was given, who leaves it sees it vanish, and others see nothing", async () => {
  const { write, watch } = mesh();
  for (const change of [account("bob"), account("carol"), registered("a"), ...TEAM]) write(change);
  const [bob, carol] = [watch({ query: {}, username: "bob" }), watch({ query: {}, username: "carol" })];
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [] });
  await next(carol);

  write(JOINED);
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [{ kite: { id: "a" }, role: "viewer" }] });
  write(LEFT);
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [] });

  write({ kind: "grant.added", grant: { id: "p", owner: "alice", username: "carol", role: "owner", query: {}, expiresAt: null } });
  // The first that she is told since her snapshot.
  expect(await next(carol)).toMatchObject({ type: "snapshot", kites: [{ role: "owner" }] });
});

test.each<[string, Change]>([
  ["a grant to the team", { kind: "team-grant.removed", id: "t", team: "dev" }],
  ["the team itself", { kind: "team.removed", name: "dev", members: ["bob"] }],
])("whoever is in a team sees it when %s ends", async (_title, change) => {
  const { write, watch } = mesh();
  for (const each of [account("bob"), registered("a"), ...TEAM, JOINED]) write(each);
  const bob = watch({ query: {}, username: "bob" });
  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [{ kite: { id: "a" } }] });

  write(change);

  expect(await next(bob)).toMatchObject({ type: "snapshot", kites: [] });
});

const TAKEN: Change = { kind: "team-grant.removed", id: "t", team: "dev" };
const REMOVED: Change = { kind: "team.removed", name: "dev", members: ["bob"] };

test.each<[string, Change[], Change[], string[]]>([
  ["joined a team", TEAM, [JOINED], ["a"]],
  ["left a team", [...TEAM, JOINED], [LEFT], []],
  ["is in a team that was given something", [...TEAM, JOINED, TAKEN], [GRANTED], ["a"]],
  ["was in a team that was given something, and left it", [...TEAM, JOINED, TAKEN], [GRANTED, LEFT], []],
  ["was in a team from which something was taken, and which was removed", [...TEAM, JOINED], [TAKEN, REMOVED], []],
])("who %s while away starts again with a snapshot", async (_title, before, meanwhile, ids) => {
  const { directory, write, watch } = mesh();
  for (const change of [account("bob"), registered("a"), ...before]) write(change);
  const since = String(directory.revision);
  for (const change of meanwhile) write(change);

  const event = await next(watch({ query: {}, username: "bob", since }));

  expect(event?.type === "snapshot" ? event.kites.map(({ kite }) => kite.id) : event).toEqual(ids);
});

test("who stops watching costs nothing any more, and who may not is told why", async () => {
  const { watchers, watch } = mesh();
  const [stopped, ended] = [watch({ query: {} }), watch({ query: { name: "math" } })];
  await next(ended);

  await stopped[Symbol.asyncIterator]().return?.();
  expect(watchers.size).toBe(1);
  watchers.end("alice", new KiteError("unauthenticated", "the person was removed"));

  await expect(next(ended)).rejects.toThrow("the person was removed");
  expect(watchers.size).toBe(0);
});

test("a since that is no revision is refused", () => {
  expect(() => mesh().watch({ query: {}, since: "yesterday" })).toThrow("since is a revision");
});

function mesh({ behindMs = 10 } = {}) {
  const directory = new Directory({ revocationsMs: 600_000 });
  const empty = { revision: 0, kites: [], accounts: [], grants: [], teams: [], members: [], keys: [], revocations: [] };
  directory.reset(empty);
  const watchers = new Watchers(directory, () => 0, { behindMs });
  const write = (change: Change): void => {
    const revision = directory.revision + 1;
    if (change.kind === "kite.registered")
      directory.apply({ revision, change: { ...change, record: { ...change.record, generation: revision } } });
    else directory.apply({ revision, change });
  };
  write(account("alice"));
  const watch = (request: Omit<WatchRequest, "username"> & { username?: string }) => watchers.watch({ username: "alice", ...request });
  return { directory, watchers, write, watch };
}

async function next(events: AsyncIterable<WatchEvent>): Promise<WatchEvent | undefined> {
  return (await events[Symbol.asyncIterator]().next()).value;
}

function registered(id: string, fields: Partial<KiteRecord["kite"]> = {}): Change {
  const kite = { username: "alice", environment: "dev", name: "math", version: "1.0.0", region: "eu", hostname: "h", id, ...fields };
  const record = {
    kite,
    url: "http://127.0.0.1:1",
    visibility: "private" as const,
    labels: {},
    jti: null,
    generation: 0,
    holder: "h",
    registeredAt: 0,
  };
  return { kind: "kite.registered", record };
}

function account(username: string): Change {
  return { kind: "account.changed", account: { username, kind: "person", admin: false, state: "active" } };
}

function outcome(watching: AsyncIterable<unknown>): Promise<unknown> {
  return watching[Symbol.asyncIterator]()
    .next()
    .catch((thrown: unknown) => thrown);
}
