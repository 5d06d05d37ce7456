import { type DirectoryKite, KiteError, matcher, type Query, type Role, type WatchEvent, writtenJson } from "@kite-mesh/kite";
import type { KiteRecord } from "../database/record.ts";
import type { Access } from "./access.ts";
import type { Applied, Directory } from "./directory.ts";
import { Feed } from "./feed.ts";

export interface WatchRequest {
  readonly query: Query;
  readonly since?: string | undefined;
  readonly username: string;
  /** When the credential ends that it was opened with, in milliseconds since the epoch; undefined for one without an end. */
  readonly until?: number | undefined;
  /** Events are for the wire alone: one that many are told is written once. */
  readonly written?: boolean;
}

// About 100 KB for one watcher. Who is further behind than that is served better by a snapshot.
const QUEUE = 256;
// Another kontrol's changes are here within milliseconds, unless the connection that follows the log was just lost.
const BEHIND_LIMIT_MS = 5_000;

/**
 * Tells many readers what changes among the kites that they asked for and may see. Each change is looked up by name,
 * username and id, so watchers of other kites cost it nothing.
 */
export class Watchers {
  readonly #directory: Directory;
  readonly #now: () => number;
  readonly #all = new Set<Watcher>();
  readonly #byKey = new Map<string, Set<Watcher>>();
  readonly #behindMs: number;
  readonly #stop: () => void;

  /** `behindMs`: how long a revision that this directory has not reached is waited for; default five seconds. */
  constructor(directory: Directory, now: () => number, { behindMs = BEHIND_LIMIT_MS } = {}) {
    this.#directory = directory;
    this.#now = now;
    this.#behindMs = behindMs;
    this.#stop = directory.listen((applied) => this.#tell(applied));
  }

  get size(): number {
    return this.#all.size;
  }

