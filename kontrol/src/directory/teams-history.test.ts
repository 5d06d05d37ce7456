import { KiteError, type Role, roleAllows, type WatchEvent } from "@kite-mesh/kite";
import type pg from "pg";
import { expect, test, vi } from "vitest";
import { freshDatabase } from "../../../test/postgres.ts";
import type { Actor } from "../database/audit.ts";
import { openDatabase } from "../database/database.ts";
import { type Entry, Log } from "../database/log.ts";
import { addGrant, expireGrants, removeGrant } from "../people/grants.ts";
import { ensureAccount, removePerson } from "../people/people.ts";
import { addMember, createTeam, removeMember, removeTeam } from "../people/teams.ts";
import { Leases } from "../presence/leases.ts";
import { seeded } from "../test-history.ts";
import { silent } from "../testing.ts";
import { removeKites, revoke } from "../trust/revocations.ts";
import { Directory } from "./directory.ts";
import { Follower } from "./follower.ts";
import { readSnapshot } from "./snapshot.ts";
import { Watchers } from "./watch.ts";

// People who make teams, come, go and give each other roles, at random and always in the same way. After every step what is
// followed from the log is held against what the tables say, and what anybody lost against what was revoked.

vi.setConfig({ testTimeout: 90_000 });
const STEPS = 300;
const PEOPLE = ["root", "ann", "ben", "cat", "dan", "eve", "fay"];
const TTL_MS = 600_000;

test.each([3, 1_789])("directory, watchers and revocations tell the same story as the tables (seed %d)", async (seed) => {
  await using world = await makeWorld(await freshDatabase(), seed);
  const done = new Map<string, number>();

  for (let step = 0; step < STEPS; step++) {
    const before = views(world.directory, world.clock.nowMs);
    const name = await act(world, step);
    done.set(name, (done.get(name) ?? 0) + 1);
    const written = world.written.splice(0);
    await Promise.all([world.follower.reached(await head(world)), world.other.follower.reached(await head(world))]);

    const rebuilt = new Directory({ revocationsMs: TTL_MS });
    rebuilt.reset(await readSnapshot(world.client, TTL_MS));
    const story = tell(rebuilt, world.clock.nowMs);
    expect(tell(world.directory, world.clock.nowMs), `what was written here, after ${name}`).toEqual(story);
    expect(tell(world.other.directory, world.clock.nowMs), `what was read from the log, after ${name}`).toEqual(story);
    const after = views(world.directory, world.clock.nowMs);
    expect(unrevoked(before, after, written), `who kept a session after ${name}`).toEqual([]);
    expect(needless(world.directory, before, written), `who lost one without reason after ${name}`).toEqual([]);
    for (const watch of world.watches) {
      await read(watch);
      expect(watch.seen, `what ${watch.username} watches, after ${name}`).toEqual(after.get(watch.username));
    }
  }

  // What makes the rest worth something: all of it happened, not only its refusal.
  for (const name of Object.keys(ACTIONS)) expect(done.get(name) ?? 0, name).toBeGreaterThan(0);
});

interface Watch {
  readonly username: string;
  readonly events: AsyncIterator<WatchEvent>;
  readonly seen: Map<string, Role>;
  reading: Promise<IteratorResult<WatchEvent>> | undefined;
}

interface World extends AsyncDisposable {
  readonly log: Log;
  readonly client: pg.PoolClient;
  readonly directory: Directory;
  readonly follower: Follower;
  /** A kontrol that reads all of it from the database. */
  readonly other: { readonly directory: Directory; readonly follower: Follower };
  readonly written: Entry[];
  readonly watches: readonly Watch[];
  readonly random: () => number;
  readonly clock: { nowMs: number };
}

async function makeWorld(databaseUrl: string, seed: number): Promise<World> {
  const pool = await openDatabase(databaseUrl, () => {});
  const written: Entry[] = [];
  const clock = { nowMs: 1_000_000 };
  const following = async () => {
    const directory = new Directory({ revocationsMs: TTL_MS });
    return { directory, follower: await Follower.start({ databaseUrl, directory, revocationsMs: TTL_MS, log: silent }) };
  };
  const [{ directory, follower }, other] = [await following(), await following()];
  const log = new Log(pool, (entries) => {
    written.push(...entries);
    follower.offer(entries);
  });
  for (const username of PEOPLE) await ensureAccount(log, { username, kind: "person", admin: username === "root" });
  const leases = new Leases({ log, present: directory, logger: silent, onWritten: (revision) => follower.reached(revision) });
  for (const username of PEOPLE) for (const name of ["math", "disk"]) await enter(leases, username, name);
  const watchers = new Watchers(directory, () => clock.nowMs);
  const client = await pool.connect();
  const watches = PEOPLE.map((username) => ({
    username,
    events: watchers.watch({ query: {}, username })[Symbol.asyncIterator](),
    seen: new Map<string, Role>(),
    reading: undefined,
  }));
  written.length = 0;
  return {
    ...{ log, client, directory, follower, other, written, watches, random: seeded(seed), clock },
    [Symbol.asyncDispose]: async () => {
      watchers.close(new KiteError("disconnected", "the test is over"));
      await Promise.all([leases.close(), follower.close(), other.follower.close()]);
      client.release();
      await pool.end();
    },
  };
}

