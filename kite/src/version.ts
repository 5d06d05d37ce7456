import { KiteError } from "./errors.ts";

/** A version as SemVer 2.0 reads it; build metadata is read and forgotten, because it never decides anything. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** The parts after `-`: numbers compare as numbers, words as words; empty for a release. */
  readonly prerelease: readonly (string | number)[];
}

/**
 * Reads what a person or a kite wrote as one or many versions, and answers which versions are meant. Both grammars that
 * are in use are read: npm's (`^1.2`, `~1.2.3`, `1.x`, `>=1 <2`, `1 - 2`, `||`) and go-version's (`~> 1.4, != 1.4.3`).
 *
 * Where the two disagree npm's meaning stands: `1.4` is any 1.4.x. `~>` is go-version's own: all but the last given part
 * stay as they are. A pre-release is meant only when the constraint names a pre-release of the same three numbers.
 *
 * @throws {KiteError} `invalid_argument` with the part that could not be read.
 */
export function parseConstraint(text: string): (version: string) => boolean {
  if (text.length > MAX_LENGTH) throw unreadable("version constraint", `${text.slice(0, 40)}…`, `${MAX_LENGTH} characters at most`);
  const alternatives = text.split("||").map((alternative) => parseAlternative(alternative, text));
  return (version) => {
    const read = tryVersion(version);
    return read !== undefined && alternatives.some((alternative) => satisfies(read, alternative));
  };
}

/**
 * Reads one exact version such as `1.4.2` or `2.0.0-beta.1`.
 *
 * @throws {KiteError} `invalid_argument` when it is not three numbers with an optional pre-release.
 */
export function parseVersion(text: string): Version {
  const version = tryVersion(text);
  if (version === undefined)
    throw unreadable("version", text, 'three numbers such as "1.4.2", and a pre-release after "-" if there is one');
  return version;
}

/** Negative when `a` is the older version, positive when it is the newer one; fit for `sort`. */
export function compareVersions(a: string, b: string): number {
  return compare(parseVersion(a), parseVersion(b));
}

// npm's own limit; no honest version comes near it, and it bounds what a regular expression has to look at.
const MAX_LENGTH = 256;

const NUMBER = "(?:0|[1-9]\\d*)";
const TAIL = `(?:-((?:${NUMBER}|\\d*[a-zA-Z-][\\da-zA-Z-]*)(?:\\.(?:${NUMBER}|\\d*[a-zA-Z-][\\da-zA-Z-]*))*))?(?:\\+[\\da-zA-Z-]+(?:\\.[\\da-zA-Z-]+)*)?`;
const PART = `(${NUMBER}|[xX*])`;
const PARTIAL = `v?${PART}(?:\\.${PART}(?:\\.${PART}${TAIL})?)?`;
const VERSION = new RegExp(`^v?(${NUMBER})\\.(${NUMBER})\\.(${NUMBER})${TAIL}$`);
const HYPHEN = new RegExp(`^${PARTIAL}\\s+-\\s+${PARTIAL}$`);
const TERM = new RegExp(`(\\^|~>|~|>=|<=|!=|>|<|=)?\\s*${PARTIAL}(?=\\s|$)\\s*`, "y");

type Bound = { readonly op: ">=" | "<=" | ">" | "<" | "="; readonly version: Version };
/** All bounds hold, and no exclusion does. */
type Alternative = { readonly bounds: readonly Bound[]; readonly excluded: readonly (readonly Bound[])[] };
/** Parts left open (`1`, `1.x`, `*`) are undefined, and so is everything to the right of them. */
type Partial = { major?: number; minor?: number; patch?: number; prerelease: Version["prerelease"] };

const NOTHING: readonly Bound[] = [{ op: "<", version: lowest(0, 0, 0) }];

function tryVersion(text: string): Version | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  const [, major, minor, patch, prerelease] = VERSION.exec(text.trim()) ?? [];
  if (major === undefined || minor === undefined || patch === undefined) return undefined;
  const version = { major: Number(major), minor: Number(minor), patch: Number(patch), prerelease: parsePrerelease(prerelease) };
  return [version.major, version.minor, version.patch].every(Number.isSafeInteger) ? version : undefined;
}

function parsePrerelease(text: string | undefined): Version["prerelease"] {
  return text === undefined ? [] : text.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}

function parseAlternative(text: string, whole: string): Alternative {
  const bounds: Bound[] = [];
  const excluded: (readonly Bound[])[] = [];
  for (const part of text.includes(",") ? text.split(",") : [text]) {
    if (part.trim() === "" && text.includes(",")) throw unreadable("version constraint", whole, "something on both sides of every comma");
    const hyphen = HYPHEN.exec(part.trim());
    if (hyphen !== null) {
      bounds.push(...between(readPartial(hyphen.slice(1, 5), whole), readPartial(hyphen.slice(5, 9), whole)));
      continue;
    }
    for (const { op, partial } of terms(part.trim(), whole)) {
      if (op === "!=") excluded.push(boundsOf("=", partial));
      else bounds.push(...boundsOf(op, partial));
    }
  }
  return { bounds, excluded };
}

function* terms(text: string, whole: string): Generator<{ op: string; partial: Partial }> {
  for (let at = 0; at < text.length; at = TERM.lastIndex) {
    TERM.lastIndex = at;
    const found = TERM.exec(text);
    if (found === null) throw unreadable("version constraint", whole, `"^1.2", "~1.2.3", "1.x", ">=1 <2", "1 - 2" or "~> 1.4, != 1.4.3"`);
    const next = TERM.lastIndex;
    yield { op: found[1] ?? "=", partial: readPartial(found.slice(2, 6), whole) };
    TERM.lastIndex = next;
  }
}

