import type { Schema, SchemaInput, SchemaOutput } from "./contract/standard-schema.ts";
import type { Identity } from "./identity.ts";

/** What a caller may do with somebody's kite, from least to most. Every role includes the ones before it. */
export const ROLES = ["viewer", "operator", "owner"] as const;
/** One of {@link ROLES}. */
export type Role = (typeof ROLES)[number];

/** Who is calling, as verified. Nothing in here was merely claimed. */
export interface Caller {
  /** The account that the token or key names; `anonymous` for methods that are open. */
  readonly username: string;
  /** Undefined for a caller who showed no credential: only methods with `role: "anyone"` answer. */
  readonly role: Role | undefined;
  /** The calling kite's own word about itself, with the username replaced by the verified one. */
  readonly kite: Identity | undefined;
  /** When the credential ends, in milliseconds since the epoch; undefined for one without an end (kite.key). */
  readonly expiresAt: number | undefined;
  /** If set, the only methods that the credential allows. */
  readonly methods: readonly string[] | undefined;
  /** The ids under which the credential can be revoked. */
  readonly credential: Credential | undefined;
}

/** What a caller showed, as far as it can be named in a revocation. */
export interface Credential {
  /** `token`, `kiteKey` or whatever the kite's own authenticator knows. */
  readonly type: string;
  readonly jti: string | undefined;
  readonly kid: string | undefined;
  /** Milliseconds since the epoch, by kontrol's clock: what was issued after a revocation is good again. */
  readonly issuedAt?: number | undefined;
  /** The revision of the mesh that whoever signed it knew: what was revoked later has revoked it, whatever clocks say. */
  readonly revision?: number | undefined;
}

/** What a method knows about the call that it is answering; always its last argument. */
export interface Call {
  /** The name that was called, such as `fs.readFile`. */
  readonly method: string;
  /** Who calls, as verified. */
  readonly caller: Caller;
  /**
   * Aborted when the caller cancels, its deadline passes or its session ends. For a method whose result holds streams also
   * when their reader leaves, which a generator that waits for something else does not hear otherwise.
   */
  readonly signal: AbortSignal;
  /** Milliseconds left until the caller stops waiting. */
  readonly remainingMs: number;
  /** What travelled beside the arguments. */
  readonly meta: CallMeta;
  /** The session that carries the call, for methods that keep something per session or call back; see {@link callerOf}. */
  readonly session: CallSession;
}

/** What travels beside a call's arguments; every field may be left out. */
export interface CallMeta {
  /** The caller's name for this one effect: a call that is repeated with the same key runs once. At most 128 characters. */
  readonly key?: string | undefined;
  /** W3C Trace Context: `00-<32 hex>-<16 hex>-<2 hex>`. */
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}

/** How one call is made; every field may be left out. */
export interface CallOptions {
  /** Cancels the call here and, with the next frame, the work over there. */
  signal?: AbortSignal | undefined;
  /** How long to wait for the answer, in milliseconds; it travels with the call. Default 60,000. */
  timeoutMs?: number | undefined;
  /** What travels beside the arguments: a key, a trace. */
  meta?: CallMeta | undefined;
}

/** `suspended`: the connection was lost, and may come back until the grace period is over. `closed` is for good. */
export type SessionState = "open" | "suspended" | "closed";

/** The session of a call, as far as a method may use it; the same for every dialect. */
export interface CallSession {
  readonly id: string;
  /** Calls a method of the caller's, if it serves any. */
  call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown>;
  /** As `call`, without an answer. */
  notify(method: string, args: readonly unknown[]): void;
  /** Aborted when the session has ended for good; a dropped socket that may come back does not abort it. */
  readonly closed: AbortSignal;
  readonly state: SessionState;
  /**
   * The address that the caller dials from; undefined where there is none (in memory, through a relay) or no connection now.
   * Behind a proxy it is the proxy's, unless `listen({ sourceOf })` says more.
   */
  readonly remoteAddress: string | undefined;
  /** Calls `listener` on every change of state, until the returned function is called or the state is `closed`. */
  onState(listener: (state: SessionState) => void): () => void;
}

/**
 * Whether a call may be made again when its answer did not come: `idempotent` methods at any time, `keyed` ones under the
 * same key, which each process of their kite runs once, `once` never.
 */
export type Repetition = "idempotent" | "keyed" | "once";

/** How often one caller may call a method: a token bucket that holds `burst` calls and gets `calls` new ones in `perMs`. */
export interface ThrottleOptions {
  /** Above 0. */
  readonly calls: number;
  /** Milliseconds, above 0. */
  readonly perMs: number;
  /** How many may come at once after a quiet time. Default: `calls`. */
  readonly burst?: number | undefined;
}

/** How many calls of a method may be at work, of all callers together. */
export interface ConcurrencyOptions {
  /** How many may run at once; 1 or more. */
  readonly running: number;
  /** How many more wait for their turn, first come first served. Default 100. */
  readonly waiting?: number | undefined;
}

type AnySchema = Schema;
/** One schema per positional argument. */
export type InputSchemas = AnySchema | readonly AnySchema[] | undefined;

type Arguments<I extends InputSchemas> = I extends readonly AnySchema[]
  ? { [K in keyof I]: SchemaOutput<I[K]> }
  : I extends AnySchema
    ? [SchemaOutput<I>]
    : [];
