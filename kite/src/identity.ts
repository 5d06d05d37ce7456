import { KiteError } from "./errors.ts";

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
 * @example formatIdentity(kite.identity) // "/alice/dev/math/1.0.0/eu/host1/5f0c"
 */
export function formatIdentity({ username, environment, name, version, region, hostname, id }: Identity): string {
  return `/${username}/${environment}/${name}/${version}/${region}/${hostname}/${id}`;
}

/**
 * Reads a full path back into an identity.
 *
 * @throws {KiteError} `invalid_argument` when a field is missing, empty or too many.
 * @example parseIdentity("/alice/dev/math/1.0.0/eu/host1/5f0c").name // "math"
 */
export function parseIdentity(path: string): Identity {
  const parts = splitPath(path);
  if (parts.length !== IDENTITY_FIELDS.length) {
    throw new KiteError("invalid_argument", `a kite's path has ${IDENTITY_FIELDS.length} parts, got ${parts.length} in "${path}"`);
  }
  return checkIdentity(fieldsOf(parts));
}

/**
 * Makes sure that every field is there, is not empty and could stand in a path.
 *
 * @throws {KiteError} `invalid_argument` naming the field.
 * @example const identity = checkIdentity({ ...JSON.parse(text), username: "alice" });
 */
export function checkIdentity(fields: Query): Identity {
  for (const field of IDENTITY_FIELDS) {
    const value = fields[field];
    if (typeof value !== "string" || value === "") throw new KiteError("invalid_argument", `the ${field} of a kite is empty; it needs one`);
    if (value.length > MAX_FIELD) throw new KiteError("invalid_argument", `${field} may have ${MAX_FIELD} characters, got ${value.length}`);
    if (!FIELD.test(value)) {
      throw new KiteError("invalid_argument", `${field} must not contain "/", spaces or control characters, got ${JSON.stringify(value)}`);
    }
    // It stands in addresses, such as the relay's, and whoever dials one takes these for steps.
    if (field === "id" && /^\.\.?$/.test(value))
      throw new KiteError("invalid_argument", `id must not be "${value}", which means another place in an address`);
  }
  return knownFields(fields) as Identity;
}

/**
 * Prints a query as a path; fields after the last given one are left out. What it asks of labels stands behind it.
 *
 * @example formatQuery({ username: "alice", name: "math" }) // "/alice//math"
 */
export function formatQuery(query: Query): string {
  const parts = IDENTITY_FIELDS.map((field) => query[field] ?? "");
  while (parts.length > 0 && parts.at(-1) === "") parts.pop();
  const labels = query.labels?.length ? ` [${query.labels.join(", ")}]` : "";
  return `/${parts.join("/")}${labels}`;
}

/**
 * A query without its empty fields, as it is asked. Whether its version and its expressions can be read, who answers it says.
 *
 * @throws {KiteError} `invalid_argument` for a field that there is none of: without it, the query would mean other kites.
 */
export function plainQuery(query: Query): Query {
  const unknown = Object.keys(query).find((key) => key !== "labels" && !(IDENTITY_FIELDS as readonly string[]).includes(key));
  if (unknown !== undefined) {
    throw new KiteError(
      "invalid_argument",
      `a query has the fields ${IDENTITY_FIELDS.join(", ")} and labels, and not ${unknown.slice(0, 40)}`,
    );
  }
  return query.labels?.length ? { ...knownFields(query), labels: query.labels } : knownFields(query);
}

/** The fields of a path that are given. */
export function knownFields(query: Query): Omit<Query, "labels"> {
  return Object.fromEntries(IDENTITY_FIELDS.filter((field) => query[field]).map((field) => [field, query[field]]));
}

// Hostnames end at 253 (RFC 1035), usernames and ids are shorter; anything longer is a mistake or an attack.
const MAX_FIELD = 253;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what must not get into a path.
const FIELD = /^[^\s/\u0000-\u001f\u007f-\u009f]+$/;

export function splitPath(path: string): string[] {
  const parts = path.split("/");
  return parts[0] === "" ? parts.slice(1) : parts;
}

/** The fields that stand at these places of a path. */
export function fieldsOf(parts: readonly string[]): Query {
  return Object.fromEntries(IDENTITY_FIELDS.map((field, index) => [field, parts[index] ?? ""]));
}
