import type { Identity, Query, Role } from "@kite-mesh/kite";
import type { AccountKind, TeamRole } from "../contract.ts";

/** A kite's lease, as the table and the directory know it. */
export interface KiteRecord {
  readonly kite: Identity;
  readonly url: string;
  readonly visibility: "private" | "mesh";
  readonly labels: Readonly<Record<string, string>>;
  /** The kite.key it registered with; null for kontrol itself. */
  readonly jti: string | null;
  /** The key that signed that kite.key; missing for kontrol itself, and for leases of an earlier version. */
  readonly kid?: string | null;
  /** The revision at which it registered. Of two words about the same kite, the one with the higher generation counts. */
  readonly generation: number;
  /** The kontrol process that has its session. */
  readonly holder: string;
  /** In milliseconds since the epoch. */
  readonly registeredAt: number;
  /** Which process it is of, as far as that said so. */
  readonly instance?: string | null;
}

// Times are cut to milliseconds before they are taken apart: before PostgreSQL 14 `extract` answers in floating point, and a
// floor of that loses one now and then.
/** A {@link KiteRecord}, of a row that the statement calls k. */
export const RECORD = `
  jsonb_build_object('username', k.username, 'environment', k.environment, 'name', k.name, 'version', k.version,
                     'region', k.region, 'hostname', k.hostname, 'id', k.id) as kite,
  k.url, k.visibility, k.labels, k.jti, k.kid, k.generation::float8 as generation, k.holder,
  round(extract(epoch from date_trunc('milliseconds', k.registered_at)) * 1000)::float8 as "registeredAt"`;

export interface AccountRecord {
  readonly username: string;
  readonly kind: AccountKind;
  readonly admin: boolean;
  readonly state: "active" | "removed";
}

interface GrantTerms {
  readonly id: string;
  readonly owner: string;
  readonly role: Role;
  /** Always with the owner's username. */
  readonly query: Query;
  /** In milliseconds since the epoch. */
  readonly expiresAt: number | null;
}

export interface PersonalGrant extends GrantTerms {
  readonly username: string;
  readonly team?: undefined;
}

/** What everybody in a team has, for as long as they are in it. */
export interface TeamGrant extends GrantTerms {
  readonly team: string;
  readonly username?: undefined;
}

export type GrantRecord = PersonalGrant | TeamGrant;

export interface MemberRecord {
  readonly team: string;
  readonly username: string;
  readonly role: TeamRole;
}

/** What stopped being valid. A credential matches when every field that is given matches. */
export interface RevocationRecord {
  readonly username?: string;
  readonly jti?: string;
  readonly kite?: string;
  /** A signing key that others may have: nothing that it signed, and no token from before. */
  readonly kid?: string;
  readonly reason: string;
}

/** What a registration took the place of, as far as watchers are told of it or it decides who is: what was the same is left out. */
export type Replaced = Partial<Pick<KiteRecord, "kite" | "url" | "visibility" | "labels" | "registeredAt">>;

/**
 * Everything that the log can say. It is read by every process and kept for days, so it never holds a credential. A process
 * of an earlier version reads it as well, and passes over the kinds that it does not know. `before` is what stood there, so that
 * the log can be read backwards; null for nothing, and missing in entries of earlier versions.
 */
export type Change =
  | { readonly kind: "kite.registered"; readonly record: KiteRecord; readonly before?: Replaced | null }
  | {
      readonly kind: "kite.labelled";
      readonly id: string;
      readonly generation: number;
      readonly labels: KiteRecord["labels"];
      readonly before?: KiteRecord["labels"];
    }
  | {
      readonly kind: "kite.gone";
      readonly id: string;
      readonly generation: number;
      readonly reason: string;
      readonly before?: KiteRecord;
    }
  | { readonly kind: "account.changed"; readonly account: AccountRecord }
  | { readonly kind: "grant.added"; readonly grant: PersonalGrant }
  | { readonly kind: "grant.removed"; readonly id: string; readonly username: string }
  /** Of kinds of their own: a kontrol that knows no teams passes them over, and would take the other two for a person's. */
  | { readonly kind: "team-grant.added"; readonly grant: TeamGrant }
  | { readonly kind: "team-grant.removed"; readonly id: string; readonly team: string }
  | { readonly kind: "team.created"; readonly name: string }
  /** Whoever was in it until now is in it no more, and looks at another mesh from here on. */
  | { readonly kind: "team.removed"; readonly name: string; readonly members: readonly string[] }
  /** Somebody joined, or has another role. An account that is removed is in no team any more, without a word. */
  | { readonly kind: "member.added"; readonly member: MemberRecord }
  | { readonly kind: "member.removed"; readonly team: string; readonly username: string }
  | { readonly kind: "key.issued"; readonly jti: string; readonly username: string; readonly machine?: boolean }
  | { readonly kind: "revoked"; readonly revocation: RevocationRecord; readonly at: number }
  /** A machine that waits for its kite.key was approved or denied; `id` is the digest of its device code. */
  | { readonly kind: "login.decided"; readonly id: string }
  /** A key was made or retired; the keys themselves are read from their table, which is the only place that has them. */
  | { readonly kind: "signing-keys.changed" };
