import type { Entry } from "../database/log.ts";
import type { KiteRecord } from "../database/record.ts";
import type { Applied } from "./directory.ts";

/**
 * The last entries of the log as they would have been applied, from the kites as they are after them: backwards, each says what
 * was there before it. It ends where an entry does not say that, as those of earlier versions, or where one is missing.
 */
export function retrace(kites: Iterable<KiteRecord>, revision: number, entries: readonly Entry[]): readonly Applied[] {
  const then = new Map([...kites].map((record) => [record.kite.id, record]));
  const past: Applied[] = [];
  for (const entry of entries.toReversed()) {
    if (entry.revision !== revision - past.length) break;
    const step = undo(entry, then);
    if (step === undefined) break;
    past.push({ ...entry, ...step });
  }
  return past.reverse();
}

/** Takes an entry back; undefined when it does not say enough for that. */
function undo({ change }: Entry, then: Map<string, KiteRecord>): Pick<Applied, "before" | "after"> | undefined {
  switch (change.kind) {
    case "kite.registered": {
      if (change.before === undefined) return undefined;
      const after = change.record;
      const before = change.before === null ? undefined : { ...after, ...change.before };
      put(then, after.kite.id, before);
      return { before, after };
    }
    case "kite.labelled": {
      const record = then.get(change.id);
      if (change.before === undefined || record === undefined) return undefined;
      const [before, after] = [change.before, change.labels].map((labels) => ({ ...record, labels }));
      put(then, change.id, before);
      return { before, after };
    }
    case "kite.gone": {
      const { before } = change;
      if (before === undefined) return undefined;
      put(then, change.id, before);
      return { before, after: undefined };
    }
    default:
      return { before: undefined, after: undefined };
  }
}

function put(then: Map<string, KiteRecord>, id: string, record: KiteRecord | undefined): void {
  if (record === undefined) then.delete(id);
  else then.set(id, record);
}
