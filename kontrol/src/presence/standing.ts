import { isDeepStrictEqual } from "node:util";
import { type Identity, KiteError } from "@kite-mesh/kite";
import type { LogTransaction } from "../database/log.ts";
import type { KiteRecord, Replaced } from "../database/record.ts";

/** A registration before the log has given it its generation. */
export interface NewLease extends Omit<KiteRecord, "generation"> {
  /** It comes with a machine's kite.key, which cannot take the place of a kite that came with another. */
  readonly machine?: boolean;
  /**
   * The revision that this process knew when the kite asked. A registration at another process that is later than that is
   * not replaced: whoever stood still, with this one in its hands, must not overwrite what came after it. Default: no matter.
   */
  readonly known?: number;
  /** It comes back: another instance that is there keeps its place. One that has just started takes it. */
  readonly again?: boolean;
}

/** What has the id that somebody asks for, or had it last. */
export interface Standing extends KiteRecord {
  readonly gone?: boolean;
}

/** The kites that are there, as this process knows them: those of this revision of the log. */
export interface Present {
  readonly revision: number;
  kite(id: string): KiteRecord | undefined;
}

/** Looks for what has the ids of new leases. The transaction has the log's lock, so nothing of it changes until it has committed. */
export async function standingOf(
  leases: readonly NewLease[],
  tx: LogTransaction,
  present: Present,
): Promise<(id: string) => Standing | undefined> {
  // To a machine those that are gone count, too: tokens for them may still be around, and they may come back. The table alone has them.
  const enough = present.revision === tx.head && !leases.some(({ machine }) => machine);
  // At the log's head the directory is what the table is, and asking that took a tenth of a registration's time.
  if (enough) return (id) => present.kite(id);
  const { rows } = await tx.query<StandingRow>(STANDING, [leases.map(({ kite }) => kite.id)]);
  const standing = new Map(rows.map((row) => [row.id, recordOf(row)]));
  return (id) => standing.get(id);
}

// The columns as they are, since PostgreSQL takes longer to make a record of them. Not a prepared statement: a plan from when there
// were no kites would read all of them.
const STANDING = `
  select id, username, environment, name, version, region, hostname, url, visibility, labels, jti, generation::float8 as generation, holder,
         registered_at as "registeredAt", case when instance_at = generation then instance end as instance, gone_at is not null as gone
    from kontrol.kites where id = any ($1)`;

interface StandingRow extends Identity, Omit<Standing, "kite" | "registeredAt"> {
  readonly registeredAt: Date;
}

function recordOf({ username, environment, name, version, region, hostname, id, registeredAt, ...row }: StandingRow): Standing {
  return { kite: { username, environment, name, version, region, hostname, id }, ...row, registeredAt: registeredAt.getTime() };
}

/** Why a lease does not get the place of what stands there; undefined when it does. */
export function refusal({ kite, machine, jti, known, holder, instance, again }: NewLease, standing: Standing): KiteError | undefined {
  if (machine && standing.jti !== jti) return taken(kite.id);
  if (standing.gone) return undefined;
  if (standing.kite.username !== kite.username) return taken(kite.id);
  if (known !== undefined && standing.generation > known && standing.holder !== holder) return overtaken();
  const isOther = instance && standing.instance && instance !== standing.instance;
  return again && isOther ? displaced(standing) : undefined;
}

/** What the log says of the place that a record takes. Most come back as what they were, and it has to say no more than that. */
export function replacedBy(record: KiteRecord, { kite, url, registeredAt, visibility, labels }: Standing): Replaced {
  return {
    ...(isDeepStrictEqual(kite, record.kite) ? {} : { kite }),
    ...(url === record.url ? {} : { url }),
    ...(registeredAt === record.registeredAt ? {} : { registeredAt }),
    ...(visibility === record.visibility ? {} : { visibility }),
    ...(isDeepStrictEqual(labels, record.labels) ? {} : { labels }),
  };
}

function overtaken(): KiteError {
  return new KiteError(
    "disconnected",
    "the kite has registered at another kontrol since it asked here; register again if it should be here",
  );
}

export function taken(id: string): KiteError {
  return new KiteError(
    "already_exists",
    `another kite is registered with the id "${id}", by somebody else or on another machine; every kite needs an id of its own`,
  );
}

/** Said to a process whose id another one has: when it loses its place, and whenever it asks while that one is there. */
export function displaced({ kite, url, registeredAt }: Pick<KiteRecord, "kite" | "url" | "registeredAt">): KiteError {
  const since = new Date(registeredAt).toISOString();
  return new KiteError(
    "already_exists",
    `another process has registered with the id "${kite.id}": ${kite.name} ${kite.version} on ${kite.hostname}, at ${url}, since ${since}; ` +
      "this one is out of the directory while that one is there. Give each process an id of its own, or stop one of them",
    { details: { hostname: kite.hostname, url, since } },
  );
}
