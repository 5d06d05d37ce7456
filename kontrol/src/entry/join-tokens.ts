import { createHash, randomBytes } from "node:crypto";
import { KiteError } from "@kite-mesh/kite";
import { audit } from "../database/audit.ts";
import type { Log } from "../database/log.ts";
import { issueKiteKey, type KiteKeyOptions } from "../trust/kite-keys.ts";
import type { SigningKey } from "../trust/signing-keys.ts";

export interface NewJoinToken {
  /** The account whose kite.key the bearer gets. */
  readonly username: string;
  /** What it is for, for the audit log: the name of a machine, for example. */
  readonly purpose: string;
  readonly ttlMs?: number | undefined;
}

// A machine that was just made boots within minutes; one that takes longer is given a new token with its next start.
const DEFAULT_TTL_MS = 15 * 60_000;
// What is valid for longer than a day should be a kite.key, which can be revoked.
export const MAX_JOIN_TTL_MS = 24 * 60 * 60_000;

const ACTIVE = "select 1 from kontrol.accounts where username = $1 and state = 'active'";
const ADD =
  "insert into kontrol.join_tokens (hash, username, purpose, created_by, expires_at) values ($1, $2, $3, $4, to_timestamp($5::float8 / 1000))";
const TIDY = "delete from kontrol.join_tokens where expires_at < to_timestamp($1::float8 / 1000)";

/**
 * Makes a secret that can be exchanged once for a kite.key. It is answered here and kept nowhere.
 *
 * @throws {KiteError} `not_found` when there is no such active account.
 */
export async function createJoinToken(log: Log, { username, purpose, ttlMs = DEFAULT_TTL_MS }: NewJoinToken, by: string, now: number) {
  const joinToken = randomBytes(32).toString("base64url");
  const expiresAt = now + ttlMs;
  await log.write(async (tx) => {
    const { rowCount } = await tx.query(ACTIVE, [username]);
    if (rowCount === 0) throw new KiteError("not_found", `there is no active account "${username}" to join machines for`);
    await tx.query(TIDY, [now - MAX_JOIN_TTL_MS]);
    await tx.query(ADD, [hashOf(joinToken), username, purpose, by, expiresAt]);
    await audit(tx, by, "joinTokens.create", username, { purpose, expiresAt });
  });
  return { joinToken, expiresAt };
}

const GOOD = "hash = $1 and used_at is null and expires_at > to_timestamp($2::float8 / 1000)";
const LOOK = `select 1 from kontrol.join_tokens where ${GOOD}`;
const USE = `
  update kontrol.join_tokens set used_at = to_timestamp($2::float8 / 1000)
   where ${GOOD}
  returning username, purpose`;

/**
 * Exchanges a join token for a machine's kite.key. An unknown, a used and an expired one get the same answer. `signer` is asked for
 * the key that signs once the token was seen to be good: it may write the log itself, so not in the transaction.
 *
 * @throws {KiteError} `unauthenticated`.
 */
export async function useJoinToken(
  log: Log,
  joinToken: string,
  options: KiteKeyOptions,
  signer?: () => Promise<SigningKey>,
): Promise<{ kiteKey: string; revision: number }> {
  const token = [hashOf(joinToken), options.now()];
  if (signer !== undefined && (await log.write((tx) => tx.query(LOOK, token))).result.rowCount === 0) throw notGood();
  const signing = signer && { signingKey: await signer() };
  const { result: kiteKey, revision } = await log.write(async (tx) => {
    const [used] = (await tx.query<{ username: string; purpose: string }>(USE, token)).rows;
    if (used === undefined) throw notGood();
    const { username, purpose } = used;
    const kiteKey = await issueKiteKey(tx, username, { ...options, ...signing, machine: true });
    await audit(tx, username, "registerMachine", username, { purpose });
    return kiteKey;
  });
  return { kiteKey, revision };
}

function notGood(): KiteError {
  return new KiteError(
    "unauthenticated",
    "the join token is unknown, was used before or has expired; whoever made this machine can give it a new one",
  );
}

function hashOf(joinToken: string): Buffer {
  return createHash("sha256").update(joinToken).digest();
}
