import type { Identity, Query, Role, WatchEvent } from "@kite-mesh/kite";
import type { Change, GrantRecord, KiteRecord } from "./database/record.ts";

// What kontrol is held against: the same questions, answered by code that is too simple to be wrong, and that knows nothing
// of the directory, of how a query is read, or of who is told when.

export const VERSIONS = ["1.0.0", "1.4.0", "1.4.3", "1.5.2", "2.0.0", "2.1.0-rc.1", "2.1.0-rc.2", "2.1.0"] as const;

/** Which of the versions each constraint means: written down by hand, from what the two grammars say. */
export const CONSTRAINTS: Readonly<Record<string, readonly string[]>> = {
  "^1": ["1.0.0", "1.4.0", "1.4.3", "1.5.2"],
  "^1.2": ["1.4.0", "1.4.3", "1.5.2"],
  "~1.4.0": ["1.4.0", "1.4.3"],
  "1.0.0 || 2.0.0": ["1.0.0", "2.0.0"],
  ">=1.4.0 <2.0.0": ["1.4.0", "1.4.3", "1.5.2"],
  "~> 1.4, != 1.4.3": ["1.4.0", "1.5.2"],
  "~> 1.4.0": ["1.4.0", "1.4.3"],
  ">= 1.4, < 2.0": ["1.4.0", "1.4.3", "1.5.2"],
  "2.1.0-rc.1": ["2.1.0-rc.1"],
  // Pre-releases are meant where one of the same three numbers is named, by whichever grammar, and nowhere else.
  "*": ["1.0.0", "1.4.0", "1.4.3", "1.5.2", "2.0.0", "2.1.0"],
  "!= 1.4.3": ["1.0.0", "1.4.0", "1.5.2", "2.0.0", "2.1.0"],
  "~> 2.0": ["2.0.0", "2.1.0"],
  "~2.1": ["2.1.0"],
  ">=2.1.0-rc.2": ["2.1.0-rc.2", "2.1.0"],
  "^2.1.0-rc.1": ["2.1.0-rc.1", "2.1.0-rc.2", "2.1.0"],
  "~> 2.1.0-rc.1, != 2.1.0-rc.2": ["2.1.0-rc.1", "2.1.0"],
  ">= 1.5, < 2.1.0-rc.2": ["1.5.2", "2.0.0", "2.1.0-rc.1"],
  "> 2.1.0-rc.1, <= 2.1.0 || ~> 1.4.3": ["1.4.3", "2.1.0-rc.2", "2.1.0"],
};

/** What each label expression says of a kite's labels. */
export const EXPRESSIONS: Readonly<Record<string, (labels: KiteRecord["labels"]) => boolean>> = {
  "gpu=true": ({ gpu }) => gpu === "true",
  "gpu!=true": ({ gpu }) => gpu !== "true",
  gpu: ({ gpu }) => gpu !== undefined,
  "!gpu": ({ gpu }) => gpu === undefined,
  "zone=b": ({ zone }) => zone === "b",
  "load<0.7": ({ load = "" }) => load !== "" && Number(load) < 0.7,
  "load>=0.5": ({ load = "" }) => load !== "" && Number(load) >= 0.5,
};

/** Whether a query of the constraints and expressions above means a kite. */
export function means(
  { labels: expressions = [], version, ...fields }: Query,
  { kite, labels }: Pick<KiteRecord, "kite" | "labels">,
): boolean {
  for (const [name, wanted] of Object.entries(fields)) if (wanted && kite[name as keyof Identity] !== wanted) return false;
  if (version && !(CONSTRAINTS[version] ?? [version]).includes(kite.version)) return false;
  return expressions.every((expression) => EXPRESSIONS[expression]?.(labels) ?? false);
}

export interface LogEntry {
  readonly revision: number;
  readonly change: Change;
}

/** The kites and the grants at one revision. */
export class Model {
  readonly kites = new Map<string, KiteRecord>();
  readonly grants = new Map<string, GrantRecord>();

  /** Takes the next entry; answers with the kite's record before and after it. */
  take({ change }: LogEntry): { before?: KiteRecord | undefined; after?: KiteRecord | undefined } {
    if (change.kind === "grant.added") this.grants.set(change.grant.id, change.grant);
    if (change.kind === "grant.removed") this.grants.delete(change.id);
    if (change.kind === "kite.registered") {
      const before = this.kites.get(change.record.kite.id);
      this.kites.set(change.record.kite.id, change.record);
      return { before, after: change.record };
    }
    if (change.kind !== "kite.gone" && change.kind !== "kite.labelled") return {};
    const before = this.kites.get(change.id);
    if (before?.generation !== change.generation) return {};
    if (change.kind === "kite.gone") {
      this.kites.delete(change.id);
      return { before };
    }
    const after = { ...before, labels: change.labels };
    this.kites.set(change.id, after);
    return { before, after };
  }

  /** What a person may do with a kite; undefined: it is not seen. Of persons without administrators and ends of grants. */
  role(record: KiteRecord, username: string): Role | undefined {
    if (record.kite.username === username) return "owner";
    const granted = [...this.grants.values()].filter(
      (grant) => grant.username === username && grant.owner === record.kite.username && means(grant.query, record),
    );
    const roles = new Set<Role>(granted.map(({ role }) => role));
    if (record.visibility === "mesh") roles.add("viewer");
    return (["owner", "operator", "viewer"] as const).find((role) => roles.has(role));
  }
}

