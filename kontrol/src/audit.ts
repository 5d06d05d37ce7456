import type { LogTransaction } from "./log.ts";

const ADD = "insert into kontrol.audit (actor, action, subject, details) values ($1, $2, $3, $4)";

/** Remembers who did what to whom, in the transaction that does it. Details never hold a credential. */
export async function audit(tx: LogTransaction, actor: string, action: string, subject: string, details: object = {}): Promise<void> {
  await tx.query(ADD, [actor, action, subject, JSON.stringify(details)]);
}
