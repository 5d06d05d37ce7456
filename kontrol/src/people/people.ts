import { KiteError } from "@kite-mesh/kite";
import type { Pool } from "pg";
import type { AccountKind, ExternalIdentity, NewPerson, Person } from "../contract.ts";
import { audit } from "../database/audit.ts";
import { ask } from "../database/connection.ts";
import type { Log, LogTransaction } from "../database/log.ts";
import { removeKites, revoke, revokeAdministration } from "../trust/revocations.ts";
import { endGrantsOf } from "./grants.ts";
import { checkNewUsername, taken } from "./usernames.ts";

export interface NewAccount {
  readonly username: string;
  readonly kind: AccountKind;
  readonly admin: boolean;
  readonly name?: string | undefined;
}

const SELECT = `
  select username, name, email, kind, admin, state,
         coalesce((select jsonb_agg(jsonb_build_object('issuer', i.issuer, 'subject', i.subject) order by i.issuer, i.subject)
                     from kontrol.identities i where i.username = a.username), '[]') as external,
         to_char(created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "createdAt"
    from kontrol.accounts a`;
const LIST = `${SELECT} order by username`;
const GET = `${SELECT} where username = $1`;

export async function listPeople(pool: Pool): Promise<Person[]> {
  return (await ask<Person>(pool, LIST)).rows;
}

/** @throws {KiteError} `not_found`. */
export async function getPerson(pool: Pool, username: string): Promise<Person> {
  const [person] = (await ask<Person>(pool, GET, [username])).rows;
  if (person === undefined) throw nobody(username);
  return person;
}

const ENSURE = `
  insert into kontrol.accounts (username, kind, admin, name) values ($1, $2, $3, coalesce($4, $1))
  on conflict (username) do update set kind = excluded.kind, admin = excluded.admin, name = coalesce($4, accounts.name)
    where (accounts.kind, accounts.admin) is distinct from (excluded.kind, excluded.admin) or ($4 is not null and accounts.name <> $4)
  returning username, kind, admin, state`;

const KNOWN = "select admin and state = 'active' as admin from kontrol.accounts where username = $1";

/**
 * Makes sure that an account is there, for whoever runs this kontrol. Nothing is written when it is as it should be. Who is
 * no administrator any more loses what that opened, with the sessions.
 *
 * @throws {KiteError} `already_exists` when the name looks like another's, `invalid_argument` when it is none.
 */
export async function ensureAccount(
  log: Log,
  { username, kind, admin, name }: NewAccount,
  { by = "kontrol", now = Date.now }: { by?: string; now?: () => number } = {},
): Promise<{ revision: number }> {
  return log.write(async (tx) => {
    const [known] = (await tx.query<{ admin: boolean }>(KNOWN, [username])).rows;
    if (known === undefined) await checkNewUsername(tx, username);
    const demoted = known?.admin === true && !admin;
    const { rows } = await tx.query<{ username: string; kind: AccountKind; admin: boolean; state: Person["state"] }>(ENSURE, [
      username,
      kind,
      admin,
      name ?? null,
    ]);
    for (const account of rows) {
      tx.append({ kind: "account.changed", account });
      await audit(tx, by, "accounts.ensure", username, { kind, admin });
    }
    // Behind the change: whoever hears of it connects again with the rights that are left.
    if (!demoted) return;
    await revokeAdministration(tx, username, now);
    // Only administrators and services show theirs to everybody. They register again, and are told so then.
    const reason = `${username} is no administrator any more, so its kites are not visible to the whole mesh`;
    if (kind === "person") await removeKites(tx, { username, visibility: "mesh" }, reason);
  });
}

const BY_EXTERNAL = "select username from kontrol.identities where issuer = $1 and subject = $2";
const ADD = "insert into kontrol.accounts (username, kind, name, email) values ($1, 'person', $2, $3) on conflict do nothing";
const ADD_EXTERNAL = "insert into kontrol.identities (issuer, subject, username) values ($1, $2, $3)";

/**
 * Enters a person. The same outside identity always gets the same person, one who was removed too: a late delivery must
 * not bring somebody back. A username is never given twice, not even after its first bearer left.
 *
 * @throws {KiteError} `already_exists` when the username is somebody else's.
 */
export async function createPerson(log: Log, person: NewPerson, by: string) {
  return log.write(async (tx) => {
    const { username, name = username, email = null, external } = person;
    if (external !== undefined) {
      const known = (await tx.query<{ username: string }>(BY_EXTERNAL, [external.issuer, external.subject])).rows[0];
      if (known !== undefined) return { person: await read(tx, known.username), created: false };
    }
    await checkNewUsername(tx, username);
    if ((await tx.query(ADD, [username, name, email])).rowCount === 0) throw taken(username);
    if (external !== undefined) await tx.query(ADD_EXTERNAL, [external.issuer, external.subject, username]);
    tx.append({ kind: "account.changed", account: { username, kind: "person", admin: false, state: "active" } });
    await audit(tx, by, "people.create", username, external === undefined ? {} : { external });
    return { person: await read(tx, username), created: true };
  });
}

const LOOK = "select username, kind, admin from kontrol.accounts where username = $1 and state = 'active'";
const REMOVE = "update kontrol.accounts set state = 'removed', admin = false, removed_at = now() where username = $1";
const END_KEYS = "update kontrol.kite_keys set revoked_at = now() where username = $1 and revoked_at is null";
const END_PASSWORD = "delete from kontrol.passwords where username = $1";
const LEAVE_TEAMS = "delete from kontrol.memberships where username = $1 returning team";

/** Ends a person's access: account, keys, grants, memberships and kites in one transaction, and everybody who holds a session is told. */
export async function removePerson(log: Log, who: { username: string } | { external: ExternalIdentity }, by: string, now: () => number) {
  return log.write(async (tx): Promise<{ removed: boolean; username?: string }> => {
    const username = "username" in who ? who.username : await usernameOf(tx, who.external);
    if (username === undefined) return { removed: false };
    const [account] = (await tx.query<{ kind: AccountKind; admin: boolean }>(LOOK, [username])).rows;
    if (account === undefined) return { removed: false };
    if (account.kind === "service") throw new KiteError("failed_precondition", `"${username}" is a service of this mesh, not a person`);
    if (username === by) throw new KiteError("failed_precondition", "you cannot remove yourself; let another administrator do it");
    await tx.query(REMOVE, [username]);
    await tx.query(END_KEYS, [username]);
    await tx.query(END_PASSWORD, [username]);
    const reason = "the person was removed";
    tx.append({ kind: "account.changed", account: { username, kind: "person", admin: false, state: "removed" } });
    const grants = await endGrantsOf(tx, username, reason, now);
    const left = await tx.query<{ team: string }>(LEAVE_TEAMS, [username]);
    await revoke(tx, { username, reason }, now());
    await removeKites(tx, { username }, reason);
    // Each was given by an entry of its own, and ends by this one.
    await audit(tx, by, "people.remove", username, { grants: grants.map(({ id }) => id), teams: left.rows.map(({ team }) => team) });
    return { removed: true, username };
  });
}

async function usernameOf(tx: LogTransaction, { issuer, subject }: ExternalIdentity): Promise<string | undefined> {
  return (await tx.query<{ username: string }>(BY_EXTERNAL, [issuer, subject])).rows[0]?.username;
}

async function read(tx: LogTransaction, username: string): Promise<Person> {
  const [person] = (await tx.query<Person>(GET, [username])).rows;
  if (person === undefined) throw nobody(username);
  return person;
}

function nobody(username: string): KiteError {
  return new KiteError("not_found", `there is nobody called "${username}"`);
}
