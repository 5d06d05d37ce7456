import { type Identity, matcher, type Role, roleAllows } from "@kite-mesh/kite";
import type { AccountRecord, GrantRecord, KiteRecord } from "../database/record.ts";

/** A grant with its query read once, since it is asked for every kite that its receiver looks at. */
export type PreparedGrant = GrantRecord & { readonly covers: (kite: Identity) => boolean };

/** Who looks at a kite. */
export interface Asking {
  readonly account: AccountRecord;
  /** The teams that the account is in now. */
  readonly teams: ReadonlySet<string>;
}

/** What somebody may do with a kite, and until when. */
export interface Access {
  readonly role: Role;
  /** When a grant is all that gives the role: its end, in milliseconds since the epoch. */
  readonly until: number | null;
}

export function prepareGrant(grant: GrantRecord): PreparedGrant {
  return { ...grant, covers: matcher({ ...grant.query, username: grant.owner }) };
}

/**
 * The one rule of who may see and call what; discovery, watches and tokens all ask here. Undefined means that the kite
 * does not exist as far as this account can tell.
 */
export function accessTo(
  record: KiteRecord,
  ownerKind: AccountRecord["kind"] | undefined,
  { account, teams }: Asking,
  grants: Iterable<PreparedGrant>,
  nowMs: number,
): Access | undefined {
  if (account.state !== "active") return undefined;
  const { kite, visibility } = record;
  if (kite.username === account.username) return { role: "owner", until: null };
  if (account.admin && ownerKind === "service") return { role: "owner", until: null };
  let best: Access | undefined = visibility === "mesh" ? { role: "viewer", until: null } : undefined;
  for (const grant of grants) {
    if (grant.owner !== kite.username || (grant.expiresAt ?? Number.POSITIVE_INFINITY) <= nowMs) continue;
    const received = grant.team === undefined ? grant.username === account.username : teams.has(grant.team);
    if (!received || !grant.covers(kite)) continue;
    best = better(best, { role: grant.role, until: grant.expiresAt });
  }
  return best;
}

/** The higher role; of two equal ones, the one that lasts longer. */
function better(one: Access | undefined, other: Access): Access {
  if (one === undefined) return other;
  if (one.role !== other.role) return roleAllows(other.role, one.role) ? other : one;
  const [until, otherUntil] = [one.until ?? Number.POSITIVE_INFINITY, other.until ?? Number.POSITIVE_INFINITY];
  return otherUntil > until ? other : one;
}
