import { KiteError } from "@kite-mesh/kite";
import type { LogTransaction } from "../database/log.ts";

/** Of these letters alone: what looks like one of them in another script cannot be written. */
export const USERNAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * The one form by which names are compared. A name keeps the letters in which it was first given; whether another one is the
 * same does not depend on their case.
 */
export function canonicalUsername(username: string): string {
  return username.toLowerCase();
}

/** As it is read by people, who do not tell a large I from a small l. */
function seen(username: string): string {
  return canonicalUsername(username.replaceAll("I", "l"));
}

/** Whether people would take a name for one of these. */
export function looksLikeOneOf(username: string, names: readonly string[]): boolean {
  return names.includes(canonicalUsername(username)) || names.includes(seen(username));
}

// Also of those who left. "Alice" beside "alice" would be taken for her.
const ALIKE = `
  select 1 from kontrol.accounts
   where (lower(username) = $1 or lower(translate(username, 'I', 'l')) = $2) and username <> $3 limit 1`;

/**
 * Refuses a new name that is none, or looks like one that was given. Names that were given before there was this rule stay.
 *
 * @throws {KiteError} `invalid_argument`, `already_exists`.
 */
export async function checkNewUsername(tx: LogTransaction, username: string): Promise<void> {
  if (!USERNAME.test(username))
    throw new KiteError(
      "invalid_argument",
      "a username is letters, digits, dots, dashes and underscores, at most 128, and begins with neither",
    );
  const alike = await tx.query(ALIKE, [canonicalUsername(username), seen(username), username]);
  if (alike.rows.length > 0) throw taken(username);
}

/** The same for every reason, so that it does not tell who was there. */
export function taken(username: string): KiteError {
  return new KiteError("already_exists", `the username "${username}" is taken; choose another`, { details: { username } });
}
