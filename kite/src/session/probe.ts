import { sleep } from "../abortable.ts";
import type { Session } from "./session.ts";

/**
 * Asks the peer of a session for a sign of life, and lets the connection go when none comes in time: it is dialled again then, and
 * the session goes on over the new one if the peer still has it. For whoever has learnt elsewhere that the peer may stand still.
 */
export async function probe(session: Pick<Session, "heartbeat" | "silentBeats">, waitMs: number, signal: AbortSignal): Promise<void> {
  // With the second one it is asked, unless it was already.
  while (session.silentBeats < 2) session.heartbeat();
  // In two parts: when this side itself stands still, what has arrived is read between them.
  for (let part = 0; part < 2; part++) await sleep(waitMs / 2, { signal });
  session.heartbeat();
}
