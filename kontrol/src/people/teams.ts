import { KiteError } from "@kite-mesh/kite";
import type { AccountKind, Team, TeamMember, TeamRole } from "../contract.ts";
import { type Actor, audit } from "../database/audit.ts";
import type { Log, LogTransaction } from "../database/log.ts";
import { endFor, endGrantsTo, noTeam } from "./grants.ts";

// When a grant to a team ends every member is told apart at every kite that it covered, and a kite keeps a thousand
// revocations that it has not read yet.
const MAX_MEMBERS = 500;
// The grants of all of them are asked for at every kite that the person looks at.
const MAX_TEAMS = 100;
// Names stay taken: who makes and removes teams in a loop would use up all the good ones.
const MAX_MADE = 1_000;

const PERSON = "select kind from kontrol.accounts where username = $1 and state = 'active'";
const MADE = "select count(*)::int as count from kontrol.teams where created_by = $1";
const CREATE = "insert into kontrol.teams (name, created_by) values ($1, $2) on conflict do nothing";

/**
 * Makes a team with one maintainer, who makes it unless an administrator says otherwise.
 *
 * @throws {KiteError} `already_exists` when the name was ever given, `permission_denied` for a maintainer other than oneself,
 * or one who is no person.
 */
export async function createTeam(log: Log, { name, maintainer }: { name: string; maintainer?: string | undefined }, by: Actor) {
  const username = maintainer ?? by.username;
  if (username !== by.username && !by.admin)
    throw new KiteError("permission_denied", "whoever makes a team is its first maintainer; only administrators make teams for others");
  return log.write(async (tx): Promise<Team> => {
    const kind = (await tx.query<{ kind: AccountKind }>(PERSON, [username])).rows[0]?.kind;
    if (kind === undefined) throw nobody(username);
    if (kind !== "person")
      throw new KiteError(
        "permission_denied",
        `"${username}" is a service; the first maintainer of a team is a person, who decides who is in it`,
      );
    const made = (await tx.query<{ count: number }>(MADE, [username])).rows[0]?.count ?? 0;
    if (made >= MAX_MADE && !by.admin)
      throw new KiteError(
        "limit_exceeded",
        `you have made ${made} teams, the limit, since names stay taken; let an administrator make more`,
      );
    await checkTeamsOf(tx, username);
    const { rowCount } = await tx.query(CREATE, [name, username]);
    if (rowCount === 0)
      throw new KiteError(
        "already_exists",
        `the name "${name}" is taken, or was once: names of teams are never given twice; choose another`,
      );
    await tx.query(ENTER, [name, username, "maintainer"]);
    tx.append({ kind: "team.created", name });
    tx.append({ kind: "member.added", member: { team: name, username, role: "maintainer" } });
    await audit(tx, by.username, "teams.create", name, username === by.username ? {} : { maintainer: username });
    return { name, members: [{ username, role: "maintainer" }] };
  });
}

const END = "update kontrol.teams set removed_at = now() where name = $1";
const LEAVE_ALL = "delete from kontrol.memberships where team = $1 returning username";

/** Ends a team: what was given to it, and the sessions that this opened. Who cannot see it is told that there was nothing. */
export async function removeTeam(log: Log, name: string, by: Actor, now: () => number) {
  return log.write(async (tx) => {
    const role = await roleIn(tx, name, by);
    if (role === undefined) return { removed: false };
    mustMaintain(role, name);
    const grants = await endGrantsTo(tx, name, `the team ${name} was removed`, now);
    await tx.query(END, [name]);
    const left = await tx.query<{ username: string }>(LEAVE_ALL, [name]);
    const members = left.rows.map(({ username }) => username);
    tx.append({ kind: "team.removed", name, members });
    await audit(tx, by.username, "teams.remove", name, { members, grants: grants.map(({ id }) => id) });
    return { removed: true };
  });
}

const MEMBER = "select role from kontrol.memberships where team = $1 and username = $2";
const ENTER = `
  insert into kontrol.memberships (team, username, role) values ($1, $2, $3)
  on conflict (team, username) do update set role = excluded.role`;
const ACTIVE_MEMBERS = `
  select count(*)::int as members, count(*) filter (where m.role = 'maintainer')::int as maintainers
    from kontrol.memberships m join kontrol.accounts a using (username) where team = $1 and a.state = 'active'`;

