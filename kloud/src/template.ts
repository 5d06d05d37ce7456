import { nearest } from "@kite-mesh/kite";
import { type Entry, invalid, type Place, readSource, type Sourced, type SourcedMap } from "./template-source.ts";

/** A stack file that has been read: known sections, known types, good names. Attributes still hold their `${var.…}`. */
export interface Template {
  readonly name: string | null;
  readonly variables: Readonly<Record<string, Variable>>;
  readonly resources: readonly TemplateResource[];
}

export interface Variable {
  /** Undefined: whoever applies the stack must give a value. */
  readonly default: string | undefined;
  readonly description: string;
  /** Plans and machines show `(secret)` for every attribute that uses it. */
  readonly sensitive: boolean;
}

export interface TemplateResource {
  /** `local_instance.hello` */
  readonly address: string;
  readonly provider: string;
  readonly type: string;
  readonly label: string;
  readonly place: Place;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Which providers there are and what they make, as far as reading a template needs to know. */
export type Catalog = Readonly<Record<string, { readonly resources: Readonly<Record<string, CatalogType>> }>>;
export type CatalogType = { readonly machine: boolean; readonly attributes: readonly string[] };

/**
 * Reads the YAML of a stack. The shape is Koding's and Terraform's: `name`, `provider`, `variable`, `resource`.
 *
 * @throws {TemplateError} saying what was expected, what came, and in which line.
 */
export function parseTemplate(text: string, catalog: Catalog): Template {
  const sections = section(readSource(text), "the stack file", SECTIONS);
  readProviders(sections.get("provider"), catalog);
  return {
    name: readName(sections.get("name")),
    variables: readVariables(sections.get("variable")),
    resources: readResources(sections.get("resource"), catalog),
  };
}

/**
 * Checks a stack's name, wherever it came from.
 *
 * @throws {TemplateError}
 */
export function checkStackName(name: string, where: string): string {
  if (STACK_NAME.test(name)) return name;
  throw invalid(
    `a stack's name has letters, digits, ".", "_" and "-" (at most 63, a letter or digit first), got ${JSON.stringify(name)} ${where}`,
  );
}

const SECTIONS = ["name", "provider", "variable", "resource"] as const;
const VARIABLE_KEYS = ["default", "description", "sensitive"] as const;
const STACK_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_-]*$/;
// A label becomes a hostname in the mesh and a folder on disk: RFC 1123, in lower case so that no two differ by case alone.
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
// Enough for a class of students; each machine is a process tree somewhere.
const MAX_RESOURCES = 100;
// A longer text says nothing about what is wrong, and a file that is no template at all is one long text.
const SHOWN = 60;

function readName(source: Sourced | undefined): string | null {
  if (source === undefined) return null;
  return checkStackName(scalarText(source, "name"), `at ${source.place}`);
}

function readProviders(source: Sourced | undefined, catalog: Catalog): void {
  if (source === undefined) return;
  for (const { key, place, value } of unique(map(source, "provider"), "provider")) {
    if (!Object.hasOwn(catalog, key)) throw unknown(`provider "${key}" at ${place}`, key, Object.keys(catalog), "providers");
    if (value.kind === "scalar" && value.value === null) continue;
    const [setting] = map(value, `provider.${key}`).entries;
    if (setting !== undefined)
      throw invalid(`unknown key "${setting.key}" in provider.${key} at ${setting.place}; this provider has no settings`);
  }
}

function readVariables(source: Sourced | undefined): Record<string, Variable> {
  // An object that inherits nothing: a variable may be called like anything that objects have.
  const variables: Record<string, Variable> = Object.create(null);
  if (source === undefined) return variables;
  for (const { key, place, value } of unique(map(source, "variable"), "variable")) {
    if (!VARIABLE_NAME.test(key))
      throw invalid(`a variable's name has letters, digits, "_" and "-", got ${JSON.stringify(key)} at ${place}`);
    const path = `variable.${key}`;
    const fields = value.kind === "scalar" && value.value === null ? new Map<string, Sourced>() : section(value, path, VARIABLE_KEYS);
    const fallback = fields.get("default");
    const description = fields.get("description");
    variables[key] = {
      default: fallback === undefined ? undefined : scalarText(fallback, `${path}.default`),
      description: description === undefined ? "" : scalarText(description, `${path}.description`),
      sensitive: readFlag(fields.get("sensitive"), `${path}.sensitive`),
    };
  }
  return variables;
}

