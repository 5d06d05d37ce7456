import { KiteError } from "./errors.ts";
import { fieldsOf, IDENTITY_FIELDS, type Identity, type IdentityField, knownFields, type Query, splitPath } from "./identity.ts";
import { type Labels, labelMatcher } from "./labels.ts";
import { parseConstraint } from "./version.ts";

/**
 * Reads what a person types: a path (`/alice/dev/math`), or a bare name (`math`, `math@^1.2`).
 *
 * @throws {KiteError} `invalid_argument` when a name has a slash, there are more than seven parts or the version constraint cannot be read.
 * @example parseQuery("math@^1.2") // { name: "math", version: "^1.2" }
 */
export function parseQuery(text: string): Query {
  if (!text.startsWith("/")) {
    const [name = "", version = ""] = text.split("@", 2);
    // It would match nobody, and hide that only the first character is missing.
    if (name.includes("/")) throw new KiteError("invalid_argument", `a path begins with "/" and a name has none; got "${text}"`);
    return checkQuery({ name, version });
  }
  const parts = splitPath(text);
  if (parts.length > IDENTITY_FIELDS.length) {
    throw new KiteError("invalid_argument", `a query has at most ${IDENTITY_FIELDS.length} parts, got ${parts.length} in "${text}"`);
  }
  return checkQuery(fieldsOf(parts));
}

/**
 * Drops empty fields and unknown keys, and makes sure that the version and the expressions over labels can be read.
 *
 * @throws {KiteError} `invalid_argument` naming what could not be read.
 * @example checkQuery({ name: "math", region: "" }) // { name: "math" }
 */
export function checkQuery(query: Query): Query {
  const checked = knownFields(query);
  if (checked.version !== undefined) parseConstraint(checked.version);
  if (!query.labels?.length) return checked;
  labelMatcher(query.labels);
  return { ...checked, labels: query.labels };
}

/**
 * A function that tells whether a kite is meant by the query; constraint and expressions are read once.
 *
 * @throws {KiteError} `invalid_argument` naming what could not be read.
 * @example const isMath = matcher({ name: "math", version: "^1.2" })(kite.identity);
 */
export function matcher(query: Query): (identity: Identity, labels?: Labels) => boolean {
  const { version, labels: expressions, ...exact } = checkQuery(query);
  const labelled = labelMatcher(expressions);
  const fields = Object.entries(exact) as [IdentityField, string][];
  const satisfies = version === undefined ? () => true : parseConstraint(version);
  return (identity, labels = {}) =>
    fields.every(([field, wanted]) => identity[field] === wanted) && satisfies(identity.version) && labelled(labels);
}
