import type { Identity } from "./identity.ts";
import type { Repetition, Role } from "./method.ts";

/** A JSON Schema, draft 2020-12. `{}` accepts anything: what a contract does not say, or a schema that cannot be written as JSON. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** What a method says of itself, as plain data. */
export interface MethodDescription {
  readonly name: string;
  readonly description?: string | undefined;
  readonly role: Role | "anyone";
  /** What may be done when an answer did not come; see {@link Repetition}. */
  readonly repetition: Repetition;
  /** One schema for each positional argument, as the caller writes it. */
  readonly input: readonly JsonSchema[];
  /** What the caller gets. */
  readonly output: JsonSchema;
}

/** The answer of `kite.describe`. */
export interface KiteDescription {
  readonly kite: Identity;
  /** The dialects that it speaks. */
  readonly dialects: readonly string[];
  /** SHA-256 in hexadecimal over what callers depend on: equal hashes are equal contracts. */
  readonly hash: string;
  /** By name; the built-in `kite.*` methods are left out. */
  readonly methods: readonly MethodDescription[];
}
