import type { RemoteFunction } from "../session/callbacks.ts";
import { RemoteStream } from "../session/remote-stream.ts";
import type { Schema, SchemaResult } from "./standard-schema.ts";

type AnyFunction = (...args: never[]) => unknown;

/** A function of the caller's, as the method has it: every call of it is a message, and answers with a promise. */
export type Callback<F extends AnyFunction> = ((...args: Parameters<F>) => Promise<Awaited<ReturnType<F>>>) &
  Omit<RemoteFunction, keyof CallableFunction>;

/**
 * The schema of an argument that is a function. What it is called with is not checked: that is the callee's own word.
 * In a description it is `{ "x-kite": "callback" }`; a library's own schema, say of zod, shows the same with `.meta`.
 *
 * @example
 * const join = method({ role: "viewer", input: callback<(line: string) => void>() }, async (onLine) => {
 *   await onLine("welcome");
 * });
 */
export function callback<F extends AnyFunction>(): Schema<F, Callback<F>> {
  return schemaOf("callback", "a function", (value) => typeof value === "function");
}

/**
 * The schema of an argument that is a stream: the caller passes any async iterable, the method reads a {@link RemoteStream}.
 *
 * @example
 * const sum = method({ role: "viewer", input: stream<number>() }, async (numbers) => {
 *   let total = 0;
 *   for await (const number of numbers) total += number;
 *   return total;
 * });
 */
export function stream<T>(): Schema<AsyncIterable<T>, RemoteStream<T>> {
  return schemaOf("stream", "a stream", (value) => value instanceof RemoteStream);
}

function schemaOf<I, O>(kind: string, expected: string, accepts: (value: unknown) => boolean): Schema<I, O> {
  const jsonSchema = () => ({ "x-kite": kind });
  const validate = (value: unknown): SchemaResult<O> =>
    accepts(value) ? { value: value as O } : { issues: [{ message: `expected ${expected}, received ${typeof value}` }] };
  const standard = { version: 1, vendor: "kite", validate, jsonSchema: { input: jsonSchema, output: jsonSchema } } as const;
  return { "~standard": standard };
}