type CallerArguments<I extends InputSchemas> = I extends readonly AnySchema[]
  ? { [K in keyof I]: SchemaInput<I[K]> }
  : I extends AnySchema
    ? undefined extends SchemaInput<I>
      ? [input?: SchemaInput<I>]
      : [input: SchemaInput<I>]
    : [];

/** How a method is called, who may call it and what it says of itself. */
export interface MethodOptions<I extends InputSchemas = InputSchemas, O extends AnySchema | undefined = AnySchema | undefined> {
  /** The least role that may call it. `anyone` also answers callers without a credential. Default: `owner`. */
  role?: Role | "anyone";
  /** One Standard Schema for a method with one argument, a list of them for several; left out: none. */
  input?: I;
  /** A Standard Schema that the result must satisfy; left out: the result is passed on as it is. */
  output?: O;
  /** One sentence for `kite.describe` and the documentation. */
  description?: string;
  /**
   * What a caller may do when no answer came. Default `once`: nothing. A `keyed` method runs once for each caller and
   * `meta.key`; a repeat within ten minutes gets the same answer, or joins the run. Without a key it runs like `once`.
   * It keeps answers up to 64 MiB together, so let them say what was done, and be fetched otherwise: the repeat of a call
   * whose answer was let go fails with `failed_precondition`, and does not run.
   *
   * A process remembers in its own memory. A repeat that reaches another one, because the first has gone or a balanced caller
   * was sent there, runs again, and so does one after a restart. A method whose effect must not happen twice even then writes
   * `call.caller.username` and `call.meta.key` beside it, unique and in the same transaction, and answers a repeat with what it
   * finds there.
   *
   * @example method({ input: Order, repetition: "keyed" }, (order) => orders.place(order))
   * @example
   * method({ input: Order, repetition: "keyed" }, async (order, { caller, meta }) => {
   *   const name = [caller.username, meta.key ?? crypto.randomUUID()];
   *   // `orders` is unique on (buyer, key): whoever comes second inserts nothing, in whichever process.
   *   await db.query("insert into orders (buyer, key, content) values ($1, $2, $3) on conflict do nothing", [...name, order]);
   *   return (await db.query("select id from orders where buyer = $1 and key = $2", name)).rows[0];
   * })
   */
  repetition?: Repetition;
  /** Calls beyond it are refused with `overloaded`, and `details.retryAfterMs`. Strangers are counted for each session. */
  throttle?: ThrottleOptions;
  /** Calls beyond it are refused with `overloaded`; those that wait leave the line when their caller does. */
  concurrency?: ConcurrencyOptions;
  /** The most that a call may take, in milliseconds, its wait for a turn included; then its signal is aborted. Default: the caller's own. */
  timeoutMs?: number;
}

type Result<O> = O extends AnySchema ? SchemaInput<O> | Promise<SchemaInput<O>> : unknown;

/** A method as a kite serves it. Make one with {@link method}. */
export interface Method<Args extends readonly unknown[] = readonly unknown[], R = unknown> {
  readonly options: MethodOptions;
  readonly handler: (...args: never[]) => unknown;
  /** Exists in types only: what a caller passes and gets. */
  readonly signature?: (...args: Args) => Promise<R>;
}

/** A tree of methods; `{ fs: { readFile } }` is called as `fs.readFile`. */
export interface Methods {
  readonly [name: string]: Method<never, unknown> | Methods;
}

/**
 * Declares a method: its contract first, then the function that answers it.
 *
 * @example
 * const square = method({ role: "viewer", input: z.number(), output: z.number() }, (n) => n * n);
 * const add = method({ input: [z.number(), z.number()], output: z.number() }, (a, b) => a + b);
 */
export function method<
  const I extends InputSchemas = undefined,
  O extends AnySchema | undefined = undefined,
  H extends (...args: [...Arguments<I>, Call]) => Result<O> = (...args: [...Arguments<I>, Call]) => Result<O>,
>(options: MethodOptions<I, O>, handler: H): Method<CallerArguments<I>, O extends AnySchema ? SchemaOutput<O> : Awaited<ReturnType<H>>> {
  return { options: options as MethodOptions, handler: handler as (...args: never[]) => unknown };
}

/** The contract that a tree of methods offers: what `kite.connect<…>()` takes as its type argument. */
export type ContractOf<M> = {
  [K in keyof M]: M[K] extends Method<infer A, infer R> ? (...args: A) => Promise<R> : ContractOf<M[K]>;
};

/** Flattens a tree of methods into the names that travel on the wire. */
export function flattenMethods(methods: Methods, prefix = ""): Map<string, Method> {
  const flat = new Map<string, Method>();
  for (const [name, entry] of Object.entries(methods)) {
    if (isMethod(entry)) flat.set(prefix + name, entry);
    else for (const [inner, found] of flattenMethods(entry as Methods, `${prefix}${name}.`)) flat.set(inner, found);
  }
  return flat;
}

/** The schemas of a method's arguments, one for each. */
export function inputSchemas(input: InputSchemas): readonly Schema[] {
  if (input === undefined) return [];
  return Array.isArray(input) ? (input as readonly Schema[]) : [input as Schema];
}

/**
 * Whether a caller in this role may call a method that asks for `needed`; without a role, only what is for `anyone`.
 *
 * @example roleAllows("operator", "viewer") // true
 */
export function roleAllows(role: Role | undefined, needed: Role | "anyone"): boolean {
  if (needed === "anyone") return true;
  return role !== undefined && ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

function isMethod(entry: Method<never, unknown> | Methods): entry is Method {
  return typeof (entry as Method).handler === "function";
}