async function enter(leases: Leases, username: string, name: string): Promise<void> {
  const kite = { username, environment: "e", name, version: "1.0.0", region: "r", hostname: "h", id: `${username}-${name}` };
  const holder = "00000000-0000-4000-8000-000000000000";
  await leases.enter({ kite, url: "http://10.0.0.1:1", visibility: "private", labels: {}, jti: null, holder, registeredAt: 0 });
}

type Action = (world: World, step: number) => Promise<unknown>;

/** What happens, and how often of a hundred times. */
const ACTIONS: Record<string, { often: number; act: Action }> = {
  "a team is made": { often: 8, act: (world, step) => createTeam(world.log, { name: `team-${step}` }, somebody(world)) },
  "a team is removed": { often: 4, act: (world) => removeTeam(world.log, someTeam(world), somebody(world), () => world.clock.nowMs) },
  "somebody joins": {
    often: 27,
    act: (world) => addMember(world.log, { team: someTeam(world), username: pick(PEOPLE, world), role: someRole(world) }, somebody(world)),
  },
  "somebody leaves": {
    often: 14,
    act: (world) =>
      removeMember(world.log, { team: someTeam(world), username: pick(PEOPLE, world) }, somebody(world), () => world.clock.nowMs),
  },
  "a team is given something": { often: 18, act: (world) => give(world, { team: someTeam(world) }) },
  "somebody is given something": { often: 8, act: (world) => give(world, { username: pick(PEOPLE, world) }) },
  "a grant is taken back": { often: 9, act: takeBack },
  "time passes": {
    often: 8,
    act: async (world) => {
      world.clock.nowMs += 5_000;
      await expireGrants(world.log, () => world.clock.nowMs);
    },
  },
  "a person is removed": { often: 2, act: (world, step) => removeLast(world, step, (username) => removeNow(world, username)) },
  "a person is removed by a kontrol that knows no teams": {
    often: 2,
    act: (world, step) => removeLast(world, step, (username) => removeAsBefore(world, username)),
  },
};

/** Does one thing; what is refused is as good as what is not. */
async function act(world: World, step: number): Promise<string> {
  let dice = world.random() * 100;
  for (const [name, { often, act: action }] of Object.entries(ACTIONS)) {
    dice -= often;
    if (dice > 0) continue;
    try {
      await action(world, step);
      return name;
    } catch (thrown) {
      const { code } = KiteError.from(thrown);
      if (!["not_found", "permission_denied", "failed_precondition", "invalid_argument"].includes(code)) throw thrown;
      return `${name}, and is refused`;
    }
  }
  return "nothing";
}

function give(world: World, receiver: { username: string } | { team: string }) {
  const expiresAt = world.random() < 0.5 ? world.clock.nowMs + Math.ceil(world.random() * 20_000) : undefined;
  const query = pick([{}, { name: "math" }, { name: "disk" }], world);
  return addGrant(world.log, somebody(world), {
    ...receiver,
    role: pick(["viewer", "operator", "owner"] as const, world),
    query,
    expiresAt,
  });
}

async function takeBack(world: World): Promise<void> {
  const grant = pick([...world.directory.grants()], world);
  if (grant === undefined) throw new KiteError("not_found", "nothing was given yet");
  await removeGrant(world.log, grant.id, { username: grant.owner, admin: false }, () => world.clock.nowMs);
}

/** Late, from the end of the list, and never the first three: the others still have something to do. */
async function removeLast(world: World, step: number, remove: (username: string) => Promise<unknown>): Promise<void> {
  const username = PEOPLE.slice(3).findLast((name) => world.directory.account(name)?.state === "active");
  if (username === undefined || step < STEPS / 2) throw new KiteError("not_found", "those who are left stay");
  await remove(username);
}

function removeNow({ log, clock }: World, username: string) {
  return removePerson(log, { username }, "root", () => clock.nowMs);
}

