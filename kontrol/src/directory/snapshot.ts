import type { ClientBase } from "pg";
import {
  type AccountRecord,
  type Change,
  type KiteRecord,
  type MemberRecord,
  type PersonalGrant,
  RECORD,
  type RevocationRecord,
  type TeamGrant,
} from "../database/record.ts";
import { type IssuedKey, type Snapshot, TAIL } from "./directory.ts";
import { retrace } from "./retrace.ts";

const HEAD = "select revision::float8 as revision from kontrol.head";
const ACCOUNTS = "select username, kind, admin, state from kontrol.accounts";
const KEYS = "select jti, username, revoked_at is not null as revoked, machine from kontrol.kite_keys";
// An instance that was written with another generation is not of this registration: a version that knows none went over it.
const KITES = `
  select ${RECORD}, case when instance_at = generation then instance end as instance from kontrol.kites k where gone_at is null`;
const GRANTS = `
  select id, owner, username, role, query, round(extract(epoch from date_trunc('milliseconds', expires_at)) * 1000)::float8 as "expiresAt"
    from kontrol.grants where removed_at is null`;
const TEAM_GRANTS = `
  select id, owner, team, role, query, round(extract(epoch from date_trunc('milliseconds', expires_at)) * 1000)::float8 as "expiresAt"
    from kontrol.team_grants where removed_at is null`;
const TEAMS = "select name from kontrol.teams where removed_at is null";
// Of accounts that were removed by a version that knows no teams rows are left; the log takes them out by the account.
const MEMBERS = `
  select team, username, m.role from kontrol.memberships m join kontrol.accounts a using (username) where a.state = 'active'`;
const REVOCATIONS = `
  select revision::float8 as revision, round(extract(epoch from date_trunc('milliseconds', at)) * 1000)::float8 as at,
         jsonb_strip_nulls(jsonb_build_object('username', username, 'jti', jti, 'kite', kite, 'kid', kid, 'reason', reason)) as revoked
    from kontrol.revocations where at > now() - $1 * interval '1 millisecond' order by revision`;

const LAST = "select revision::float8 as revision, kind, data from kontrol.log order by revision desc limit $1";

/** Reads all tables as they were at one revision: one transaction sees one state. */
export async function readSnapshot(client: ClientBase, revocationsMs: number): Promise<Snapshot> {
  await client.query("begin isolation level repeatable read read only");
  try {
    const head = await client.query<{ revision: number }>(HEAD);
    const kites = await client.query<KiteRecord>(KITES);
    const accounts = await client.query<AccountRecord>(ACCOUNTS);
    const grants = await client.query<PersonalGrant>(GRANTS);
    const teamGrants = await client.query<TeamGrant>(TEAM_GRANTS);
    const teams = await client.query<{ name: string }>(TEAMS);
    const members = await client.query<MemberRecord>(MEMBERS);
    const keys = await client.query<IssuedKey>(KEYS);
    const revocations = await client.query<{ revision: number; at: number; revoked: RevocationRecord }>(REVOCATIONS, [revocationsMs]);
    const last = await client.query<{ revision: number; kind: string; data: object }>(LAST, [TAIL]);
    const revision = head.rows[0]?.revision ?? 0;
    // The log is written by kontrol alone, from the same type.
    const entries = last.rows.reverse().map(({ revision, kind, data }) => ({ revision, change: { kind, ...data } as Change }));
    return {
      revision,
      kites: kites.rows,
      accounts: accounts.rows,
      grants: [...grants.rows, ...teamGrants.rows],
      teams: teams.rows.map(({ name }) => name),
      members: members.rows,
      keys: keys.rows,
      revocations: revocations.rows.map(({ revoked, revision, at }) => ({ ...revoked, revision, at })),
      past: retrace(kites.rows, revision, entries),
    };
  } finally {
    await client.query("commit");
  }
}
