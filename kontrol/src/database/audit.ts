import type { Pool } from "pg";
import type { AuditEntry } from "../contract.ts";
import { ask } from "./connection.ts";
import type { LogTransaction } from "./log.ts";

/** Who does something, and whether as an administrator. */
export interface Actor {
  readonly username: string;
  readonly admin: boolean;
}

const ADD = "insert into kontrol.audit (actor, action, subject, details) values ($1, $2, $3, $4)";

/** Remembers who did what to whom, in the transaction that does it. Details never hold a credential. */
export async function audit(tx: LogTransaction, actor: string, action: string, subject: string, details: object = {}): Promise<void> {
  await tx.query(ADD, [actor, action, subject, JSON.stringify(details)]);
}

export interface AuditQuery {
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly subject?: string | undefined;
  /** Only entries before this one, by its id. */
  readonly before?: number | undefined;
  readonly limit?: number | undefined;
}

// A screen or two; who wants more asks for the next page.
const PAGE = 100;
const LIST = `
  select id::float8 as id, to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, actor, action, subject, details
    from kontrol.audit
   where ($1::text is null or actor = $1) and ($2::text is null or action = $2) and ($3::text is null or subject = $3)
     and ($4::bigint is null or id < $4)
   order by id desc limit $5`;

/** A page of what was done, the newest first; `next` is the `before` of the page that follows. */
export async function listAudit(
  pool: Pool,
  { actor, action, subject, before, limit = PAGE }: AuditQuery,
): Promise<{ entries: AuditEntry[]; next: number | null }> {
  // One more than asked for tells whether there is another page.
  const values = [actor ?? null, action ?? null, subject ?? null, before ?? null, limit + 1];
  const { rows } = await ask<AuditEntry>(pool, LIST, values);
  const entries = rows.slice(0, limit);
  return { entries, next: rows.length > limit ? (entries.at(-1)?.id ?? null) : null };
}
