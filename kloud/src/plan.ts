import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { PlanChange } from "./contract.ts";
import type { ResourceState } from "./provider.ts";

/** One resource as the template asks for it, variables filled in, checked by its schema. */
export interface WantedResource {
  readonly address: string;
  readonly provider: string;
  readonly type: string;
  readonly label: string;
  readonly machine: boolean;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Names of attributes whose values must not be shown. */
  readonly secret: readonly string[];
}

/** One resource as it was left by earlier operations. */
export interface StoredResource {
  readonly id: string;
  readonly wanted: WantedResource;
  /** `broken`: half made or half removed. `dirty`: an update was cut short, what is there still works. */
  readonly condition: "whole" | "dirty" | "broken";
  /** What the provider says of it now; null when it is gone there. */
  readonly actual: ResourceState | null;
}

export type Action = PlanChange["action"];

/** What is to happen to one resource. Plain data: it is kept in the operation and carried out by whoever takes that up. */
export interface Change {
  readonly action: Action;
  readonly address: string;
  /** What will exist afterwards, or for `delete` what goes. */
  readonly resource: WantedResource;
  /** The id of what will exist afterwards; null for `delete`. */
  readonly id: string | null;
  /** The id of what must go: for `delete`, `replace`, and remains of something that is gone. */
  readonly removes: string | null;
  readonly before: Readonly<Record<string, unknown>> | null;
  readonly replaceReasons: readonly string[];
}

export interface DiffRequest {
  wanted: readonly WantedResource[];
  stored: readonly StoredResource[];
  /** Attributes of a type that cannot change in place. */
  replaceOn: (resource: WantedResource) => readonly string[];
  /** Addresses that must be made anew whatever their attributes say, with the reason. */
  mustReplace: ReadonlyMap<string, string>;
  newId: () => string;
}

/** The difference between what is wanted and what is there, in the order in which it is carried out. */
export function diff(request: DiffRequest): Change[] {
  const stored = new Map(request.stored.map((resource) => [resource.wanted.address, resource]));
  const wanted = new Set(request.wanted.map(({ address }) => address));
  const changes = request.wanted.map((resource) => changeOf(resource, stored.get(resource.address), request));
  const leftovers = request.stored.filter((resource) => !wanted.has(resource.wanted.address));
  return [...changes, ...leftovers.map(removal)].sort(inOrder);
}

/** A fingerprint of what a plan would do; ids that were made up for it do not count. */
export function digestOf(changes: readonly Change[]): string {
  const essence = changes.map(({ action, address, resource, before, replaceReasons, removes }) => [
    action,
    address,
    resource,
    before,
    replaceReasons,
    removes,
  ]);
  return createHash("sha256").update(JSON.stringify(essence, sortKeys)).digest("hex");
}

/** A change as people see it: without secrets. */
export function describeChange(change: Change): PlanChange {
  const { address, action, resource, before, replaceReasons } = change;
  return {
    address,
    action,
    before: before === null ? null : masked(before, resource.secret),
    after: action === "delete" ? null : masked(resource.attributes, resource.secret),
    replaceReasons: [...replaceReasons],
  };
}

/** The attributes, with `"(secret)"` in place of those that must not be shown. */
export function masked(attributes: Readonly<Record<string, unknown>>, secret: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, secret.includes(name) ? "(secret)" : value]));
}

// What goes frees names and room for what comes.
const ORDER: readonly Action[] = ["delete", "replace", "update", "create", "none"];

function changeOf(resource: WantedResource, stored: StoredResource | undefined, request: DiffRequest): Change {
  const { address } = resource;
  const create = { action: "create", address, resource, before: null, replaceReasons: [] } as const;
  if (stored === undefined) return { ...create, id: request.newId(), removes: null };
  // Half made, or gone behind our back: nothing there is worth keeping, but remains of it may be.
  if (stored.condition === "broken" || stored.actual === null) return { ...create, id: request.newId(), removes: stored.id };

  const before = currentAttributes(stored, stored.actual, resource);
  const names = [...new Set([...Object.keys(before), ...Object.keys(resource.attributes)])];
  const different = names.filter((name) => !isDeepStrictEqual(before[name], resource.attributes[name]));
  const fixed = request.replaceOn(resource);
  const reasons = different.filter((name) => fixed.includes(name)).map((name) => `${name} cannot change in place`);
  const forced = request.mustReplace.get(address);
  if (forced !== undefined) reasons.push(forced);

  const change = { address, resource: keepSecret(resource, stored), before, replaceReasons: reasons };
  if (reasons.length > 0) return { ...change, action: "replace", id: request.newId(), removes: stored.id };
  const update = different.length > 0 || stored.condition === "dirty";
  return { ...change, action: update ? "update" : "none", id: stored.id, removes: null };
}

function removal(stored: StoredResource): Change {
  const { wanted } = stored;
  const before = stored.actual === null ? wanted.attributes : currentAttributes(stored, stored.actual, wanted);
  return { action: "delete", address: wanted.address, resource: wanted, id: null, removes: stored.id, before, replaceReasons: [] };
}

/** What was set, corrected by what the provider says it is now. Attributes that only the provider computes are no difference. */
function currentAttributes(stored: StoredResource, actual: ResourceState, resource: WantedResource): Record<string, unknown> {
  const names = [...Object.keys(stored.wanted.attributes), ...Object.keys(resource.attributes)];
  const entries = names.map(
    (name) => [name, name in actual.attributes ? actual.attributes[name] : stored.wanted.attributes[name]] as const,
  );
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** What was secret before stays hidden in the "before" of a plan, even if the new template no longer says so. */
function keepSecret(resource: WantedResource, stored: StoredResource): WantedResource {
  return { ...resource, secret: [...new Set([...resource.secret, ...stored.wanted.secret])] };
}

function inOrder(a: Change, b: Change): number {
  const byAction = ORDER.indexOf(a.action) - ORDER.indexOf(b.action);
  if (byAction !== 0) return byAction;
  return a.address < b.address ? -1 : Number(a.address > b.address);
}

function sortKeys(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