  /**
   * A snapshot and then changes; or, with a `since` that is still remembered, only what came after it. One that another
   * kontrol has told and that is not known here yet is waited for: a snapshot from before it would lead the watcher back.
   */
  watch(request: WatchRequest): AsyncIterable<WatchEvent> {
    const since = request.since === undefined ? undefined : readRevision(request.since);
    const watcher = new Watcher(this.#directory, this.#now, request, () => this.#remove(watcher));
    this.#add(watcher);
    watcher.expire();
    if (since !== undefined && since > this.#directory.revision) watcher.beginAfter(since, this.#behindMs);
    else watcher.begin(since === undefined ? undefined : this.#directory.since(since));
    return watcher;
  }

  /** Ends what somebody watches, because they may no longer. */
  end(username: string, why: KiteError): void {
    for (const watcher of [...this.#all]) if (watcher.username === username) watcher.end(why);
  }

  close(why: KiteError): void {
    this.#stop();
    for (const watcher of [...this.#all]) watcher.end(why);
  }

  #add(watcher: Watcher): void {
    this.#all.add(watcher);
    const watchers = this.#byKey.get(watcher.key);
    if (watchers === undefined) this.#byKey.set(watcher.key, new Set([watcher]));
    else watchers.add(watcher);
  }

  #remove(watcher: Watcher): void {
    this.#all.delete(watcher);
    const watchers = this.#byKey.get(watcher.key);
    watchers?.delete(watcher);
    if (watchers?.size === 0) this.#byKey.delete(watcher.key);
  }

  #tell(applied: Applied | "reset"): void {
    if (applied === "reset") {
      for (const watcher of this.#all) watcher.startAgain(this.#directory.revision);
      return;
    }
    const { before, after } = applied;
    const keys = new Set([before, after].flatMap((record) => (record === undefined ? [] : keysOf(record))));
    for (const key of keys) for (const watcher of this.#byKey.get(key) ?? []) watcher.tell(applied);
    const affects = affected(applied, this.#directory);
    if (affects !== undefined) for (const watcher of this.#all) if (affects(watcher.username)) watcher.startAgain(applied.revision);
  }
}

class Watcher implements AsyncIterableIterator<WatchEvent, undefined> {
  readonly username: string;
  /** Where it is filed: under the most telling field of its query. */
  readonly key: string;
  readonly #feed: Feed<WatchEvent | typeof SNAPSHOT>;
  readonly #directory: Directory;
  readonly #now: () => number;
  readonly #query: Query;
  readonly #means: ReturnType<typeof matcher>;
  readonly #written: boolean;
  /** A snapshot is queued. It is made when it is read, so that it is never out of date and never kept. */
  #startingAgain = false;
  readonly #until: number | undefined;
  #expiring: NodeJS.Timeout | undefined;
  /** What the watcher knows already, from a kontrol that was ahead. */
  #after = 0;
  #overdue: NodeJS.Timeout | undefined;

  constructor(directory: Directory, now: () => number, { query, username, until, written = false }: WatchRequest, onStop: () => void) {
    this.#directory = directory;
    this.#now = now;
    this.#query = query;
    this.#means = matcher(query);
    this.#written = written;
    this.username = username;
    this.key = keyOf(query);
    this.#feed = new Feed({
      onStop: () => {
        clearTimeout(this.#expiring);
        clearTimeout(this.#overdue);
        onStop();
      },
    });
    this.#until = until;
  }

  /** Goes on after a revision that is to come; when it does not, it was never one of this mesh, and a snapshot says so. */
  beginAfter(revision: number, limitMs: number): void {
    this.#after = revision;
    this.#overdue = setTimeout(() => {
      this.#after = 0;
      if (this.#directory.revision < revision) this.startAgain();
    }, limitMs);
    this.#overdue.unref();
  }

  begin(missed: readonly Applied[] | undefined): void {
    // A grant, team or account that changed meanwhile changes what was visible before: only a snapshot is right then.
    if (missed === undefined || missed.some((applied) => affected(applied, this.#directory)?.(this.username))) return this.startAgain();
    for (const applied of missed) this.tell(applied);
  }

  tell(applied: Applied): void {
    const { revision, before, after } = applied;
    if (this.#startingAgain || revision <= this.#after) return;
    if (this.#feed.size >= QUEUE) return this.startAgain();
    const was = before !== undefined && this.#sees(before) !== undefined;
    const access = after === undefined ? undefined : this.#sees(after);
    if (after !== undefined && access !== undefined)
      this.#feed.push(eventOf(applied, access.role, () => registered(applied, after, access)));
    else if (was) this.#feed.push(eventOf(applied, "gone", () => gone(applied, before)));
  }

  /** `revision` is that of what makes it necessary: a watcher that knows it already needs nothing. */
  startAgain(revision = this.#after + 1): void {
    if (this.#startingAgain || revision <= this.#after) return;
    this.#startingAgain = true;
    this.#feed.clear();
    this.#feed.push(SNAPSHOT);
  }

  end(why: KiteError): void {
    this.#feed.end(why);
  }

  async next(): Promise<IteratorResult<WatchEvent, undefined>> {
    const { done, value } = await this.#feed.next();
    if (done) return { done, value: undefined };
    if (value === SNAPSHOT) return { done: false, value: this.#snapshot() };
    return { done: false, value: this.#written ? textOf(value) : value };
  }

  async return(): Promise<IteratorResult<WatchEvent, undefined>> {
    await this.#feed.return();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends it with its token. Looks from time to time as well: timers end at 24.8 days, and the clock may be set. */
  expire(): void {
    if (this.#until === undefined) return;
    const leftMs = this.#until - this.#now();
    if (leftMs <= 0) return this.end(expired());
    this.#expiring = setTimeout(() => this.expire(), Math.min(leftMs, LONGEST_WAIT_MS)).unref();
  }

  #snapshot(): WatchEvent {
    this.#startingAgain = false;
    const kites: DirectoryKite[] = [];
    for (const { record, access } of this.#directory.find(this.#query, this.username, this.#now()))
      kites.push(describeKite(record, access));
    return { type: "snapshot", revision: String(this.#directory.revision), kites };
  }

  #sees(record: KiteRecord): Access | undefined {
    return this.#means(record.kite, record.labels) ? this.#directory.access(record, this.username, this.#now()) : undefined;
  }
}

const LONGEST_WAIT_MS = 60 * 60_000;
const SNAPSHOT = Symbol("snapshot");

/** What a change is to those who see it in the same role: one event for ten thousand watchers. */
const events = new WeakMap<Applied, Map<Role | "gone", WatchEvent>>();

function eventOf(applied: Applied, as: Role | "gone", make: () => WatchEvent): WatchEvent {
  const made = events.get(applied) ?? new Map<Role | "gone", WatchEvent>();
  if (made.size === 0) events.set(applied, made);
  const event = made.get(as) ?? make();
  made.set(as, event);
  return event;
}

function registered({ revision }: Applied, record: KiteRecord, access: Access): WatchEvent {
  return { type: "registered", revision: String(revision), kite: describeKite(record, access) };
}

function gone({ revision, change }: Applied, { kite }: KiteRecord): WatchEvent {
  const reason = change.kind === "kite.gone" ? change.reason : (REASONS[change.kind] ?? "it changed");
  return { type: "gone", revision: String(revision), kite, reason };
}

const texts = new WeakMap<WatchEvent, WatchEvent>();

function textOf(event: WatchEvent): WatchEvent {
  const text = texts.get(event) ?? writtenJson<WatchEvent>(JSON.stringify(event));
  texts.set(event, text);
  return text;
}

/** Why a kite that is still there is not meant any more. */
const REASONS: Partial<Record<Applied["change"]["kind"], string>> = {
  "kite.registered": "it registered again as something else",
  "kite.labelled": "its labels changed, and are not what was asked for",
};

function expired(): KiteError {
  return new KiteError("token_expired", "the token that this watch was opened with has ended; go on from its revision with a new one");
}

/** A kite as somebody with this access is told of it. */
export function describeKite(record: KiteRecord, { role }: Access): DirectoryKite {
  const { kite, url, visibility, labels, registeredAt } = record;
  return { kite, url, visibility, labels, role, registeredAt };
}

function keyOf({ id, name, username }: Query): string {
  if (id) return `id ${id}`;
  if (name) return `name ${name}`;
  return username ? `username ${username}` : "any";
}

function keysOf({ kite }: KiteRecord): string[] {
  return [`id ${kite.id}`, `name ${kite.name}`, `username ${kite.username}`, "any"];
}

/**
 * Whose view of the mesh changed as a whole. Who is in a team is asked now, also about the past: those who left since, or whose
 * team was removed, are affected by that.
 */
function affected({ change }: Applied, directory: Directory): ((username: string) => boolean) | undefined {
  const only = (one: string) => (username: string) => username === one;
  const all = (team: string) => (username: string) => directory.teamsOf(username).has(team);
  switch (change.kind) {
    case "account.changed":
      return only(change.account.username);
    case "grant.added":
      return only(change.grant.username);
    case "grant.removed":
    case "member.removed":
      return only(change.username);
    case "member.added":
      return only(change.member.username);
    case "team-grant.added":
      return all(change.grant.team);
    case "team-grant.removed":
      return all(change.team);
    case "team.removed": {
      const members = new Set(change.members);
      return (username) => members.has(username);
    }
    default:
      return undefined;
  }
}

function readRevision(since: string): number {
  const revision = Number(since);
  if (/^\d+$/.test(since) && Number.isSafeInteger(revision)) return revision;
  throw new KiteError("invalid_argument", `since is a revision from an earlier event, such as "42"; got ${JSON.stringify(since)}`);
}
