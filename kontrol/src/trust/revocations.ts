import { type Identity, matcher } from "@kite-mesh/kite";
import type { LogTransaction } from "../database/log.ts";
import { type GrantRecord, type KiteRecord, RECORD, type RevocationRecord } from "../database/record.ts";

const ADD = `
  insert into kontrol.revocations (revision, username, jti, kite, kid, reason, at)
  select revision, username, jti, kite, kid, reason, to_timestamp($2::float8 / 1000)
    from jsonb_to_recordset($1) as revoked (revision bigint, username text, jti text, kite text, kid text, reason text)`;

/** Says that something stopped being valid: to everybody who follows the log now, and to kites that come later. */
export async function revoke(tx: LogTransaction, revoked: RevocationRecord | readonly RevocationRecord[], at: number): Promise<void> {
  const rows = [revoked].flat().map((revocation) => ({ ...revocation, revision: tx.append({ kind: "revoked", revocation, at }) }));
  if (rows.length > 0) await tx.query(ADD, [JSON.stringify(rows), at]);
}

// Those that left within the last hour may still have sessions, and hear of it when they come back.
const KITES_OF = `
  select jsonb_build_object('username', username, 'environment', environment, 'name', name, 'version', version,
                            'region', region, 'hostname', hostname, 'id', id) as kite
    from kontrol.kites where username = any($1) and (gone_at is null or gone_at > now() - interval '1 hour')`;
// About a second's work, while everything else that is written waits.
const REVOCATIONS_AT_ONCE = 5_000;

/**
 * Ends the sessions that these may have by these grants, also those that another grant would open as well: nobody knows by
 * which one a session was opened, and who still has another connects again. Owners keep their own.
 */
export async function revokeAccess(
  tx: LogTransaction,
  over: readonly { grant: GrantRecord; usernames: readonly string[] }[],
  reason: string,
  now: () => number,
): Promise<void> {
  const owners = [...new Set(over.map(({ grant }) => grant.owner))];
  const { rows } = await tx.query<{ kite: Identity }>(KITES_OF, [owners]);
  const kites = new Map<string, Identity[]>(owners.map((owner) => [owner, []]));
  for (const { kite } of rows) kites.get(kite.username)?.push(kite);
  const losing = new Map<string, Set<string>>();
  for (const { grant, usernames } of over) {
    const covers = matcher({ ...grant.query, username: grant.owner });
    for (const kite of kites.get(grant.owner) ?? []) {
      if (!covers(kite)) continue;
      const those = losing.get(kite.id) ?? new Set<string>();
      for (const username of usernames) if (username !== grant.owner) those.add(username);
      losing.set(kite.id, those);
    }
  }
  // Read last: whatever was given out while this waited for its turn is from before, too.
  await revoke(tx, revocations(losing, reason), now());
}

const KITES_OF_SERVICES = `
  select k.id from kontrol.kites k join kontrol.accounts a using (username)
   where a.kind = 'service' and k.username <> $1 and (k.gone_at is null or k.gone_at > now() - interval '1 hour')`;

/** Ends what somebody opened as an administrator, whom every service's kite takes for its owner; kontrol itself is one of them. */
export async function revokeAdministration(tx: LogTransaction, username: string, now: () => number): Promise<void> {
  const { rows } = await tx.query<{ id: string }>(KITES_OF_SERVICES, [username]);
  const reason = `${username} is no administrator any more`;
  const revoked = rows.map(({ id }): RevocationRecord => ({ username, kite: id, reason }));
  await revoke(tx, revoked, now());
}

function revocations(losing: ReadonlyMap<string, ReadonlySet<string>>, reason: string): RevocationRecord[] {
  const count = [...losing.values()].reduce((sum, usernames) => sum + usernames.size, 0);
  return [...losing].flatMap(([kite, usernames]): RevocationRecord[] => {
    // Everybody at once: those who may stay connect again.
    if (count > REVOCATIONS_AT_ONCE && usernames.size > 1) return [{ kite, reason }];
    return [...usernames].map((username) => ({ username, kite, reason }));
  });
}

const BURY = `
  update kontrol.kites k set gone_at = now(), gone_reason = $3
   where gone_at is null and ($1::text is null or username = $1) and ($2::text is null or jti::text = $2) and ($4::text is null or visibility = $4)
     and ($5::text is null or kid = $5)
  returning ${RECORD}`;

type Whose =
  | { readonly username: string; readonly visibility?: KiteRecord["visibility"] }
  | { readonly jti: string }
  | { readonly kid: string };

/**
 * Takes the kites of an account, of one kite.key, or of all kite.keys that a key signed, out of the directory; of an account also
 * those alone that are so visible.
 */
export async function removeKites(tx: LogTransaction, whose: Whose, reason: string): Promise<void> {
  const { username, visibility, jti, kid }: { [K in "username" | "visibility" | "jti" | "kid"]?: string } = whose;
  const { rows } = await tx.query<KiteRecord>(BURY, [username ?? null, jti ?? null, reason, visibility ?? null, kid ?? null]);
  for (const before of rows) tx.append({ kind: "kite.gone", id: before.kite.id, generation: before.generation, reason, before });
}
