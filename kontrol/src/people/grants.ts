import { KiteError, matcher, type Query, type Role } from "@kite-mesh/kite";
import type { Grant, GrantReceiver } from "../contract.ts";
import { type Actor, audit } from "../database/audit.ts";
import type { Log, LogTransaction } from "../database/log.ts";
import type { GrantRecord, PersonalGrant, TeamGrant } from "../database/record.ts";
import { revokeAccess } from "../trust/revocations.ts";

export type NewGrant = GrantReceiver & {
  readonly role: Role;
  readonly query: Query;
  /** In milliseconds since the epoch. */
  readonly expiresAt?: number | undefined;
};

const ACTIVE = "select 1 from kontrol.accounts where username = $1 and state = 'active'";
const KNOWN_TEAM = `
  select 1 from kontrol.teams where name = $1 and removed_at is null
     and ($3 or exists (select 1 from kontrol.memberships where team = $1 and username = $2))`;
const COUNT = `
  select (select count(*) from kontrol.grants where owner = $1 and removed_at is null)::int
       + (select count(*) from kontrol.team_grants where owner = $1 and removed_at is null)::int as given,
         (select count(*) from kontrol.team_grants where team = $2 and removed_at is null)::int as received`;
// Every one is kept in memory, and asked for every kite that its receiver looks at.
const MAX_GRANTS = 1_000;
// When somebody leaves a team, each of them is looked at in one transaction, while everybody else waits.
const MAX_TEAM_GRANTS = 1_000;
const ADD = `
  insert into kontrol.grants (owner, username, role, query, expires_at) values ($1, $2, $3, $4, to_timestamp($5::float8 / 1000))
  returning id`;
const ADD_TEAM = `
  insert into kontrol.team_grants (owner, team, role, query, expires_at) values ($1, $2, $3, $4, to_timestamp($5::float8 / 1000))
  returning id`;

/**
 * Gives somebody, or a team that the owner knows, a role on one's own kites; `done` says who did it when it was not the owner.
 *
 * @throws {KiteError} `permission_denied` for kites of others, `not_found` when there is nobody, or no team, of that name.
 */
export async function addGrant(log: Log, by: Actor, { role, query, expiresAt, ...receiver }: NewGrant, done = by.username) {
  const owner = by.username;
  const to = "team" in receiver ? receiver.team : receiver.username;
  if ((query.username || owner) !== owner) {
    throw new KiteError("permission_denied", `a grant is for one's own kites; the query names those of "${query.username}"`);
  }
  if ("username" in receiver && to === owner) throw new KiteError("invalid_argument", "you are the owner of your kites already");
  const own = { ...query, username: owner };
  matcher(own); // a version that cannot be read is said now, not whenever somebody looks
  return log.write(async (tx): Promise<Grant> => {
    await checkReceiver(tx, by, receiver);
    await checkRoom(tx, owner, receiver);
    const values = [owner, to, role, own, expiresAt ?? null];
    const [row] = (await tx.query<{ id: string }>("team" in receiver ? ADD_TEAM : ADD, values)).rows;
    const terms = { id: row?.id ?? "", owner, role, query: own, expiresAt: expiresAt ?? null };
    if ("team" in receiver) tx.append({ kind: "team-grant.added", grant: { ...terms, team: receiver.team } });
    else tx.append({ kind: "grant.added", grant: { ...terms, username: receiver.username } });
    const details = { grant: terms.id, role, query: own, expiresAt: terms.expiresAt };
    await audit(tx, done, "grants.add", to, "team" in receiver ? { ...details, team: to } : details);
    return { ...terms, ...receiver };
  });
}

async function checkRoom(tx: LogTransaction, owner: string, receiver: GrantReceiver): Promise<void> {
  const team = "team" in receiver ? receiver.team : null;
  const { given = 0, received = 0 } = (await tx.query<{ given: number; received: number }>(COUNT, [owner, team])).rows[0] ?? {};
  if (given >= MAX_GRANTS) throw new KiteError("limit_exceeded", `you have given ${given} grants, the limit; remove some first`);
  if (received >= MAX_TEAM_GRANTS)
    throw new KiteError("limit_exceeded", `the team "${team}" was given ${received} grants, the limit; let some be removed first`);
}

async function checkReceiver(tx: LogTransaction, by: Actor, receiver: GrantReceiver): Promise<void> {
  if ("team" in receiver) {
    const { rowCount } = await tx.query(KNOWN_TEAM, [receiver.team, by.username, by.admin]);
    if (rowCount === 0) throw noTeam(receiver.team);
    return;
  }
  const { rowCount } = await tx.query(ACTIVE, [receiver.username]);
  if (rowCount === 0) throw new KiteError("not_found", `there is nobody called "${receiver.username}"`);
}

