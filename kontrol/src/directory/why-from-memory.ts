import { type Call, KiteError } from "@kite-mesh/kite";
import type { WhyFound } from "../contract.ts";
import type { KiteRecord } from "../database/record.ts";
import { seconds } from "../presence/pulse.ts";
import type { Directory } from "./directory.ts";
import type { Follower } from "./follower.ts";

export type Why = { readonly found: false } | WhyFound;

export interface MemoryOptions {
  readonly directory: Directory;
  readonly follower: Pick<Follower, "connected" | "behindMs">;
  /** Milliseconds, as `Date.now`. */
  readonly now: () => number;
  /** Whether the kite's session is at this kontrol, which then has to ask nobody. */
  readonly isHere: (id: string) => boolean;
}

/**
 * Answers as `ask` does, and while the database does not answer what is known without it, which says so. Nobody waits for a
 * database that is known to be away.
 *
 * @throws {KiteError} `unavailable` with the reason when only the database could know. It is the same for a kite that is not there and for
 * one that the caller may not see.
 */
export async function whyDespite(ask: () => Promise<Why>, id: string, { caller }: Call, options: MemoryOptions): Promise<Why> {
  const { directory, follower, now, isHere } = options;
  const mayKnow = (record: KiteRecord) => caller.role === "owner" || directory.access(record, caller.username, now()) !== undefined;
  const present = directory.kite(id);
  if (present !== undefined && !mayKnow(present) && !follower.connected) throw unknown(id, follower);
  try {
    if (follower.connected || isHere(id)) return await ask();
  } catch (thrown) {
    if (KiteError.from(thrown).code !== "unavailable") throw thrown;
  }
  const since = `from memory: ${away(follower)}`;
  if (present !== undefined && mayKnow(present)) {
    const { kite, registeredAt } = present;
    const reason = `it registered, and is not known to have left; how it is, the kontrol that has its session knows (${since})`;
    return { found: true, kite, state: "present", at: new Date(registeredAt).toISOString(), reason };
  }
  const gone = directory.departure(id);
  if (gone?.heardAt === undefined || !mayKnow(gone.before)) throw unknown(id, follower);
  return {
    found: true,
    kite: gone.before.kite,
    state: "gone",
    at: new Date(gone.heardAt).toISOString(),
    reason: `${gone.reason} (${since})`,
  };
}

/** @throws {KiteError} `unavailable` when the database is known to be away, which nobody has to wait for. */
export function checkThere(follower: MemoryOptions["follower"]): void {
  if (follower.connected) return;
  throw new KiteError(
    "unavailable",
    `only the database knows which kites have left, and ${away(follower)}; ask for one by its id, or again when it is back`,
    { outcome: "not_run" },
  );
}

function unknown(id: string, follower: MemoryOptions["follower"]): KiteError {
  return new KiteError(
    "unavailable",
    `no kite that you could see has the id "${id}" in the memory of this kontrol, and whether one had it before, only the database knows: ${away(follower)}; ask again when it is back`,
    { outcome: "not_run" },
  );
}

function away({ behindMs }: MemoryOptions["follower"]): string {
  return `the database has not answered for ${seconds(behindMs)}`;
}
