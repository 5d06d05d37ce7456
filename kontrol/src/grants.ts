import { type Identity, KiteError, matcher, type Query, type Role } from "@kite-mesh/kite";
import { audit } from "./audit.ts";
import type { Grant } from "./contract.ts";
import type { Log, LogTransaction } from "./log.ts";
import type { GrantRecord } from "./record.ts";
import { revoke } from "./revocations.ts";

export interface NewGrant {
  readonly username: string;
  readonly role: Role;
  readonly query: Query;
  /** In milliseconds since the epoch. */
  readonly expiresAt?: number | undefined;
}

const ACTIVE = "select 1 from kontrol.accounts where username = $1 and state = 'active'";
const COUNT = "select count(*)::int as count from kontrol.grants where owner = $1 and removed_at is null";
// Every one is kept in memory, and asked for every kite that its receiver looks at.
const MAX_GRANTS = 1_000;
const ADD = `
  insert into kontrol.grants (owner, username, role, query, expires_at) values ($1, $2, $3, $4, to_timestamp($5::float8 / 1000))
  returning id`;

/**
 * Gives somebody a role on one's own kites, or for whoever runs kontrol on those of `owner`.
 *
 * @throws {KiteError} `permission_denied` for kites of others, `not_found` when there is nobody of that name.
 */
export async function addGrant(log: Log, owner: string, { username, role, query, expiresAt }: NewGrant, by = owner) {
  if ((query.username || owner) !== owner) {
    throw new KiteError("permission_denied", `a grant is for one's own kites; the query names those of "${query.username}"`);
  }
  if (username === owner) throw new KiteError("invalid_argument", "you are the owner of your kites already");
  const own = { ...query, username: owner };
  matcher(own); // a version that cannot be read is said now, not whenever somebody looks
  return log.write(async (tx): Promise<Grant> => {
    const { rowCount } = await tx.query(ACTIVE, [username]);
    if (rowCount === 0) throw new KiteError("not_found", `there is nobody called "${username}"`);
    const given = (await tx.query<{ count: number }>(COUNT, [owner])).rows[0]?.count ?? 0;
    if (given >= MAX_GRANTS) throw new KiteError("limit_exceeded", `you have given ${given} grants, the limit; remove some first`);
    const [row] = (await tx.query<{ id: string }>(ADD, [owner, username, role, own, expiresAt ?? null])).rows;
    const grant = { id: row?.id ?? "", owner, username, role, query: own, expiresAt: expiresAt ?? null };
    tx.append({ kind: "grant.added", grant });
    await audit(tx, by, "grants.add", username, { grant: grant.id, role, query: own, expiresAt: grant.expiresAt });
    return grant;
  });
}

const END = `
  update kontrol.grants set removed_at = now() where id::text = $1 and removed_at is null
  returning id, owner, username, role, query, null::float8 as "expiresAt"`;
const OWNER = "select owner from kontrol.grants where id::text = $1 and removed_at is null";

/** Ends a grant, and the sessions that it may have opened. Somebody else's is only for administrators; to others it does not exist. */
export async function removeGrant(log: Log, id: string, by: { username: string; admin: boolean }, now: number) {
  return log.write(async (tx) => {
    const owner = (await tx.query<{ owner: string }>(OWNER, [id])).rows[0]?.owner;
    if (owner === undefined || (owner !== by.username && !by.admin)) return { removed: false };
    const { rows } = await tx.query<GrantRecord>(END, [id]);
    for (const grant of rows) await end(tx, grant, "a grant was taken back", now);
    await audit(tx, by.username, "grants.remove", owner, { grant: id });
    return { removed: rows.length > 0 };
  });
}

const EXPIRE = `
  update kontrol.grants set removed_at = now() where removed_at is null and expires_at <= to_timestamp($1::float8 / 1000)
  returning id, owner, username, role, query, null::float8 as "expiresAt"`;

/** Ends the grants whose time has come. Until this has run nobody gets a token from them either; it ends what is open. */
export async function expireGrants(log: Log, now: number) {
  return log.write(async (tx) => {
    const { rows } = await tx.query<GrantRecord>(EXPIRE, [now]);
    for (const grant of rows) {
      await end(tx, grant, "a grant ended", now);
      await audit(tx, "kontrol", "grants.expire", grant.owner, { grant: grant.id });
    }
  });
}

// Those that left within the last hour may still have sessions, and hear of it when they come back.
const KITES_OF = `
  select jsonb_build_object('username', username, 'environment', environment, 'name', name, 'version', version,
                            'region', region, 'hostname', hostname, 'id', id) as kite
    from kontrol.kites where username = $1 and (gone_at is null or gone_at > now() - interval '1 hour')`;

async function end(tx: LogTransaction, grant: GrantRecord, reason: string, now: number): Promise<void> {
  tx.append({ kind: "grant.removed", id: grant.id, username: grant.username });
  const covers = matcher(grant.query);
  const { rows } = await tx.query<{ kite: Identity }>(KITES_OF, [grant.owner]);
  for (const { kite } of rows) if (covers(kite)) await revoke(tx, { username: grant.username, kite: kite.id, reason }, now);
}
