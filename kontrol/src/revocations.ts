import type { LogTransaction } from "./log.ts";
import type { RevocationRecord } from "./record.ts";

const ADD =
  "insert into kontrol.revocations (revision, username, jti, kite, reason, at) values ($1, $2, $3, $4, $5, to_timestamp($6::float8 / 1000))";

/** Says that something stopped being valid: to everybody who follows the log now, and to kites that come later. */
export async function revoke(tx: LogTransaction, revocation: RevocationRecord, at: number): Promise<void> {
  const revision = tx.append({ kind: "revoked", revocation, at });
  const { username = null, jti = null, kite = null, reason } = revocation;
  await tx.query(ADD, [revision, username, jti, kite, reason, at]);
}

const BURY = `
  update kontrol.kites set gone_at = now(), gone_reason = $3
   where gone_at is null and ($1::text is null or username = $1) and ($2::text is null or jti::text = $2)
  returning id, generation::float8 as generation`;

/** Takes the kites of an account, or of one kite.key, out of the directory. */
export async function removeKites(tx: LogTransaction, whose: { username: string } | { jti: string }, reason: string): Promise<void> {
  const username = "username" in whose ? whose.username : null;
  const jti = "jti" in whose ? whose.jti : null;
  const { rows } = await tx.query<{ id: string; generation: number }>(BURY, [username, jti, reason]);
  for (const { id, generation } of rows) tx.append({ kind: "kite.gone", id, generation, reason });
}
