import type { Pool } from "pg";
import type { Directory } from "./directory.ts";
import type { Follower } from "./follower.ts";

export interface FreshnessOptions {
  readonly pool: Pool;
  readonly directory: Directory;
  readonly follower: Pick<Follower, "reached" | "connected">;
}

/** Waits for what other processes have written until now; answers whether that was more than the revision `seen`. Never rejects. */
export type Fresh = (seen: number) => Promise<boolean>;

const HEAD = "select revision::float8 as revision from kontrol.head";

/**
 * For what somebody was told at one replica a moment ago, and another does not know yet. However many ask, one question at
 * a time goes to the database, so it may be asked on behalf of strangers.
 */
export function freshness({ pool, directory, follower }: FreshnessOptions): Fresh {
  let looking = Promise.resolve();
  let next: Promise<void> | undefined;
  const look = async () => {
    const { rows } = await pool.query<{ revision: number }>(HEAD);
    await follower.reached(rows[0]?.revision ?? 0);
  };
  return async (seen) => {
    // Without the database nothing newer is to be had, and nobody should wait for it.
    if (!follower.connected) return directory.revision > seen;
    // The look that is under way may have begun before it was written.
    next ??= looking.then(() => {
      next = undefined;
      looking = look().catch(() => {});
      return looking;
    });
    await next;
    return directory.revision > seen;
  };
}
