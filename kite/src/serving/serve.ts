import { runInCall } from "../calling/context.ts";
import { describeIssues, type Schema, type SchemaResult } from "../contract/standard-schema.ts";
import { KiteError } from "../errors.ts";
import { type Logger, silent } from "../log.ts";
import {
  type Call,
  flattenMethods,
  inputSchemas,
  type Method,
  type MethodOptions,
  type Methods,
  type Role,
  roleAllows,
} from "../method.ts";
import { nearest } from "../nearest.ts";
import type { Watch } from "../observe.ts";
import type { IncomingCall, Serve } from "../session/calls.ts";
import { type Explain, explaining, type FailedWork } from "../session/failure.ts";
import { isThenable } from "../thenable.ts";
import { Gate } from "./concurrency.ts";
import { RepeatWindow } from "./repeat.ts";
import { type Answer, begun, type Guard, type ServedCall } from "./served-call.ts";
import { Throttle } from "./throttle.ts";

/**
 * Runs around every call of a kite: look at it, refuse it by throwing, change what comes back, or just pass it on. It also
 * sees the calls that `throttle` and `concurrency` refuse, and the repeats that `keyed` methods answer without running. Functions and
 * streams in the arguments of a call that fails without its method are let go.
 *
 * @example
 * const timing: Middleware = async (call, args, next) => {
 *   const begin = performance.now();
 *   try { return await next(); } finally { log.info({ method: call.method, ms: performance.now() - begin }, "served"); }
 * };
 */
export type Middleware = (call: Call, args: readonly unknown[], next: () => unknown) => unknown;

export interface ServeOptions {
  readonly methods: Methods;
  /** What every kite answers; a method of the same name in `methods` goes first. */
  readonly builtin?: Methods | undefined;
  readonly middleware?: readonly Middleware[] | undefined;
  /** What callers are told of errors that are no KiteErrors. Default: that there was one. */
  readonly explain?: Explain | undefined;
  readonly log?: Logger | undefined;
  /** Aborted when the kite closes: `keyed` methods, which outlive their sessions, are told to stop. */
  readonly closed?: AbortSignal | undefined;
  readonly watch?: Watch | undefined;
}

/** What answers the calls of all sessions of a kite: finds the method, checks role, credential and input, runs it, checks the result. */
export function serveMethods(options: ServeOptions): Serve {
  const { methods, builtin = {}, middleware = [], log = silent, explain = explaining({ log }), closed, watch } = options;
  const repeats = new RepeatWindow(closed);
  const served = new Map<string, Served>();
  for (const [name, method] of [...flattenMethods(builtin), ...flattenMethods(methods)]) served.set(name, prepare(name, method, repeats));
  const failed: Explain = (thrown, call) => {
    logBreach(thrown, call, log);
    return explain(thrown, call);
  };
  const serve: Serve = (call) => {
    const method = served.get(call.method);
    if (method === undefined) throw unknownMethod(call, served.keys());
    authorize(call, method);
    try {
      const result = runInCall(call, () =>
        middleware.length === 0 ? method.run(call) : through(middleware, call, () => method.run(call)),
      );
      if (!isThenable(result)) return result;
      return Promise.resolve(result).catch((thrown: unknown) => {
        throw failed(thrown, call);
      });
    } catch (thrown) {
      throw failed(thrown, call);
    }
  };
  return watch === undefined ? serve : watch.serving(serve, (method) => served.has(method));
}

/** These say of a method itself that something is wrong with it. */
function logBreach(thrown: unknown, { method, caller }: FailedWork, log: Logger): void {
  if (!(thrown instanceof KiteError) || (thrown.code !== "internal" && thrown.code !== "invalid_result")) return;
  log.error({ method, caller: caller.username, err: thrown }, "a method failed");
}

interface Served {
  readonly role: Role | "anyone";
  readonly run: Answer;
}

/** Decides once what each call then does; a method without bounds is called without a detour. */
function prepare(name: string, { options, handler }: Method, repeats: RepeatWindow): Served {
  const { role = "owner", input, output } = options;
  const schemas = inputSchemas(input);
  const invoke = handler as (...args: unknown[]) => unknown;
  const [only] = schemas;
  const answer = only !== undefined && schemas.length === 1 ? withOne(only, invoke) : withSeveral(schemas, invoke);
  const checked = (call: ServedCall): unknown => {
    if (call.args.length > schemas.length) throw tooMany(schemas.length, call);
    const result = answer(call);
    return output === undefined ? result : after(result, (value) => parseResult(output, value, call));
  };
  return { role, run: guards(name, options, repeats).reduce<Answer>((next, guard) => (call) => guard(call, next), checked) };
}

