import { KiteError } from "./errors.ts";
import { type Labels, labelMatcher } from "./labels.ts";
import { parseConstraint } from "./version.ts";

/** The seven names that tell a kite from every other, in the order of its path. */
export const IDENTITY_FIELDS = ["username", "environment", "name", "version", "region", "hostname", "id"] as const;
export type IdentityField = (typeof IDENTITY_FIELDS)[number];

/** Who a kite is: `/username/environment/name/version/region/hostname/id`. No field is empty or contains `/`. */
export type Identity = Readonly<Record<IdentityField, string>>;

/**
 * Which kites are meant: any field left out or empty means "any"; `version` may be a constraint such as `^1.2`. `labels` are
 * expressions that must all hold, such as `region=eu`, `gpu` or `load<0.7`; see {@link labelMatcher}.
 */
export type Query = Readonly<Partial<Record<IdentityField, string>>> & { readonly labels?: readonly string[] };

/**
 * Prints an identity as its path.
 *
 * @example formatIdentity(kite) // "/alice/dev/math/1.0.0/eu/host1/5f0c…"
 */
export function formatIdentity(identity: Identity): string {
  return `/${IDENTITY_FIELDS.map((field) => identity[field]).join("/")}`;
}

/**
 * Reads a full path back into an identity.
 *
 * @throws {KiteError} `invalid_argument` when a field is missing, empty or too many.
 */
export function parseIdentity(path: string): Identity {
  const parts = split(path);
  if (parts.length !== IDENTITY_FIELDS.length) {
    throw new KiteError("invalid_argument", `a kite's path has ${IDENTITY_FIELDS.length} parts, got ${parts.length} in "${path}"`);
  }
  return checkIdentity(zip(parts));
}

/**
 * Makes sure that every field is there, is not empty and could stand in a path.
 *
 * @throws {KiteError} `invalid_argument` naming the field.
 */
export function checkIdentity(fields: Query): Identity {
  for (const field of IDENTITY_FIELDS) {
    const value = fields[field];
    if (typeof value !== "string" || value === "") throw new KiteError("invalid_argument", `a kite needs a ${field}; it is empty`);
    if (value.length > MAX_FIELD) throw new KiteError("invalid_argument", `${field} may have ${MAX_FIELD} characters, got ${value.length}`);
    if (!FIELD.test(value)) {
      throw new KiteError("invalid_argument", `${field} must not contain "/", spaces or control characters, got ${JSON.stringify(value)}`);
    }
  }
  return pick(fields) as Identity;
}

/** Prints a query as a path; fields after the last given one are left out. What it asks of labels stands behind it. */
export function formatQuery(query: Query): string {
  const parts = IDENTITY_FIELDS.map((field) => query[field] ?? "");
  while (parts.length > 0 && parts.at(-1) === "") parts.pop();
  const labels = query.labels?.length ? ` [${query.labels.join(", ")}]` : "";
  return `/${parts.join("/")}${labels}`;
}

/**
 * Reads what a person types: a path (`/alice/dev/math`), or a bare name (`math`, `math@^1.2`).
 *
 * @throws {KiteError} `invalid_argument` when a name has a slash, there are more than seven parts or the version constraint cannot be read.
 */
export function parseQuery(text: string): Query {
  if (!text.startsWith("/")) {
    const [name = "", version = ""] = text.split("@", 2);
    // It would match nobody, and hide that only the first character is missing.
    if (name.includes("/")) throw new KiteError("invalid_argument", `a path begins with "/" and a name has none; got "${text}"`);
    return checkQuery({ name, version });
  }
  const parts = split(text);
  if (parts.length > IDENTITY_FIELDS.length) {
    throw new KiteError("invalid_argument", `a query has at most ${IDENTITY_FIELDS.length} parts, got ${parts.length} in "${text}"`);
  }
  return checkQuery(zip(parts));
}

/**
 * Drops empty fields and unknown keys, and makes sure that the version and the expressions over labels can be read.
 *
 * @throws {KiteError} `invalid_argument` naming what could not be read.
 */
export function checkQuery(query: Query): Query {
  const checked = pick(query);
  if (checked.version !== undefined) parseConstraint(checked.version);
  if (!query.labels?.length) return checked;
  labelMatcher(query.labels);
  return { ...checked, labels: query.labels };
}

/** A function that tells whether a kite is meant by the query; constraint and expressions are read once. */
export function matcher(query: Query): (identity: Identity, labels?: Labels) => boolean {
  const { version, labels: expressions, ...exact } = checkQuery(query);
  const labelled = labelMatcher(expressions);
  const fields = Object.entries(exact) as [IdentityField, string][];
  const satisfies = version === undefined ? () => true : parseConstraint(version);
  return (identity, labels = {}) =>
    fields.every(([field, wanted]) => identity[field] === wanted) && satisfies(identity.version) && labelled(labels);
}

// Hostnames end at 253 (RFC 1035), usernames and ids are shorter; anything longer is a mistake or an attack.
const MAX_FIELD = 253;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what must not get into a path.
const FIELD = /^[^\s/\u0000-\u001f\u007f-\u009f]+$/;

function split(path: string): string[] {
  const parts = path.split("/");
  return parts[0] === "" ? parts.slice(1) : parts;
}

function zip(parts: readonly string[]): Query {
  return Object.fromEntries(IDENTITY_FIELDS.map((field, index) => [field, parts[index] ?? ""]));
}

function pick(query: Query): Omit<Query, "labels"> {
  return Object.fromEntries(IDENTITY_FIELDS.filter((field) => query[field]).map((field) => [field, query[field]]));
}