function readResources(source: Sourced | undefined, catalog: Catalog): TemplateResource[] {
  if (source === undefined) throw invalid('the stack file has no "resource" section; add one that says which machines there are to be');
  const types = new Map(
    Object.entries(catalog).flatMap(([provider, { resources }]) =>
      Object.entries(resources).map(([name, type]) => [name, { provider, type }] as const),
    ),
  );
  const resources: TemplateResource[] = [];
  const machines = new Map<string, TemplateResource>();
  for (const { key: name, place, value } of unique(map(source, "resource"), "resource")) {
    const known = types.get(name);
    if (known === undefined) throw unknown(`resource type "${name}" at ${place}`, name, [...types.keys()], "resource types");
    for (const entry of unique(map(value, `resource.${name}`), `resource.${name}`, known.type.machine ? "machine" : "resource")) {
      const resource = readResource(entry, known.provider, name, known.type);
      resources.push(resource);
      if (!known.type.machine) continue;
      const other = machines.get(resource.label);
      if (other !== undefined)
        throw duplicate("machine", resource.label, `${other.address} at ${other.place}`, `${resource.address} at ${resource.place}`);
      machines.set(resource.label, resource);
    }
  }
  if (resources.length > MAX_RESOURCES) throw invalid(`a stack may have ${MAX_RESOURCES} resources, this one has ${resources.length}`);
  return resources;
}

function readResource(
  { key: label, place, value }: Entry,
  provider: string,
  type: string,
  { attributes: known }: CatalogType,
): TemplateResource {
  if (!LABEL.test(label)) {
    throw invalid(
      `a machine's name becomes its hostname: lower-case letters, digits and "-" inside, at most 63; got ${JSON.stringify(label)} at ${place}`,
    );
  }
  const address = `${type}.${label}`;
  const path = `resource.${address}`;
  const attributes: Record<string, unknown> = {};
  if (value.kind !== "scalar" || value.value !== null) {
    for (const entry of unique(map(value, path), path)) {
      if (!known.includes(entry.key))
        throw unknown(`attribute "${entry.key}" in ${path} at ${entry.place}`, entry.key, known, "attributes");
      attributes[entry.key] = plain(entry.value, `${path}.${entry.key}`);
    }
  }
  return { address, provider, type, label, place, attributes };
}

function section(source: Sourced, path: string, known: readonly string[]): Map<string, Sourced> {
  const found = new Map<string, Sourced>();
  for (const { key, place, value } of unique(map(source, path), path)) {
    if (!known.includes(key)) throw unknown(`key "${key}" in ${path} at ${place}`, key, known, "keys");
    found.set(key, value);
  }
  return found;
}

function unique(source: SourcedMap, path: string, what = "key"): readonly Entry[] {
  const seen = new Map<string, Place>();
  for (const { key, place } of source.entries) {
    const first = seen.get(key);
    if (first !== undefined) throw duplicate(what, key, `${path} at ${first}`, place);
    seen.set(key, place);
  }
  return source.entries;
}

/** The value without its places, every map in it checked for keys written twice. */
function plain(source: Sourced, path: string): unknown {
  if (source.kind === "scalar") return source.value;
  if (source.kind === "list") return source.items.map((item, index) => plain(item, `${path}.${index}`));
  return Object.fromEntries(unique(source, path).map(({ key, value }) => [key, plain(value, `${path}.${key}`)]));
}

function map(source: Sourced, path: string): SourcedMap {
  if (source.kind === "map") return source;
  throw invalid(`${path} must be a map of keys to values, got ${kindOf(source)} at ${source.place}`);
}

function scalarText(source: Sourced, path: string): string {
  const value = source.kind === "scalar" ? source.value : null;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value);
  throw invalid(`${path} must be a text, got ${kindOf(source)} at ${source.place}`);
}

function readFlag(source: Sourced | undefined, path: string): boolean {
  if (source === undefined) return false;
  if (source.kind === "scalar" && typeof source.value === "boolean") return source.value;
  throw invalid(`${path} must be true or false, got ${kindOf(source)} at ${source.place}`);
}

function kindOf(source: Sourced): string {
  if (source.kind !== "scalar") return `a ${source.kind}`;
  if (typeof source.value === "string" && source.value.length > SHOWN) return `a text of ${source.value.length} characters`;
  return source.value === null ? "nothing" : `the ${typeof source.value} ${JSON.stringify(source.value)}`;
}

function unknown(what: string, word: string, known: readonly string[], kind: string): Error {
  const meant = nearest(word, known);
  const suggestion = meant === undefined ? "" : `; did you mean "${meant}"?`;
  return invalid(`unknown ${what}${suggestion || ";"} known ${kind}: ${known.join(", ")}`);
}

function duplicate(what: string, name: string, first: string, second: string): Error {
  return invalid(`${what} "${name}" is written twice: in ${first}, and again at ${second}; rename or remove one`);
}