/** What stands before a method, from the inside out: its bounds, the answers that were kept, the rate. */
function guards(name: string, { concurrency, timeoutMs, repetition, throttle }: MethodOptions, repeats: RepeatWindow): Guard[] {
  const standing: Guard[] = [];
  try {
    if (concurrency !== undefined || timeoutMs !== undefined) {
      const gate = new Gate({ concurrency, timeoutMs });
      standing.push((call, next) => gate.run(call, next));
    }
    if (repetition === "keyed") {
      standing.push((call, next) => (call.meta.key === undefined ? next(call) : repeats.run(call, call.meta.key, next)));
    }
    if (throttle !== undefined) {
      const rate = new Throttle(throttle);
      standing.push((call, next) => {
        rate.take(call);
        return next(call);
      });
    }
  } catch (thrown) {
    const { code, message } = KiteError.from(thrown);
    throw new KiteError(code, `method ${name}: ${message}`, { cause: thrown });
  }
  return standing;
}

/** Most methods take one argument; they go without the lists that several need. */
function withOne(schema: Schema, invoke: (...args: unknown[]) => unknown): Answer {
  return (call) =>
    after(schema["~standard"].validate(call.args[0]), (result) => invoke(accepted(result as Parsed, "its argument", call), begun(call)));
}

function withSeveral(schemas: readonly Schema[], invoke: (...args: unknown[]) => unknown): Answer {
  return (call) => {
    const results = schemas.map((schema, index) => schema["~standard"].validate(call.args[index]));
    const all = results.some((result) => result instanceof Promise) ? Promise.all(results) : results;
    return after(all, (parsed) => {
      const args = (parsed as Parsed[]).map((result, index) => accepted(result, `argument ${index + 1}`, call));
      return invoke(...args, begun(call));
    });
  };
}

function authorize(call: IncomingCall, { role }: Served): void {
  const { caller, method } = call;
  if (role === "anyone") return;
  if (caller.expiresAt !== undefined && caller.expiresAt < Date.now()) {
    throw new KiteError("token_expired", `the token of ${caller.username} has expired; show a new one`);
  }
  if (caller.role === undefined) throw new KiteError("unauthenticated", `${method} is for callers who show a token; none was shown`);
  if (!roleAllows(caller.role, role)) {
    throw new KiteError("permission_denied", `${method} needs the role ${role}; ${caller.username} is ${caller.role} here`);
  }
  if (caller.methods !== undefined && !caller.methods.includes(method)) {
    throw new KiteError("permission_denied", `the token of ${caller.username} is not for ${method}, only for ${caller.methods.join(", ")}`);
  }
}

type Parsed = SchemaResult<unknown>;

function accepted(result: Parsed, which: string, { method }: ServedCall): unknown {
  if (result.issues === undefined) return result.value;
  throw new KiteError("invalid_argument", `${method} does not accept ${which}: ${describeIssues(result.issues)}`);
}

function tooMany(wanted: number, { args, method }: ServedCall): KiteError {
  return new KiteError("invalid_argument", `${method} takes ${count(wanted, "argument")}, got ${args.length}`);
}

function parseResult(schema: Schema, value: unknown, { method }: ServedCall): unknown {
  return after(schema["~standard"].validate(value), (result) => {
    const { issues } = result as Parsed;
    if (issues === undefined) return (result as { value: unknown }).value;
    throw new KiteError("invalid_result", `${method} made a result that breaks its own contract: ${describeIssues(issues)}`);
  });
}

function through(middleware: readonly Middleware[], call: IncomingCall, last: () => unknown): unknown {
  const step = (index: number): unknown => {
    const current = middleware[index];
    return current === undefined ? last() : current(call, call.args, () => step(index + 1));
  };
  return step(0);
}

/** `then` without a detour for what is there already. */
function after(value: unknown, next: (value: unknown) => unknown): unknown {
  return isThenable(value) ? Promise.resolve(value).then(next) : next(value);
}

function unknownMethod(call: IncomingCall, names: Iterable<string>): KiteError {
  // Strangers are not told what there is.
  const near = call.caller.role === undefined ? undefined : nearest(call.method, names);
  return new KiteError(
    "method_not_found",
    `Method not found: ${call.method.slice(0, MAX_NAME)}${near === undefined ? "" : `; did you mean ${near}?`}`,
  );
}

// Nobody reads more of a name that does not exist, and a peer may send megabytes.
const MAX_NAME = 100;

function count(n: number, noun: string): string {
  return n === 0 ? `no ${noun}s` : `${n} ${noun}${n === 1 ? "" : "s"}`;
}
