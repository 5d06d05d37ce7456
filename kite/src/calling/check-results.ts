import { describeIssues, type Schema, type SchemaResult } from "../contract/standard-schema.ts";
import { KiteError } from "../errors.ts";
import { type Remote, withAnswers } from "./remote.ts";

/** A Standard Schema for each method whose results are checked, nested as the contract is; the others are left out. */
export type ResultSchemas<C> = {
  readonly [K in keyof C]?: C[K] extends (...args: never[]) => Promise<infer R> ? Schema<unknown, R> : ResultSchemas<C[K]>;
};

/**
 * The same remote kite, with what it answers checked here as well. A kite checks its own results before they leave; this is
 * for who calls one that he does not trust to do so, or that may be of another version than he knows. What arrives is the
 * value that the kite's own schema made, so the schema here describes that, and its caller gets what it makes of it.
 *
 * A result that breaks its schema fails with `invalid_result`; the call has run.
 *
 * @throws {KiteError} `invalid_argument` for what is neither a Standard Schema nor a group of them.
 * @example
 * const prices = checkResults(await kite.connect<PricesContract>({ name: "prices" }), { of: z.number().positive() });
 * await prices.of("tea");
 */
export function checkResults<C>(target: Remote<C>, results: ResultSchemas<C>): Remote<C> {
  const schemas = new Map(flatten(results, ""));
  return withAnswers(target, (method, answer) => {
    const schema = schemas.get(method);
    return schema === undefined ? answer : answer.then((value) => accept(schema, value, method));
  });
}

async function accept(schema: Schema, value: unknown, method: string): Promise<unknown> {
  const result: SchemaResult<unknown> = await schema["~standard"].validate(value);
  if (result.issues === undefined) return result.value;
  throw new KiteError(
    "invalid_result",
    `${method} has run, and its result is not what this side expects: ${describeIssues(result.issues)}`,
  );
}

function* flatten(results: object, prefix: string): Iterable<[string, Schema]> {
  for (const [name, entry] of Object.entries(results) as [string, unknown][]) {
    if (entry === undefined) continue;
    // arktype's schemas are functions.
    const isGroup = typeof entry === "object" && entry !== null;
    if (isSchema(entry)) yield [prefix + name, entry];
    else if (isGroup) yield* flatten(entry, `${prefix}${name}.`);
    else
      throw new KiteError(
        "invalid_argument",
        `the result of ${prefix}${name} is checked by a Standard Schema, such as one of zod's; got ${typeof entry}`,
      );
  }
}

function isSchema(entry: unknown): entry is Schema {
  const standard = (entry as Partial<Schema> | null)?.["~standard"];
  return typeof standard?.validate === "function";
}
