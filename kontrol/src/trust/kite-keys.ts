import { randomUUID } from "node:crypto";
import { type Caller, KiteError } from "@kite-mesh/kite";
import { SignJWT } from "jose";
import type { Pool } from "pg";
import type { KiteKeyInfo } from "../contract.ts";
import { audit } from "../database/audit.ts";
import { ask } from "../database/connection.ts";
import type { Log, LogTransaction } from "../database/log.ts";
import { removeKites, revoke } from "./revocations.ts";
import { type SigningKey, type SigningKeys, signedAt } from "./signing-keys.ts";

export interface KiteKeyOptions {
  readonly keys: SigningKeys;
  /** Signs in place of the current key: an RS256 one, for kites that can only verify that. */
  readonly signingKey?: SigningKey;
  /** For a machine: whoever works there can read it, so it opens less than its owner's. */
  readonly machine?: boolean;
  /** The name under which kontrol signs. */
  readonly issuer: string;
  /** Where the bearer of the key finds kontrol. */
  readonly kontrolUrl: string;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
  /** Counts a kite.key that an account gets; throws when it has had too many lately. Default: nobody counts. */
  readonly spend?: ((username: string) => void) | undefined;
}

const ACTIVE = "select 1 from kontrol.accounts where username = $1 and state = 'active'";
const ADD = "insert into kontrol.kite_keys (jti, username, kid, machine) values ($1, $2, $3, $4)";

/**
 * Signs a kite.key for an account, inside the transaction that has the reason for it. Only its id is kept.
 *
 * @throws {KiteError} `not_found` when there is no such active account, `overloaded` when it got too many lately; what was shown
 * for it is as good as before then.
 */
export async function issueKiteKey(tx: LogTransaction, username: string, options: KiteKeyOptions): Promise<string> {
  const { keys, machine = false, signingKey = keys.current } = options;
  const { rowCount } = await tx.query(ACTIVE, [username]);
  if (rowCount === 0) throw new KiteError("not_found", `there is no active account "${username}"`);
  options.spend?.(username);
  const jti = randomUUID();
  await tx.query(ADD, [jti, username, signingKey.kid, machine]);
  tx.append({ kind: "key.issued", jti, username, machine });
  return sign({ username, jti, machine }, signingKey, options);
}

/** The document itself. */
function sign(
  { username, jti, machine }: { username: string; jti: string; machine: boolean },
  { kid, alg, private: key, publicPem }: SigningKey,
  options: KiteKeyOptions,
) {
  const { issuer, kontrolUrl, now } = options;
  const iat = signedAt(alg, now(), "older");
  // Kites that are shown a machine's kite.key must be able to tell, without asking here.
  const kind = machine ? { machine } : {};
  const claims = { iss: issuer, sub: username, iat, jti, ...kind, kontrolURL: dialledAt(kontrolUrl, alg), kontrolKey: publicPem };
  return new SignJWT(claims).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(key);
}

/** A kite.key that was signed anew. */
export interface RenewedKiteKey {
  readonly kiteKey: string;
  readonly signingKey: SigningKey;
}

const RENEW = "update kontrol.kite_keys set kid = $2 where jti::text = $1 and revoked_at is null returning machine";

/**
 * Signs the kite.key of a caller anew when the key that signed it was retired; undefined when nothing is to be done. It is
 * the same kite.key to everybody who knows it by its id, so revoking it ends both documents.
 */
export async function renewKiteKey(
  log: Log,
  { username, credential }: Caller,
  options: KiteKeyOptions,
): Promise<RenewedKiteKey | undefined> {
  const { keys } = options;
  const old = keys.get(credential?.kid ?? "");
  if (credential?.type !== "kiteKey" || credential.jti === undefined || old?.state !== "retired") return undefined;
  const { jti } = credential;
  const signingKey = await keys.ensure(old.alg, log);
  const { result: renewed } = await log.write(async (tx) => {
    const [key] = (await tx.query<{ machine: boolean }>(RENEW, [jti, signingKey.kid])).rows;
    if (key !== undefined) await audit(tx, username, "keys.renew", username, { jti, from: old.kid, to: signingKey.kid });
    return key;
  });
  if (renewed === undefined) return undefined;
  return { kiteKey: await sign({ username, jti, machine: renewed.machine }, signingKey, options), signingKey };
}

/** Kites in Go put their SockJS paths behind what they are given, and expect it to end so. */
function dialledAt(kontrolUrl: string, alg: SigningKey["alg"]): string {
  return alg === "RS256" ? `${kontrolUrl}/kite` : kontrolUrl;
}

// A screen or two; who looks for an older one names whose it is.
const PAGE = 100;
const ISSUED = `
  select jti, username, machine, to_char(issued_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "issuedAt",
         to_char(coalesce(kite_keys.revoked_at, k.revoked_at) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "revokedAt"
    from kontrol.kite_keys left join kontrol.keys k using (kid) where $1::text is null or username = $1
   order by kite_keys.issued_at desc, jti limit $2`;

/** The kite.keys that were issued, the newest first. */
export async function listKiteKeys(
  pool: Pool,
  { username, limit = PAGE }: { username?: string | undefined; limit?: number | undefined },
): Promise<KiteKeyInfo[]> {
  return (await ask<KiteKeyInfo>(pool, ISSUED, [username ?? null, limit])).rows;
}

const REVOKE = "update kontrol.kite_keys set revoked_at = now() where jti::text = $1 and revoked_at is null returning username";
const OWNER = "select username from kontrol.kite_keys where jti::text = $1";

/**
 * Ends a kite.key: every session and token that came from it, and the kites that registered with it. Somebody else's
 * key is only for administrators; to others it does not exist.
 */
export async function revokeKiteKey(log: Log, jti: string, by: { username: string; admin: boolean }, now: () => number) {
  return log.write(async (tx) => {
    const owner = (await tx.query<{ username: string }>(OWNER, [jti])).rows[0]?.username;
    if (owner === undefined || (owner !== by.username && !by.admin)) return { revoked: false };
    const { rowCount } = await tx.query(REVOKE, [jti]);
    if (rowCount === 0) return { revoked: false };
    const reason = "the kite.key was revoked";
    await revoke(tx, { jti, reason }, now());
    await removeKites(tx, { jti }, reason);
    await audit(tx, by.username, "keys.revoke", owner, { jti });
    return { revoked: true };
  });
}