const RETURNING = `id, owner, role, query, null::float8 as "expiresAt"`;
const END = `update kontrol.grants set removed_at = now() where id::text = $1 and removed_at is null returning ${RETURNING}, username`;
const END_TEAM = `update kontrol.team_grants set removed_at = now() where id::text = $1 and removed_at is null returning ${RETURNING}, team`;
const OWNER = `
  select owner from kontrol.grants where id::text = $1 and removed_at is null
  union all select owner from kontrol.team_grants where id::text = $1 and removed_at is null`;

/** Ends a grant, and the sessions that it may have opened. Somebody else's is only for administrators; to others it does not exist. */
export async function removeGrant(log: Log, id: string, by: Actor, now: () => number) {
  return log.write(async (tx) => {
    const owner = (await tx.query<{ owner: string }>(OWNER, [id])).rows[0]?.owner;
    if (owner === undefined || (owner !== by.username && !by.admin)) return { removed: false };
    const grants = [...(await tx.query<PersonalGrant>(END, [id])).rows, ...(await tx.query<TeamGrant>(END_TEAM, [id])).rows];
    await ended(tx, grants, "a grant was taken back", now);
    await audit(tx, by.username, "grants.remove", owner, { grant: id });
    return { removed: grants.length > 0 };
  });
}

const DUE = "removed_at is null and expires_at <= to_timestamp($1::float8 / 1000)";
const EXPIRE = `update kontrol.grants set removed_at = now() where ${DUE} returning ${RETURNING}, username`;
const EXPIRE_TEAM = `update kontrol.team_grants set removed_at = now() where ${DUE} returning ${RETURNING}, team`;

/** Ends the grants whose time has come. Until this has run nobody gets a token from them either; it ends what is open. */
export async function expireGrants(log: Log, now: () => number) {
  return log.write(async (tx) => {
    const at = now();
    const grants = [...(await tx.query<PersonalGrant>(EXPIRE, [at])).rows, ...(await tx.query<TeamGrant>(EXPIRE_TEAM, [at])).rows];
    await ended(tx, grants, "a grant ended", now);
    for (const grant of grants) await audit(tx, "kontrol", "grants.expire", grant.owner, { grant: grant.id });
  });
}

const END_OF = `
  update kontrol.grants set removed_at = now() where (username = $1 or owner = $1) and removed_at is null returning ${RETURNING}, username`;
const END_TEAM_OF = `update kontrol.team_grants set removed_at = now() where owner = $1 and removed_at is null returning ${RETURNING}, team`;

/** Ends what somebody gave and got. */
export async function endGrantsOf(
  tx: LogTransaction,
  username: string,
  reason: string,
  now: () => number,
): Promise<readonly GrantRecord[]> {
  const personal = await tx.query<PersonalGrant>(END_OF, [username]);
  const team = await tx.query<TeamGrant>(END_TEAM_OF, [username]);
  const grants = [...personal.rows, ...team.rows];
  await ended(tx, grants, reason, now);
  return grants;
}

const END_TO = `update kontrol.team_grants set removed_at = now() where team = $1 and removed_at is null returning ${RETURNING}, team`;

/** Ends what was given to a team. Its members must still be in the table. */
export async function endGrantsTo(tx: LogTransaction, team: string, reason: string, now: () => number): Promise<readonly TeamGrant[]> {
  const { rows } = await tx.query<TeamGrant>(END_TO, [team]);
  await ended(tx, rows, reason, now);
  return rows;
}

const GIVEN_TO = `select ${RETURNING}, team from kontrol.team_grants where team = $1 and removed_at is null`;

/** Takes from somebody what a team was given, without ending it for the others. */
export async function endFor(
  tx: LogTransaction,
  { team, username }: { team: string; username: string },
  reason: string,
  now: () => number,
) {
  const { rows } = await tx.query<TeamGrant>(GIVEN_TO, [team]);
  await revokeAccess(
    tx,
    rows.map((grant) => ({ grant, usernames: [username] })),
    reason,
    now,
  );
}

const MEMBERS = `
  select team, array_agg(username) as usernames
    from kontrol.memberships join kontrol.accounts a using (username) where team = any($1) and a.state = 'active' group by team`;

async function ended(tx: LogTransaction, grants: readonly GrantRecord[], reason: string, now: () => number): Promise<void> {
  if (grants.length === 0) return;
  for (const { id, username, team } of grants) {
    if (team === undefined) tx.append({ kind: "grant.removed", id, username });
    else tx.append({ kind: "team-grant.removed", id, team });
  }
  const teams = grants.flatMap(({ team }) => team ?? []);
  const { rows } = await tx.query<{ team: string; usernames: string[] }>(MEMBERS, [teams]);
  const members = new Map(rows.map(({ team, usernames }) => [team, usernames]));
  const receivers = (grant: GrantRecord) => (grant.team === undefined ? [grant.username] : (members.get(grant.team) ?? []));
  const over = grants.map((grant) => ({ grant, usernames: receivers(grant) }));
  await revokeAccess(tx, over, reason, now);
}

/** The one answer about a team that is not there, and about one that the caller may not see. */
export function noTeam(name: string): KiteError {
  return new KiteError("not_found", `there is no team "${name}", or you are not in it`);
}
