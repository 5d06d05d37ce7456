import { KiteError } from "./errors.ts";
import type { Call, CallOptions } from "./method.ts";
import { Peer } from "./session/peer.ts";

/**
 * A remote kite as its contract describes it: methods to call, nested as they are named. Closing it, best with
 * `await using`, ends the session.
 *
 * @example
 * await using math = await kite.connect<MathContract>({ name: "math" });
 * await math.square(12);
 */
export type Remote<C> = C & AsyncDisposable;

/** What a remote kite is called through, whatever its dialect. */
export interface Connection extends AsyncDisposable {
  call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown>;
}

/** Makes the typed face of a connection. */
export function remote<C>(connection: Connection): Remote<C> {
  // The proxy answers any name; the contract is what makes the type true, and the remote side checks what arrives.
  return face(connection, "", undefined) as Remote<C>;
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
 * @example await callWith(math, { timeoutMs: 500, signal }).square(12)
 */
export function callWith<C>(target: Remote<C>, options: CallOptions): Remote<C> {
  return face(connectionOf(target), "", options) as Remote<C>;
}

/**
 * The connection behind a remote kite: its state, its session, and `close`.
 *
 * @throws {KiteError} `invalid_argument` for anything else, such as a twin that a test made.
 */
export function peerOf(target: AsyncDisposable): Peer {
  const connection = connectionOf(target);
  if (connection instanceof Peer) return connection;
  throw new KiteError("invalid_argument", "a kite that was dialled over kite.v1 was expected");
}

function connectionOf(target: AsyncDisposable): Connection {
  const connection = (target as AsyncDisposable & { [CONNECTION]?: Connection })[CONNECTION];
  if (connection === undefined) throw new KiteError("invalid_argument", "a remote kite was expected, as connect() and dial() make them");
  return connection;
}

const CONNECTION = Symbol("kite.connection");

function face(connection: Connection, path: string, options: CallOptions | undefined): object {
  const parts = new Map<string, object>();
  const call = (...args: unknown[]) => connection.call(path, args, options);
  return new Proxy(call, {
    get: (_, name) => {
      if (typeof name === "symbol") return special(connection, name);
      // A promise resolved with this must not take it for another promise.
      if (name === "then") return undefined;
      let part = parts.get(name);
      if (part === undefined) {
        part = face(connection, path === "" ? name : `${path}.${name}`, options);
        parts.set(name, part);
      }
      return part;
    },
  });
}

function special(connection: Connection, name: symbol): unknown {
  if (name === CONNECTION) return connection;
  if (name === Symbol.asyncDispose) return () => connection[Symbol.asyncDispose]();
  return undefined;
}
