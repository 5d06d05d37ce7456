import { KiteError } from "../errors.ts";
import type { Call, CallOptions } from "../method.ts";
import { Peer } from "../session/peer.ts";
import type { Connection } from "./connection.ts";
import { callFollower } from "./context.ts";
import type { RetryOptions } from "./retry-options.ts";

export type { Connection } from "./connection.ts";

/**
 * A remote kite as its contract describes it: methods to call, nested as they are named. Closing it, best with
 * `await using`, ends the session.
 *
 * @example
 * await using math = await kite.connect<MathContract>({ name: "math" });
 * await math.square(12);
 */
export type Remote<C> = C & AsyncDisposable;

/** How all calls through one remote kite are made; see {@link callWith}. */
export interface RemoteOptions extends CallOptions {
  /**
   * Calls made inside a method do not end with the call that it answers, and have their own time. For work that goes on
   * after the answer.
   */
  detached?: boolean | undefined;
  /** Which failed calls are made again; `false`: none. Default: as the kite was connected with. */
  retry?: RetryOptions | false | undefined;
}

/** Makes the typed face of a connection. */
export function remote<C>(connection: Connection): Remote<C> {
  // The proxy answers any name; the contract is what makes the type true, and the remote side checks what arrives.
  return face({ connection, options: undefined, detached: false }, "") as Remote<C>;
}

/**
 * The kite that made a call, to call it back on the same session. It answers if it serves methods.
 *
 * @example const name = await callerOf<PromptContract>(call).kite.prompt("Your name? ");
 */
export function callerOf<C>({ session }: Call): Remote<C> {
  // The session is its caller's: what a method does with it ends nothing.
  return remote<C>({ call: (...call) => session.call(...call), [Symbol.asyncDispose]: async () => {} });
}

/**
 * The same remote kite, with options for every call made through the result.
 *
 * Inside a method that answers a call, calls through any remote kite have at most the rest of that call's time and end with
 * it, unless `detached` says otherwise.
 *
 * @throws {KiteError} `invalid_argument` for a `timeoutMs` that is no time: the call would run, and nobody wait for it.
 * @example await callWith(math, { timeoutMs: 500, signal }).square(12)
 */
export function callWith<C>(target: Remote<C>, { detached = false, retry, ...options }: RemoteOptions): Remote<C> {
  const { timeoutMs } = options;
  if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs > 0)) {
    throw new KiteError("invalid_argument", `timeoutMs is a number of milliseconds above 0, and not ${String(timeoutMs)}`);
  }
  const { connection, answered } = facingOf(target);
  const made = retry === undefined ? connection : retryingAs(connection, retry);
  return face({ connection: made, options, detached, answered }, "") as Remote<C>;
}

/** What becomes of an answer before whoever called gets it. */
export type Answered = (method: string, answer: Promise<unknown>) => Promise<unknown>;

/** The same remote kite, with every answer looked at, after whatever looks at them already. */
export function withAnswers<C>(target: Remote<C>, answered: Answered): Remote<C> {
  const facing = facingOf(target);
  const before = facing.answered;
  const both: Answered = before === undefined ? answered : (method, answer) => answered(method, before(method, answer));
  return face({ ...facing, answered: both }, "") as Remote<C>;
}

/**
 * The connection behind a remote kite: its state, its session, and `close`.
 *
 * @throws {KiteError} `invalid_argument` for anything else, such as a twin that a test made.
 * @example peerOf(math).onState((state) => console.log(`math is ${state}`));
 */
export function peerOf(target: AsyncDisposable): Peer {
  for (let connection: Connection | undefined = facingOf(target).connection; connection !== undefined; connection = connection.inner) {
    if (connection instanceof Peer) return connection;
  }
  throw new KiteError("invalid_argument", "one kite that was dialled over kite.v1 was expected; a balanced connection has many");
}

function facingOf(target: AsyncDisposable): Facing {
  const facing = (target as AsyncDisposable & { [FACING]?: Facing })[FACING];
  if (facing === undefined) throw new KiteError("invalid_argument", "a remote kite was expected, as connect() and dial() make them");
  return facing;
}

const FACING = Symbol("kite.facing");

function retryingAs(connection: Connection, retry: RetryOptions | false): Connection {
  if (retry === false) return connection.with === undefined ? connection : (connection.inner ?? connection);
  if (connection.with !== undefined) return connection.with(retry);
  throw new KiteError("failed_precondition", "this remote kite makes no retries: it was connected with `retry: false`, or in a browser");
}

interface Facing {
  readonly connection: Connection;
  readonly options: CallOptions | undefined;
  readonly detached: boolean;
  readonly answered?: Answered | undefined;
}

function face(facing: Facing, path: string): object {
  const { connection, options, detached, answered } = facing;
  const make = (...args: unknown[]): Promise<unknown> => {
    const follower = detached ? undefined : callFollower();
    const outer = follower?.current();
    if (follower === undefined || outer === undefined) return connection.call(path, args, options);
    return follower.callWithin(outer, path, options ?? {}, (within) => connection.call(path, args, within));
  };
  const call = answered === undefined ? make : (...args: unknown[]): Promise<unknown> => answered(path, make(...args));
  // A contract may have these names, too.
  for (const own of Reflect.ownKeys(call)) Reflect.deleteProperty(call, own);
  return Object.setPrototypeOf(call, partsOf(call, facing, path));
}

/** Makes what is nested in `call` when it is first asked for, and leaves it there: from then on nothing is asked, which counts in every call. */
function partsOf(call: object, facing: Facing, path: string): object {
  return new Proxy(NOTHING, {
    get: (_, name) => {
      if (typeof name === "symbol") return special(facing, name);
      // A promise resolved with this must not take it for another promise.
      if (name === "then") return undefined;
      const value = face(facing, path === "" ? name : `${path}.${name}`);
      Object.defineProperty(call, name, { value });
      return value;
    },
  });
}

const NOTHING = Object.freeze(Object.create(null));

function special(facing: Facing, name: symbol): unknown {
  if (name === FACING) return facing;
  if (name === Symbol.asyncDispose) return () => facing.connection[Symbol.asyncDispose]();
  return undefined;
}