/** One watch, and everything it was told, on whichever kontrol, each as a line. */
export interface Told {
  readonly query: Query;
  readonly username: string;
  readonly lines: TellingLine[];
}

interface TellingLine {
  readonly type: WatchEvent["type"];
  readonly revision: number;
  readonly text: string;
}

/** An event as it is compared. */
export function lineOf(event: WatchEvent): TellingLine {
  const revision = Number(event.revision);
  if (event.type === "gone") return { type: "gone", revision, text: `gone ${describe(event.kite)}` };
  if (event.type === "registered") return { type: "registered", revision, text: `registered ${describeSeen(event.kite)}` };
  return { type: "snapshot", revision, text: event.kites.map(describeSeen).sort().join("; ") };
}

/** The first thing in each watch's history that the log does not bear out, in words. One pass over the log, for all of them. */
export function wrongHistories(watches: readonly Told[], log: readonly LogEntry[]): string[] {
  const model = new Model();
  const readers = watches.map((watch) => new Reader(watch, model));
  for (const reader of readers) reader.read(0, undefined);
  for (const entry of log) {
    const seenBefore = readers.map((reader) => reader.seesBefore(entry));
    const { before, after } = model.take(entry);
    for (const [index, reader] of readers.entries()) reader.read(entry.revision, reader.due(entry, before, after, seenBefore[index]));
  }
  return readers.flatMap((reader) => reader.wrong() ?? []);
}

/** Reads one watch's lines along with the log. */
class Reader {
  readonly #watch: Told;
  readonly #model: Model;
  #next = 0;
  /** What it was due and not told; a snapshot makes up for it, and nothing else does. */
  #owed: string | undefined = "a first snapshot";
  #wrong: string | undefined;

  constructor(watch: Told, model: Model) {
    this.#watch = watch;
    this.#model = model;
  }

  /** Whether the kite that an entry is about was seen, by the rights that stood before it. */
  seesBefore({ change }: LogEntry): boolean {
    const id = change.kind === "kite.registered" ? change.record.kite.id : "id" in change ? change.id : "";
    return this.#sees(this.#model.kites.get(id)) !== undefined;
  }

  /** What an entry makes due. */
  due({ change }: LogEntry, before?: KiteRecord, after?: KiteRecord, saw = false): string | undefined {
    const { username } = this.#watch;
    if (change.kind === "grant.added" && change.grant.username === username) return "a snapshot, for a grant";
    if (change.kind === "grant.removed" && change.username === username) return "a snapshot, for a grant that ended";
    if (change.kind === "account.changed" && change.account.username === username) return "a snapshot, for the account";
    const role = this.#sees(after);
    if (after !== undefined && role !== undefined) return `registered ${describeSeen({ ...after, role })}`;
    return before !== undefined && saw ? `gone ${describe(before.kite)}` : undefined;
  }

  /** Takes what it was told at a revision. */
  read(revision: number, due: string | undefined): void {
    let open = due;
    for (let line = this.#line(); line !== undefined && line.revision <= revision; line = this.#line()) {
      this.#next++;
      if (line.revision < revision) return this.#fail(`${line.type} at ${line.revision} came after ${revision - 1}`);
      if (line.type === "snapshot") {
        const expected = this.#snapshot();
        if (line.text !== expected) return this.#fail(`the snapshot at ${revision} has "${line.text}", not "${expected}"`);
        this.#owed = undefined;
        open = undefined;
      } else {
        if (this.#owed !== undefined) return this.#fail(`it was told "${line.text}" at ${revision}, and was due ${this.#owed} before`);
        if (line.text !== open) return this.#fail(`it was told "${line.text}" at ${revision}, and was due "${open}"`);
        open = undefined;
      }
    }
    if (open !== undefined) this.#owed ??= `"${open}" at ${revision}`;
  }

  /** In words, after the end of the log. */
  wrong(): string | undefined {
    const left = this.#line();
    const why = this.#wrong ?? (left !== undefined ? `${left.type} at ${left.revision} is beyond the log` : undefined);
    const missing = why ?? (this.#owed === undefined ? undefined : `it was not told ${this.#owed}`);
    return missing === undefined ? undefined : `a watch of ${JSON.stringify(this.#watch.query)} by ${this.#watch.username}: ${missing}`;
  }

  #line(): TellingLine | undefined {
    return this.#wrong === undefined ? this.#watch.lines[this.#next] : undefined;
  }

  #snapshot(): string {
    const seen = [...this.#model.kites.values()].flatMap((record) => {
      const role = this.#sees(record);
      return role === undefined ? [] : [describeSeen({ ...record, role })];
    });
    return seen.sort().join("; ");
  }

  #sees(record: KiteRecord | undefined): Role | undefined {
    const { query, username } = this.#watch;
    return record !== undefined && means(query, record) ? this.#model.role(record, username) : undefined;
  }

  #fail(why: string): void {
    this.#wrong ??= why;
  }
}

function describe({ id, name, version, region }: Identity): string {
  return `${id} ${name} ${version} ${region}`;
}

function describeSeen({ kite, labels, role, url }: { kite: Identity; labels: KiteRecord["labels"]; role: Role; url: string }): string {
  return `${describe(kite)} ${role} ${url} ${JSON.stringify(Object.entries(labels).sort())}`;
}
