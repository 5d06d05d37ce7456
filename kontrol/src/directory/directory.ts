import { matcher, type Query } from "@kite-mesh/kite";
import type { TeamRole } from "../contract.ts";
import type { Entry } from "../database/log.ts";
import type { AccountRecord, Change, GrantRecord, KiteRecord, MemberRecord, RevocationRecord } from "../database/record.ts";
import { type Access, accessTo } from "./access.ts";
import { GrantIndex } from "./grant-index.ts";
import { Roster } from "./roster.ts";

/** Everything that the directory starts from: the tables as they were at one revision. */
export interface Snapshot {
  readonly revision: number;
  readonly kites: readonly KiteRecord[];
  readonly accounts: readonly AccountRecord[];
  readonly grants: readonly GrantRecord[];
  /** The names of those that were not removed. */
  readonly teams: readonly string[];
  readonly members: readonly MemberRecord[];
  readonly keys: readonly IssuedKey[];
  readonly revocations: readonly PastRevocation[];
  /** What came last, up to its revision, for those who saw part of it: a restart is no reason to tell them everything. */
  readonly past?: readonly Applied[];
}

export interface IssuedKey {
  readonly jti: string;
  readonly username: string;
  readonly revoked: boolean;
  /** A machine's: it enters the machine's own kites, and does nothing else in its owner's name. */
  readonly machine: boolean;
}

export interface PastRevocation extends RevocationRecord {
  readonly revision: number;
  /** In milliseconds since the epoch. */
  readonly at: number;
}

/** A log entry that has been applied, with the kite's record before and after it, when it is about one. */
export interface Applied {
  readonly revision: number;
  readonly change: Change;
  readonly before: KiteRecord | undefined;
  readonly after: KiteRecord | undefined;
  /** When it came, in milliseconds since the epoch; missing for what was read with a snapshot. */
  readonly heardAt?: number;
}

/** What the directory tells: one applied entry, or that it was built anew. */
export type DirectoryListener = (applied: Applied | "reset") => void;

/** What a listener has to take for revoked: the one of the entry, or after a reset whatever may have been missed. */
export function revokedBy(applied: Applied | "reset", directory: Directory, nowMs: number): readonly PastRevocation[] {
  if (applied === "reset") return directory.recentRevocations(nowMs);
  const { change, revision } = applied;
  return change.kind === "revoked" ? [{ ...change.revocation, revision, at: change.at }] : [];
}

// Enough for a watcher that was away for some minutes in a mesh where everything moves; about 5 MB.
export const TAIL = 10_000;

/**
 * The mesh in memory: who is there, who may see whom, what was revoked. It is built from the tables once and from the
 * log ever after, so questions cost the database nothing. It does no I/O; `Follower` feeds it.
 */
export class Directory {
  readonly #kites = new Map<string, KiteRecord>();
  readonly #byName = new Map<string, Set<KiteRecord>>();
  readonly #byUsername = new Map<string, Set<KiteRecord>>();
  readonly #accounts = new Map<string, AccountRecord>();
  readonly #grants = new GrantIndex();
  readonly #roster = new Roster();
  readonly #keys = new Map<string, IssuedKey>();
  readonly #listeners = new Set<DirectoryListener>();
  readonly #revocationsMs: number;
  readonly #now: () => number;
  #revocations: PastRevocation[] = [];
  #tail: Applied[] = [];
  #revision = 0;

  constructor({ revocationsMs, now = Date.now }: { revocationsMs: number; now?: () => number }) {
    this.#revocationsMs = revocationsMs;
    this.#now = now;
  }

  get revision(): number {
    return this.#revision;
  }

  get size(): number {
    return this.#kites.size;
  }

