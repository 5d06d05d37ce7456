/**
 * The part of the Standard Schema interface (standardschema.dev, version 1) that kite reads. zod, valibot and arktype
 * schemas have this shape, so kite validates with any of them and depends on none.
 */
export interface Schema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
    /** Standard JSON Schema, which not every library has: the same schema as data. */
    readonly jsonSchema?: { readonly input: WriteJsonSchema; readonly output: WriteJsonSchema } | undefined;
  };
}

type WriteJsonSchema = (options: {
  readonly target: "draft-2020-12";
  readonly libraryOptions?: Record<string, unknown> | undefined;
}) => Record<string, unknown>;

export type SchemaResult<Output> = { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What a caller may pass to a schema. */
export type SchemaInput<S> = S extends { readonly "~standard": { readonly types?: { readonly input: infer I } | undefined } } ? I : never;
/** What a schema makes of it. */
export type SchemaOutput<S> = S extends { readonly "~standard": { readonly types?: { readonly output: infer O } | undefined } } ? O : never;

/**
 * What a schema found wrong, in one line: each issue with the path that it is about.
 *
 * @example
 * const { issues } = await z.object({ size: z.number() })["~standard"].validate({ size: "large" });
 * if (issues !== undefined) console.log(describeIssues(issues)); // such as: expected number at size
 */
export function describeIssues(issues: readonly SchemaIssue[]): string {
  return issues.map((issue) => issue.message + at(issue.path)).join("; ");
}

function at(path: SchemaIssue["path"]): string {
  if (path === undefined || path.length === 0) return "";
  return ` at ${path.map((step) => String(typeof step === "object" ? step.key : step)).join(".")}`;
}
