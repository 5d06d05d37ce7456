import type { Identity, IssuedToken, Query, RegistryContract, Role } from "@kite-mesh/kite";

/** What kontrol serves over kite. Every method is answered for the account that the caller's key or token names. */
export interface KontrolContract extends RegistryContract {
  /**
   * Exchanges something for a kite.key, for callers without a credential: a one-time join token for a machine's, a password
   * or a device code (see `login`) for a person's own. With a device code it waits until the person has decided.
   */
  registerMachine(
    request: { joinToken: string } | { username: string; password: string; hostname?: string } | { deviceCode: string },
  ): Promise<{ kiteKey: string }>;
  /** Who the caller is to kontrol. */
  whoami(): Promise<{ username: string; admin: boolean; kind: AccountKind }>;
  /**
   * Whether a kite is there and how it is, or when and why it left the directory; `found: false` for an id that was never
   * seen or is forgotten.
   */
  why(request: { id: string }): Promise<{ found: false } | WhyFound>;
  /** Kites that match and left lately, the last first, 20 at most, for whoever knows a name and no id. They are forgotten after a week. */
  departed(request: { query: Query }): Promise<WhyFound[]>;

  joinTokens: {
    /** For administrators (kloud): a one-time token with which a machine obtains `username`'s kite.key. */
    create(request: { username: string; purpose: string; ttlMs?: number }): Promise<{ joinToken: string; expiresAt: number }>;
  };
  /** A machine that has no kite.key asks for one; a person approves it from a place where he is signed in. */
  login: {
    /** Open to callers without a credential. `deviceCode` is for `registerMachine` and is a secret; `userCode` is to be shown. */
    begin(request: { hostname: string }): Promise<DeviceLogin>;
    /** What asks under a code. */
    look(request: { userCode: string }): Promise<DeviceRequest>;
    /** Gives the machine a kite.key of the caller's own: whoever sits there is the caller from then on. */
    approve(request: { userCode: string }): Promise<{ hostname: string; source: string }>;
    deny(request: { userCode: string }): Promise<{ hostname: string; source: string }>;
  };
  people: {
    /** Whether the caller has a password. */
    hasPassword(): Promise<boolean>;
    /** Sets a password; null removes it. One's own needs the `current` one, if there is one; administrators set anybody's. */
    setPassword(request: { username?: string; current?: string; password: string | null }): Promise<{ changed: boolean }>;
    list(): Promise<Person[]>;
    get(request: { username: string }): Promise<Person>;
    /** Idempotent by `external`: the same outside identity always answers with the same person. */
    create(request: NewPerson): Promise<{ person: Person; created: boolean }>;
    /** Ends the person's access everywhere, at once. Idempotent; `removed: false` when there was nobody. */
    remove(request: { username: string } | { external: ExternalIdentity }): Promise<{ removed: boolean; username?: string }>;
    /**
     * A sign-in token: for kontrol, on behalf of a person, for the gateway's browser sessions. Audited. With `methods` it opens
     * these alone. What outlasts it (`login.approve`, `people.setPassword`, `keys.issue`, `joinTokens.create`) it opens only
     * when it names it: ask for such a one when the person has just proved anew who sits there.
     */
    token(request: { username: string; methods?: string[] }): Promise<IssuedToken>;
  };
  grants: {
    /** Gives a person, or everybody in a team of the caller's, a role on the caller's kites that match `query`, until a time. */
    add(request: GrantReceiver & { role: Role; query: Query; expiresAt?: number }): Promise<Grant>;
    /** What the caller gave, what was given to the caller, and what was given to the caller's teams. */
    list(): Promise<Grant[]>;
    remove(request: { id: string }): Promise<{ removed: boolean }>;
  };
  /** Who is not in a team, and no administrator, cannot tell it from one that does not exist. */
  teams: {
    /** The caller's teams; to administrators all. */
    list(): Promise<TeamSummary[]>;
    get(request: { name: string }): Promise<Team>;
    /** Whoever makes a team is its first maintainer; an administrator may name another person. A name is never given twice. */
    create(request: { name: string; maintainer?: string }): Promise<Team>;
    /** For its maintainers and administrators: ends the team, and what was given to it. Idempotent. */
    remove(request: { name: string }): Promise<{ removed: boolean }>;
    /** For its maintainers and administrators: adds somebody, or changes the role; a new one is a `member` unless said otherwise. */
    add(request: { team: string; username: string; role?: TeamRole }): Promise<TeamMember & { added: boolean }>;
    /** For its maintainers and administrators, and for everybody about themselves. Idempotent. */
    removeMember(request: { team: string; username: string }): Promise<{ removed: boolean }>;
  };
  audit: {
    /** For administrators: who did what to whom, the newest first; `next` is the `before` of the next page, null on the last. */
    list(request?: {
      actor?: string;
      action?: string;
      subject?: string;
      before?: number;
      limit?: number;
    }): Promise<{ entries: AuditEntry[]; next: number | null }>;
  };
  keys: {
    /** For administrators: issues a kite.key for an account that exists. `RS256` is for kites in Go and of kite.js, which read nothing else. */
    issue(request: { username: string; alg?: "EdDSA" | "RS256" }): Promise<{ kiteKey: string }>;
    revoke(request: { jti: string }): Promise<{ revoked: boolean }>;
    /** The kite.keys that were issued, the newest first: for administrators everybody's, for others their own. */
    issued(request?: { username?: string; limit?: number }): Promise<KiteKeyInfo[]>;
    /** For administrators: the keys that kontrol signs with, the newest first. */
    list(): Promise<SigningKeyInfo[]>;
    /** For administrators: a new key signs from now on; those before it still verify. Default `EdDSA`. */
    add(request?: { alg?: "EdDSA" | "RS256" }): Promise<SigningKeyInfo>;
    /**
     * For administrators: what this key signed is believed until `refusedAfter`; kites get a new kite.key when they register. With `now`,
     * for a key that others may have, it is refused at once and everywhere, kite.keys too: `kiteKeys` says how many have to be
     * issued anew, and those who showed one, the caller perhaps, lose their session.
     */
    retire(request: { kid: string; now?: boolean }): Promise<{ retired: boolean; refusedAfter: number | null; kiteKeys: number }>;
  };
}

