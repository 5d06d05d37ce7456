import type { Repetition } from "../method.ts";
import type { KiteDescription, MethodDescription } from "./description.ts";
import type { JsonSchema } from "./json-schema.ts";
import { type SchemaChange, schemaChange } from "./schema-change.ts";
import { canonical, essence } from "./schema-essence.ts";

/** One difference between two contracts, as a caller sees it. */
export interface ContractChange {
  readonly method: string;
  readonly kind: "removed" | "added" | "role" | "repetition" | "input" | "output";
  /** Whether a caller that was written against the contract before may fail against the one after. */
  readonly breaking: boolean;
  /** A sentence: `argument 1.size no longer accepts null`. */
  readonly message: string;
}

/** The part of a description that {@link contractHash} and {@link compareContracts} look at. */
export type Contract = Pick<KiteDescription, "methods">;

/**
 * SHA-256, in hexadecimal, of what callers depend on: names, roles, repetition, arguments and results. What is only said
 * about them, such as descriptions and titles, does not count, nor does any order.
 *
 * @example
 * const { kite: about } = await kite.connect<BuiltinContract>({ name: "math" });
 * const theirs = await about.describe();
 * if (theirs.hash !== (await contractHash(released))) console.log(compareContracts(released, theirs));
 */
export async function contractHash({ methods }: Contract): Promise<string> {
  const facts = byName(methods).map(({ name, role, repetition, input, required = input.length, output }) => {
    return { name, role, repetition, input: input.map(essence), required, output: essence(output) };
  });
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(canonical(facts)));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * What changed between two contracts, and what of it breaks callers: arguments may only accept more, results only promise
 * more. Where that cannot be seen from the schemas, it counts as breaking, and the message says "may".
 *
 * @example
 * const { kite: about } = await kite.connect<BuiltinContract>({ name: "math" });
 * const breaking = compareContracts(released, await about.describe()).filter((change) => change.breaking);
 * for (const { method, message } of breaking) console.error(`${method}: ${message}`);
 */
export function compareContracts(before: Contract, after: Contract): ContractChange[] {
  const now = new Map(after.methods.map((method) => [method.name, method]));
  const then = new Set(before.methods.map(({ name }) => name));
  const changes = byName(before.methods).flatMap((method) => {
    const current = now.get(method.name);
    return current === undefined ? [change(method.name, "removed", true, "is not served any more")] : compareMethods(method, current);
  });
  const added = byName(after.methods).filter(({ name }) => !then.has(name));
  return [...changes, ...added.map(({ name }) => change(name, "added", false, "is new"))];
}

function compareMethods(before: MethodDescription, after: MethodDescription): ContractChange[] {
  return [
    ...compareRoles(before, after),
    ...compareRepetition(before, after),
    ...compareInput(before, after),
    ...compareOutput(before, after),
  ];
}

function compareRoles({ name, role: was }: MethodDescription, { role: is }: MethodDescription): ContractChange[] {
  if (was === is) return [];
  return [change(name, "role", ROLES_UP.indexOf(is) > ROLES_UP.indexOf(was), `asked for the role ${was} and asks for ${is} now`)];
}

function compareRepetition({ name, repetition: was }: MethodDescription, { repetition: is }: MethodDescription): ContractChange[] {
  if (was === is) return [];
  return [change(name, "repetition", REPEATABLE.indexOf(is) < REPEATABLE.indexOf(was), `was ${was} and is ${is} now`)];
}

const ROLES_UP: readonly MethodDescription["role"][] = ["anyone", "viewer", "operator", "owner"];
// From the least that a caller may do when an answer does not come to the most.
const REPEATABLE: readonly Repetition[] = ["once", "keyed", "idempotent"];

function compareInput(before: MethodDescription, after: MethodDescription): ContractChange[] {
  const [was, is] = [before.input, after.input];
  const [needed, needs] = [before.required ?? was.length, after.required ?? is.length];
  if (needed === needs && canonical(was.map(essence)) === canonical(is.map(essence))) return [];
  const breaks: string[] = [];
  const notes: string[] = [];
  if (is.length < was.length)
    breaks.push(`takes ${is.length} ${is.length === 1 ? "argument" : "arguments"} and took ${was.length}; more are refused`);
  for (let index = needed; index < needs; index++) breaks.push(`argument ${index + 1} must be given now`);
  let isSame = needed === needs && was.length === is.length;
  for (let index = 0; index < Math.min(was.length, is.length); index++) {
    const found = compareSchemas("input", was[index], is[index], `argument ${index + 1}`);
    breaks.push(...found.breaks);
    notes.push(...found.notes);
    isSame &&= isWithoutBreak("input", is[index], was[index]);
  }
  if (notes.length === 0) notes.push(isSame ? OTHER_WORDS : "accepts more than before");
  return changes(before.name, "input", breaks, notes);
}

function compareOutput(before: MethodDescription, after: MethodDescription): ContractChange[] {
  if (canonical(essence(before.output)) === canonical(essence(after.output))) return [];
  const { breaks } = compareSchemas("output", before.output, after.output, "the result");
  const note = isWithoutBreak("output", after.output, before.output) ? OTHER_WORDS : "promises more of its result than before";
  return changes(before.name, "output", breaks, [note]);
}

const OTHER_WORDS = "says the same in other words";

function isWithoutBreak(side: "input" | "output", before: JsonSchema | undefined, after: JsonSchema | undefined): boolean {
  const { breaks, notes } = compareSchemas(side, before, after, "");
  return breaks.length === 0 && notes.length === 0;
}

function compareSchemas(side: "input" | "output", before: JsonSchema = {}, after: JsonSchema = {}, at = ""): SchemaChange {
  return schemaChange(side, essence(before) as JsonSchema, essence(after) as JsonSchema, at);
}

/** Where something breaks, that is what counts. */
function changes(method: string, kind: ContractChange["kind"], breaks: readonly string[], notes: readonly string[]): ContractChange[] {
  if (breaks.length > 0) return breaks.map((message) => change(method, kind, true, message));
  return notes.map((message) => change(method, kind, false, message));
}

function change(method: string, kind: ContractChange["kind"], breaking: boolean, message: string): ContractChange {
  return { method, kind, breaking, message };
}

function byName(methods: readonly MethodDescription[]): MethodDescription[] {
  return [...methods].sort((a, b) => (a.name < b.name ? -1 : 1));
}
