import { nearest } from "@kite-mesh/kite";
import type { WantedResource } from "./plan.ts";
import type { Provider } from "./provider.ts";
import type { Template, TemplateResource } from "./template.ts";
import { invalid } from "./template-source.ts";

/**
 * What a template asks for once its variables have values: every attribute checked by the provider's schema, defaults filled in.
 *
 * @throws {TemplateError} for a variable without a value, one that nobody declared, or a bad attribute.
 */
export async function wantedResources(
  template: Template,
  variables: Readonly<Record<string, string>>,
  providers: readonly Provider[],
): Promise<WantedResource[]> {
  const values = variableValues(template, variables);
  return await Promise.all(template.resources.map((resource) => wantedResource(resource, values, providers)));
}

type Values = ReadonlyMap<string, { value: string; sensitive: boolean }>;

function variableValues(template: Template, given: Readonly<Record<string, string>>): Values {
  const declared = Object.keys(template.variables);
  for (const name of Object.keys(given)) {
    if (!declared.includes(name))
      throw undeclared(`a value was given for variable "${name}", which the stack file does not declare`, name, declared);
  }
  const values = new Map<string, { value: string; sensitive: boolean }>();
  for (const [name, variable] of Object.entries(template.variables)) {
    const value = Object.hasOwn(given, name) ? given[name] : variable.default;
    if (value === undefined)
      throw invalid(`variable "${name}" has no value: give one when you plan or apply, or a default in the stack file`);
    values.set(name, { value, sensitive: variable.sensitive });
  }
  return values;
}

async function wantedResource(resource: TemplateResource, values: Values, providers: readonly Provider[]): Promise<WantedResource> {
  const { address, provider, type, label } = resource;
  const kind = providers.find(({ name }) => name === provider)?.resources[type];
  if (kind === undefined) throw invalid(`nobody provides resource type "${type}"`);
  const secret: string[] = [];
  const attributes: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(resource.attributes)) {
    const filled = fill(value, values, `resource.${address}.${key}`);
    attributes[key] = filled.value;
    if (filled.sensitive) secret.push(key);
  }
  const checked = await kind.schema["~standard"].validate(attributes);
  if (checked.issues !== undefined) {
    const said = checked.issues.map(({ message, path = [] }) => `${[`resource.${address}`, ...path.map(stepName)].join(".")}: ${message}`);
    throw invalid(`${said.join("; ")} (${resource.label} begins at ${resource.place})`);
  }
  return { address, provider, type, label, machine: kind.machine, attributes: checked.value, secret };
}

const REFERENCE = /\$\{\s*([^}]*?)\s*\}/g;
const VARIABLE = /^var\.([A-Za-z_][A-Za-z0-9_-]*)$/;

function fill(value: unknown, values: Values, path: string): { value: unknown; sensitive: boolean } {
  let sensitive = false;
  const walk = (part: unknown, at: string): unknown => {
    if (Array.isArray(part)) return part.map((item, index) => walk(item, `${at}.${index}`));
    if (typeof part === "object" && part !== null)
      return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, walk(inner, `${at}.${key}`)]));
    if (typeof part !== "string") return part;
    const text = part.replace(REFERENCE, (reference, expression: string) => {
      const name = VARIABLE.exec(expression)?.[1];
      if (name === undefined) throw invalid(`${at} uses ${reference}; only variables can be used here, as \${var.NAME}`);
      const variable = values.get(name);
      if (variable === undefined) throw undeclared(`${at} uses the undefined variable "${name}"`, name, [...values.keys()]);
      sensitive ||= variable.sensitive;
      return variable.value;
    });
    return text === part ? part : typed(text, part);
  };
  return { value: walk(value, path), sensitive };
}

/** A number or a truth value that came as a whole from a variable, as YAML would have read it: variables are texts. */
function typed(text: string, written: string): unknown {
  const whole = new RegExp(`^${REFERENCE.source}$`).test(written);
  if (whole && (text === "true" || text === "false")) return text === "true";
  if (whole && /^-?(0|[1-9]\d*)(\.\d+)?$/.test(text)) return Number(text);
  return text;
}

function stepName(step: PropertyKey | { readonly key: PropertyKey }): string {
  return String(typeof step === "object" ? step.key : step);
}

function undeclared(what: string, name: string, declared: readonly string[]): Error {
  const meant = nearest(name, declared);
  const known = declared.length === 0 ? "it declares none" : `declared: ${declared.join(", ")}`;
  return invalid(`${what}${meant === undefined ? "" : `; did you mean "${meant}"?`}; ${known}`);
}