/** As the version before this one did it: it does not look at teams. */
async function removeAsBefore({ log, clock }: World, username: string): Promise<void> {
  await log.write(async (tx) => {
    await tx.query("update kontrol.accounts set state = 'removed', admin = false, removed_at = now() where username = $1", [username]);
    tx.append({ kind: "account.changed", account: { username, kind: "person", admin: false, state: "removed" } });
    const end =
      "update kontrol.grants set removed_at = now() where (username = $1 or owner = $1) and removed_at is null returning id, username";
    const { rows } = await tx.query<{ id: string; username: string }>(end, [username]);
    for (const grant of rows) tx.append({ kind: "grant.removed", ...grant });
    await revoke(tx, { username, reason: "the person was removed" }, clock.nowMs);
    await removeKites(tx, { username }, "the person was removed");
  });
}

function somebody(world: World): Actor {
  return world.random() < 0.2 ? { username: "root", admin: true } : { username: pick(PEOPLE, world), admin: false };
}

function someTeam(world: World): string {
  return pick([...world.directory.teams()], world) ?? "team-none";
}

function someRole(world: World) {
  return pick(["member", "maintainer", undefined] as const, world);
}

/** What everybody may do with every kite that they see. */
function views(directory: Directory, nowMs: number): Map<string, Map<string, Role>> {
  const view = (username: string) =>
    [...directory.find({}, username, nowMs)].map(({ record, access }) => [record.kite.id, access.role] as const);
  return new Map(PEOPLE.map((username) => [username, new Map(view(username))]));
}

/** Everything that is about people, in an order that does not depend on how it came about. */
function tell(directory: Directory, nowMs: number) {
  const grants = [...directory.grants()].map(
    ({ covers: _covers, ...grant }: ReturnType<Directory["grant"]> & { covers?: unknown }) => grant,
  );
  const teams = [...directory.teams()].sort().map((name) => [name, [...(directory.members(name) ?? [])].sort()] as const);
  const teamsOf = PEOPLE.map((username) => [...directory.teamsOf(username)].sort());
  return {
    revision: directory.revision,
    teams,
    teamsOf,
    grants: grants.sort((a, b) => (a.id < b.id ? -1 : 1)),
    views: views(directory, nowMs),
  };
}

type Views = ReturnType<typeof views>;

/** Who may do less with a kite than before, without having been told to the kite. */
function unrevoked(before: Views, after: Views, written: readonly Entry[]): string[] {
  const lost: string[] = [];
  for (const [username, kites] of before) {
    for (const [kite, role] of kites) {
      const now = after.get(username)?.get(kite);
      const told = revocationsIn(written).some((one) => (one.username ?? username) === username && (one.kite ?? kite) === kite);
      if (!told && (now === undefined || !roleAllows(now, role))) lost.push(`${username} was ${role} of ${kite}`);
    }
  }
  return lost;
}

/** Whose sessions with a kite were ended though there could be none, or though it is their own. */
function needless(directory: Directory, before: Views, written: readonly Entry[]): string[] {
  return revocationsIn(written).flatMap(({ username, kite }) => {
    if (username === undefined || kite === undefined || directory.kite(kite) === undefined) return [];
    return before.get(username)?.has(kite) && !kite.startsWith(`${username}-`) ? [] : [`${username} at ${kite}`];
  });
}

function revocationsIn(written: readonly Entry[]) {
  return written.flatMap(({ change }) => (change.kind === "revoked" ? [change.revocation] : []));
}

/** Reads what is there. A watch that has nothing to tell does not answer within a turn of the event loop. */
async function read(watch: Watch): Promise<void> {
  for (;;) {
    watch.reading ??= watch.events.next();
    const turn = new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
    const result = await Promise.race([watch.reading, turn]);
    if (result === undefined) return;
    watch.reading = undefined;
    const event = result.value as WatchEvent;
    if (event.type === "snapshot") watch.seen.clear();
    for (const { kite, role } of event.type === "snapshot" ? event.kites : []) watch.seen.set(kite.id, role);
    if (event.type === "registered") watch.seen.set(event.kite.kite.id, event.kite.role);
    if (event.type === "gone") watch.seen.delete(event.kite.id);
  }
}

async function head({ client }: World): Promise<number> {
  return (await client.query<{ revision: number }>("select revision::float8 as revision from kontrol.head")).rows[0]?.revision ?? 0;
}

function pick<T>(items: readonly T[], { random }: World): T {
  return items[Math.floor(random() * items.length)] as T;
}