/** A login that was begun. Times are in milliseconds since the epoch. */
export interface DeviceLogin {
  deviceCode: string;
  /** Such as `BCDF-GHJK`. */
  userCode: string;
  expiresAt: number;
}

/** A machine that waits to be let in. Its name is what it says of itself; its source is where it asked from. */
export interface DeviceRequest {
  hostname: string;
  source: string;
  askedAt: number;
  expiresAt: number;
}

export interface WhyFound {
  found: true;
  kite: Identity;
  state: "present" | "gone";
  reason: string;
  /** Since when. */
  at: string;
  /** The last beat of a kite whose session is with the kontrol that answers. The times are in milliseconds. */
  beat?: {
    agoMs: number;
    /** For how long its event loop had been standing still as it beat, and how long at most since the beat before; a beat over the session says neither. */
    blockedMs?: number;
    lagMs?: number;
  };
}

/** Something that was done to accounts, keys, grants or join tokens. */
export interface AuditEntry {
  id: number;
  at: string;
  actor: string;
  action: string;
  subject: string;
  details: Record<string, unknown>;
}

/** A kite.key, without the key. */
export interface KiteKeyInfo {
  /** What revoking it takes. */
  jti: string;
  username: string;
  /** A machine got it for its join token. */
  machine: boolean;
  issuedAt: string;
  revokedAt: string | null;
}

/** A signing key, without either half of it. Times are in milliseconds since the epoch. */
export interface SigningKeyInfo {
  kid: string;
  alg: "EdDSA" | "RS256";
  /** `revoked`: nothing that it signed is believed any more, since others may have it. */
  state: "active" | "retired" | "revoked";
  createdAt: number;
  retiredAt: number | null;
}

export type AccountKind = "person" | "service";

export interface ExternalIdentity {
  /** Who vouches for the person, such as a GitLab instance's address. */
  issuer: string;
  /** The person's lasting id there; never a nickname or an e-mail address. */
  subject: string;
}

export interface NewPerson {
  username: string;
  name?: string;
  email?: string;
  external?: ExternalIdentity;
}

export interface Person {
  username: string;
  name: string;
  email: string | null;
  kind: AccountKind;
  admin: boolean;
  state: "active" | "removed";
  external: ExternalIdentity[];
  createdAt: string;
}

/** Who gets a grant: one account, or everybody who is in a team. */
export type GrantReceiver = { username: string } | { team: string };

export interface Grant {
  id: string;
  owner: string;
  /** The one who got it, unless a team did. */
  username?: string;
  /** The team that got it: whoever joins has it, who leaves has it no more. */
  team?: string;
  role: Role;
  query: Query;
  expiresAt: number | null;
}

/** A maintainer decides who is in the team; to what was given to the team both are the same. */
export type TeamRole = "member" | "maintainer";

export interface TeamSummary {
  name: string;
  /** How many are in it. */
  members: number;
  /** The caller's own role; null for an administrator who is not in it. */
  role: TeamRole | null;
}

export interface Team {
  name: string;
  members: TeamMember[];
}

export interface TeamMember {
  username: string;
  role: TeamRole;
}