function readPartial(groups: readonly (string | undefined)[], whole: string): Partial {
  const open = groups.slice(0, 3).findIndex((group) => group === undefined || !/^\d/.test(group));
  const given = groups.slice(0, 3).map((group) => (group !== undefined && /^\d/.test(group) ? Number(group) : undefined));
  if (open !== -1 && given.slice(open).some((part) => part !== undefined)) {
    throw unreadable("version constraint", whole, 'no number to the right of an "x"');
  }
  if (given.some((part) => part !== undefined && !Number.isSafeInteger(part))) {
    throw unreadable("version constraint", whole, `numbers up to ${Number.MAX_SAFE_INTEGER}`);
  }
  const [major, minor, patch] = given;
  const partial: Partial = { prerelease: patch === undefined ? [] : parsePrerelease(groups[3]) };
  if (major !== undefined) partial.major = major;
  if (minor !== undefined) partial.minor = minor;
  if (patch !== undefined) partial.patch = patch;
  return partial;
}

function boundsOf(op: string, partial: Partial): readonly Bound[] {
  if (partial.major === undefined) return op === "<" || op === ">" ? NOTHING : [];
  const from = first(partial, partial.major);
  const full = partial.patch !== undefined;
  switch (op) {
    case "^":
      return [
        { op: ">=", version: from },
        { op: "<", version: caretEnd(partial, partial.major) },
      ];
    case "~":
      return [
        { op: ">=", version: from },
        { op: "<", version: end(partial, partial.major) },
      ];
    case "~>":
      return pessimistic(partial, partial.major);
    case ">=":
      return [{ op, version: from }];
    case "<":
      return [{ op, version: full ? from : lowest(from.major, from.minor, 0) }];
    case ">":
      return [full ? { op, version: from } : { op: ">=", version: released(end(partial, partial.major)) }];
    case "<=":
      return [full ? { op, version: from } : { op: "<", version: end(partial, partial.major) }];
    default:
      return full
        ? [{ op: "=", version: from }]
        : [
            { op: ">=", version: from },
            { op: "<", version: end(partial, partial.major) },
          ];
  }
}

/** `1.2 - 2` is everything from 1.2.0 to the last 2.x. */
function between(from: Partial, to: Partial): readonly Bound[] {
  return [...boundsOf(">=", from), ...boundsOf("<=", to)];
}

/** `~> 1.4` stays below 2, `~> 1.4.2` below 1.5; `~> 1` has no part that must stay, so it only asks for a minimum. */
function pessimistic(partial: Partial, major: number): readonly Bound[] {
  const from: Bound = { op: ">=", version: first(partial, major) };
  if (partial.minor === undefined) return [from];
  const below = partial.patch === undefined ? lowest(major + 1, 0, 0) : lowest(major, partial.minor + 1, 0);
  return [from, { op: "<", version: below }];
}

function first(partial: Partial, major: number): Version {
  return { major, minor: partial.minor ?? 0, patch: partial.patch ?? 0, prerelease: partial.prerelease };
}

/** Where the versions that an open partial means stop: `1` at 2, `1.2` at 1.3. */
function end(partial: Partial, major: number): Version {
  return partial.minor === undefined ? lowest(major + 1, 0, 0) : lowest(major, partial.minor + 1, 0);
}

/** The left-most number that is not zero must stay; parts left open count as "may change". */
function caretEnd({ minor, patch }: Partial, major: number): Version {
  if (major > 0 || minor === undefined) return lowest(major + 1, 0, 0);
  if (minor > 0 || patch === undefined) return lowest(0, minor + 1, 0);
  return lowest(0, 0, patch + 1);
}

/** Below every pre-release of these numbers, so that `<2` keeps 2.0.0-beta out. */
function lowest(major: number, minor: number, patch: number): Version {
  return { major, minor, patch, prerelease: [0] };
}

function released({ major, minor, patch }: Version): Version {
  return { major, minor, patch, prerelease: [] };
}

function satisfies(version: Version, { bounds, excluded }: Alternative): boolean {
  if (!bounds.every((bound) => holds(version, bound))) return false;
  if (excluded.some((range) => range.every((bound) => holds(version, bound)))) return false;
  return version.prerelease.length === 0 || bounds.some((bound) => namesPrereleaseOf(bound.version, version));
}

function holds(version: Version, { op, version: bound }: Bound): boolean {
  const order = compare(version, bound);
  if (op === ">=") return order >= 0;
  if (op === "<=") return order <= 0;
  if (op === ">") return order > 0;
  return op === "<" ? order < 0 : order === 0;
}

function namesPrereleaseOf(bound: Version, { major, minor, patch }: Version): boolean {
  return bound.prerelease.length > 0 && bound.major === major && bound.minor === minor && bound.patch === patch;
}

function compare(a: Version, b: Version): number {
  return a.major - b.major || a.minor - b.minor || a.patch - b.patch || comparePrerelease(a.prerelease, b.prerelease);
}

/** A release is newer than its pre-releases; a longer pre-release is newer than the one it continues. */
function comparePrerelease(a: Version["prerelease"], b: Version["prerelease"]): number {
  if (a.length === 0 || b.length === 0) return b.length - a.length;
  for (const [index, left] of a.entries()) {
    const right = b[index];
    if (right === undefined) return 1;
    if (left === right) continue;
    if (typeof left === "number") return typeof right === "number" ? left - right : -1;
    return typeof right === "number" || left > right ? 1 : -1;
  }
  return a.length - b.length;
}

function unreadable(what: string, got: string, expected: string): KiteError {
  return new KiteError("invalid_argument", `cannot read ${JSON.stringify(got)} as a ${what}; expected ${expected}`);
}