  /** Starts again from a snapshot. */
  reset(snapshot: Snapshot): void {
    for (const map of [this.#kites, this.#byName, this.#byUsername, this.#accounts, this.#grants, this.#roster, this.#keys]) map.clear();
    for (const record of snapshot.kites) this.#put(record);
    for (const account of snapshot.accounts) this.#accounts.set(account.username, account);
    for (const grant of snapshot.grants) this.#grants.add(grant);
    for (const team of snapshot.teams) this.#roster.create(team);
    for (const member of snapshot.members) this.#roster.enter(member);
    for (const key of snapshot.keys) this.#keys.set(key.jti, key);
    this.#revocations = [...snapshot.revocations];
    this.#tail = [...(snapshot.past ?? [])];
    this.#revision = snapshot.revision;
    this.#tell("reset");
  }

  /** Takes the next entry of the log. One that was seen already is passed over; false when one in between is missing. */
  apply(entry: Entry): boolean {
    if (entry.revision <= this.#revision) return true;
    if (entry.revision !== this.#revision + 1) return false;
    const applied: Applied = { ...entry, ...this.#change(entry), heardAt: this.#now() };
    this.#revision = entry.revision;
    this.#tail.push(applied);
    // In lumps, so that a push costs the same whether the tail is full or not.
    if (this.#tail.length > TAIL * 1.25) this.#tail = this.#tail.slice(-TAIL);
    this.#tell(applied);
    return true;
  }

  listen(listener: DirectoryListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What came after a revision; undefined when that is no longer remembered, or was never reached. */
  since(revision: number): readonly Applied[] | undefined {
    const oldest = this.#revision - this.#tail.length;
    if (revision < oldest || revision > this.#revision) return undefined;
    return this.#tail.slice(revision - oldest);
  }

  /** How a kite left, as far as the last changes tell. */
  departure(id: string): { before: KiteRecord; reason: string; heardAt: number | undefined } | undefined {
    const last = this.#tail.findLast(({ change }) => change.kind === "kite.gone" && change.id === id);
    if (last?.change.kind !== "kite.gone" || last.before === undefined) return undefined;
    return { before: last.before, reason: last.change.reason, heardAt: last.heardAt };
  }

  kite(id: string): KiteRecord | undefined {
    return this.#kites.get(id);
  }

  account(username: string): AccountRecord | undefined {
    return this.#accounts.get(username);
  }

  key(jti: string): IssuedKey | undefined {
    return this.#keys.get(jti);
  }

  kites(): Iterable<KiteRecord> {
    return this.#kites.values();
  }

  grants(): Iterable<GrantRecord> {
    return this.#grants.values();
  }

  grant(id: string): GrantRecord | undefined {
    return this.#grants.get(id);
  }

  teams(): Iterable<string> {
    return this.#roster.teams();
  }

  /** Who is in a team, each with a role; undefined when there is no such team. */
  members(team: string): ReadonlyMap<string, TeamRole> | undefined {
    return this.#roster.members(team);
  }

  /** The teams that somebody is in. */
  teamsOf(username: string): ReadonlySet<string> {
    return this.#roster.teamsOf(username);
  }

  /** What was revoked while tokens from before it may still be around. */
  recentRevocations(nowMs: number): readonly PastRevocation[] {
    const oldest = this.#revocations[0];
    if (oldest === undefined || oldest.at > nowMs - this.#revocationsMs) return this.#revocations;
    this.#revocations = this.#revocations.filter(({ at }) => at > nowMs - this.#revocationsMs);
    return this.#revocations;
  }

  /** Every kite that the query means, whoever may see it. */
  *match(query: Query): Iterable<KiteRecord> {
    const means = matcher(query);
    for (const record of this.#candidates(query)) if (means(record.kite, record.labels)) yield record;
  }

  /** What an account may do with a kite; undefined: it cannot see it. */
  access(record: KiteRecord, username: string, nowMs: number): Access | undefined {
    const account = this.#accounts.get(username);
    if (account === undefined) return undefined;
    const owner = record.kite.username;
    const teams = this.#roster.teamsOf(username);
    const grants = this.#grants.reaching(owner, username, teams);
    return accessTo(record, this.#accounts.get(owner)?.kind, { account, teams }, grants, nowMs);
  }

  /** The kites that the query means and the account may see, each with what it may do there. */
  *find(query: Query, username: string, nowMs: number): Iterable<{ record: KiteRecord; access: Access }> {
    for (const record of this.match(query)) {
      const access = this.access(record, username, nowMs);
      if (access !== undefined) yield { record, access };
    }
  }

  #candidates({ id, name, username }: Query): Iterable<KiteRecord> {
    if (id) return [this.#kites.get(id)].filter((record) => record !== undefined);
    const named = name ? (this.#byName.get(name) ?? NOTHING) : undefined;
    const owned = username ? (this.#byUsername.get(username) ?? NOTHING) : undefined;
    if (named !== undefined && owned !== undefined) return named.size < owned.size ? named : owned;
    return named ?? owned ?? this.#kites.values();
  }

  #change({ revision, change }: Entry): Pick<Applied, "before" | "after"> {
    switch (change.kind) {
      case "kite.registered":
        return { before: this.#put(change.record), after: change.record };
      case "kite.labelled":
        return this.#label(change.id, change.generation, change.labels);
      case "kite.gone":
        return { before: this.#remove(change.id, change.generation), after: undefined };
      default:
        this.#changeOthers(change, revision);
        return { before: undefined, after: undefined };
    }
  }

  #changeOthers(change: Exclude<Change, { kind: `kite.${string}` }>, revision: number): void {
    switch (change.kind) {
      case "account.changed":
        this.#accounts.set(change.account.username, change.account);
        if (change.account.state === "removed") this.#roster.forget(change.account.username);
        return;
      case "grant.added":
      case "team-grant.added":
        return this.#grants.add(change.grant);
      case "grant.removed":
      case "team-grant.removed":
        return this.#grants.remove(change.id);
      case "key.issued":
        this.#keys.set(change.jti, { jti: change.jti, username: change.username, revoked: false, machine: change.machine ?? false });
        return;
      case "revoked":
        return this.#revoke({ ...change.revocation, revision, at: change.at });
      case "login.decided":
      case "signing-keys.changed":
        return;
      default:
        return this.#changeTeams(change);
    }
  }

  #changeTeams(change: Extract<Change, { kind: `team.${string}` | `member.${string}` }>): void {
    switch (change.kind) {
      case "team.created":
        return this.#roster.create(change.name);
      case "team.removed":
        return this.#roster.remove(change.name);
      case "member.added":
        return this.#roster.enter(change.member);
      case "member.removed":
        return this.#roster.leave(change.team, change.username);
      default:
        // Of a later version, which wrote it beside what this one knows: to stop here would stop the mesh.
        change satisfies never;
    }
  }

  #label(id: string, generation: number, labels: KiteRecord["labels"]): Pick<Applied, "before" | "after"> {
    const before = this.#kites.get(id);
    if (before === undefined || before.generation !== generation) return { before: undefined, after: undefined };
    const after = { ...before, labels };
    this.#put(after);
    return { before, after };
  }

  #put(record: KiteRecord): KiteRecord | undefined {
    const before = this.#kites.get(record.kite.id);
    if (before !== undefined) this.#unindex(before);
    this.#kites.set(record.kite.id, record);
    put(this.#byName, record.kite.name, record);
    put(this.#byUsername, record.kite.username, record);
    return before;
  }

  #remove(id: string, generation: number): KiteRecord | undefined {
    const before = this.#kites.get(id);
    if (before === undefined || before.generation !== generation) return undefined;
    this.#kites.delete(id);
    this.#unindex(before);
    return before;
  }

  #unindex(record: KiteRecord): void {
    take(this.#byName, record.kite.name, record);
    take(this.#byUsername, record.kite.username, record);
  }

  #revoke(revocation: PastRevocation): void {
    this.#revocations.push(revocation);
    const key = revocation.jti === undefined ? undefined : this.#keys.get(revocation.jti);
    if (key !== undefined) this.#keys.set(key.jti, { ...key, revoked: true });
  }

  #tell(applied: Applied | "reset"): void {
    for (const listener of this.#listeners) listener(applied);
  }
}

const NOTHING: ReadonlySet<KiteRecord> = new Set();

function put<T>(index: Map<string, Set<T>>, key: string, value: T): void {
  const values = index.get(key);
  if (values === undefined) index.set(key, new Set([value]));
  else values.add(value);
}

function take<T>(index: Map<string, Set<T>>, key: string, value: T): void {
  const values = index.get(key);
  values?.delete(value);
  if (values?.size === 0) index.delete(key);
}
