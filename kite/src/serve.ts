import { runInCall } from "./context.ts";
import { KiteError } from "./errors.ts";
import { type Logger, silent } from "./log.ts";
import { type Call, flattenMethods, type Method, type Methods, roleAllows } from "./method.ts";
import { nearest } from "./nearest.ts";
import type { Watch } from "./observe.ts";
import type { IncomingCall, Serve } from "./session/calls.ts";
import { describeIssues, type Schema, type SchemaResult } from "./standard-schema.ts";
import { isThenable } from "./thenable.ts";

/**
 * Runs around every call of a kite: look at it, refuse it by throwing, change what comes back, or just pass it on.
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
  readonly middleware?: readonly Middleware[] | undefined;
  readonly log?: Logger | undefined;
  readonly watch?: Watch | undefined;
}

/** What answers the calls of all sessions of a kite: finds the method, checks role, credential and input, runs it, checks the result. */
export function serveMethods({ methods, middleware = [], log = silent, watch }: ServeOptions): Serve {
  const served = new Map([...flattenMethods(methods)].map(([name, method]) => [name, prepare(method)]));
  const serve: Serve = (call) => {
    const method = served.get(call.method);
    if (method === undefined) throw unknownMethod(call, served.keys());
    authorize(call, method);
    try {
      const result = runInCall(call, () =>
        middleware.length === 0 ? method.run(call) : through(middleware, call, () => method.run(call)),
      );
      if (!isThenable(result)) return result;
      const answer = Promise.resolve(result);
      answer.catch((thrown: unknown) => report(thrown, call, log));
      return answer;
    } catch (thrown) {
      report(thrown, call, log);
      throw thrown;
    }
  };
  return watch === undefined ? serve : watch.serving(serve, (method) => served.has(method));
}

interface Served {
  readonly role: Method["options"]["role"] & string;
  run(call: IncomingCall): unknown;
}

function prepare({ options, handler }: Method): Served {
  const { role = "owner", input, output } = options;
  const schemas = input === undefined ? [] : ((Array.isArray(input) ? input : [input]) as readonly Schema[]);
  const invoke = handler as (...args: unknown[]) => unknown;
  const [only] = schemas;
  const answer = only !== undefined && schemas.length === 1 ? withOne(only, invoke) : withSeveral(schemas, invoke);
  const run = (call: IncomingCall): unknown => {
    if (call.args.length > schemas.length) throw tooMany(schemas.length, call);
    const result = answer(call);
    return output === undefined ? result : after(result, (value) => parseResult(output as Schema, value, call));
  };
  return { role, run };
}

/** Most methods take one argument; they go without the lists that several need. */
function withOne(schema: Schema, invoke: (...args: unknown[]) => unknown): (call: IncomingCall) => unknown {
  return (call) =>
    after(schema["~standard"].validate(call.args[0]), (result) => invoke(accepted(result as Parsed, "its argument", call), call));
}

function withSeveral(schemas: readonly Schema[], invoke: (...args: unknown[]) => unknown): (call: IncomingCall) => unknown {
  return (call) => {
    const results = schemas.map((schema, index) => schema["~standard"].validate(call.args[index]));
    const all = results.some((result) => result instanceof Promise) ? Promise.all(results) : results;
    return after(all, (parsed) => {
      const args = (parsed as Parsed[]).map((result, index) => accepted(result, `argument ${index + 1}`, call));
      return invoke(...args, call);
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

function accepted(result: Parsed, which: string, { method }: IncomingCall): unknown {
  if (result.issues === undefined) return result.value;
  throw new KiteError("invalid_argument", `${method} does not accept ${which}: ${describeIssues(result.issues)}`);
}

function tooMany(wanted: number, { args, method }: IncomingCall): KiteError {
  return new KiteError("invalid_argument", `${method} takes ${count(wanted, "argument")}, got ${args.length}`);
}

function parseResult(schema: Schema, value: unknown, { method }: IncomingCall): unknown {
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

function report(thrown: unknown, call: IncomingCall, log: Logger): void {
  if (thrown instanceof KiteError && thrown.code !== "internal" && thrown.code !== "invalid_result") return;
  log.error({ method: call.method, caller: call.caller.username, err: thrown }, "a method failed");
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