/**
 * Adds somebody, or gives another role to who is there.
 *
 * @throws {KiteError} `not_found` when there is no such team for the caller, or nobody of that name; `permission_denied` for who
 * does not maintain it; `failed_precondition` when nobody else would maintain it.
 */
export async function addMember(
  log: Log,
  { team, username, role }: { team: string; username: string; role?: TeamRole | undefined },
  by: Actor,
) {
  return log.write(async (tx): Promise<TeamMember & { added: boolean }> => {
    const own = await roleIn(tx, team, by);
    if (own === undefined) throw noTeam(team);
    mustMaintain(own, team);
    if ((await tx.query(PERSON, [username])).rowCount === 0) throw nobody(username);
    const before = (await tx.query<{ role: TeamRole }>(MEMBER, [team, username])).rows[0]?.role;
    const after = role ?? before ?? "member";
    if (before === after) return { username, role: after, added: false };
    if (before === "maintainer") await mustLeaveAnother(tx, team, by);
    if (before === undefined) await checkRoom(tx, team, username);
    await tx.query(ENTER, [team, username, after]);
    tx.append({ kind: "member.added", member: { team, username, role: after } });
    await audit(tx, by.username, "teams.add", username, { team, role: after });
    return { username, role: after, added: before === undefined };
  });
}

const LEAVE = "delete from kontrol.memberships where team = $1 and username = $2";

/** Takes somebody out of a team, and ends the sessions that its grants opened. Everybody may leave, except the last maintainer. */
export async function removeMember(log: Log, { team, username }: { team: string; username: string }, by: Actor, now: () => number) {
  return log.write(async (tx) => {
    const own = await roleIn(tx, team, by);
    if (own === undefined) return { removed: false };
    if (username !== by.username) mustMaintain(own, team);
    const before = (await tx.query<{ role: TeamRole }>(MEMBER, [team, username])).rows[0]?.role;
    if (before === undefined) return { removed: false };
    if (before === "maintainer") await mustLeaveAnother(tx, team, by);
    await tx.query(LEAVE, [team, username]);
    tx.append({ kind: "member.removed", team, username });
    await endFor(tx, { team, username }, `${username} is not in the team ${team} any more`, now);
    await audit(tx, by.username, "teams.removeMember", username, { team });
    return { removed: true };
  });
}

const TEAM = "select 1 from kontrol.teams where name = $1 and removed_at is null";

/** What somebody may do with a team; undefined: it does not exist as far as they can tell. */
async function roleIn(tx: LogTransaction, team: string, by: Actor): Promise<TeamRole | "administrator" | undefined> {
  if ((await tx.query(TEAM, [team])).rowCount === 0) return undefined;
  if (by.admin) return "administrator";
  return (await tx.query<{ role: TeamRole }>(MEMBER, [team, by.username])).rows[0]?.role;
}

function mustMaintain(role: TeamRole | "administrator", team: string): void {
  if (role === "member")
    throw new KiteError("permission_denied", `you are a member of the team "${team}"; its maintainers and administrators change it`);
}

/** A team that nobody maintains is for administrators alone to mend, so only they may make one. */
async function mustLeaveAnother(tx: LogTransaction, team: string, { admin }: Actor): Promise<void> {
  if (admin) return;
  const { maintainers = 0 } = (await tx.query<{ maintainers: number }>(ACTIVE_MEMBERS, [team])).rows[0] ?? {};
  if (maintainers > 1) return;
  throw new KiteError(
    "failed_precondition",
    `nobody else maintains the team "${team}"; make somebody a maintainer first, or remove the team`,
  );
}

async function checkRoom(tx: LogTransaction, team: string, username: string): Promise<void> {
  const { members = 0 } = (await tx.query<{ members: number }>(ACTIVE_MEMBERS, [team])).rows[0] ?? {};
  if (members >= MAX_MEMBERS) throw new KiteError("limit_exceeded", `the team "${team}" has ${members} members, the limit; make another`);
  await checkTeamsOf(tx, username);
}

const TEAMS_OF = "select count(*)::int as count from kontrol.memberships where username = $1";

async function checkTeamsOf(tx: LogTransaction, username: string): Promise<void> {
  const teams = (await tx.query<{ count: number }>(TEAMS_OF, [username])).rows[0]?.count ?? 0;
  if (teams >= MAX_TEAMS) throw new KiteError("limit_exceeded", `"${username}" is in ${teams} teams, the limit; leave one first`);
}

function nobody(username: string): KiteError {
  return new KiteError("not_found", `there is nobody called "${username}"`);
}
