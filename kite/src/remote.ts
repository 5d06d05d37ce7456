import { KiteError } from "./errors.ts";
import type { CallOptions } from "./session/calls.ts";
import type { Peer } from "./session/peer.ts";

/**
 * A remote kite as its contract describes it: methods to call, nested as they are named. Closing it, best with
 * `await using`, ends the session.
 *
 * @example
 * await using math = await kite.connect<MathContract>({ name: "math" });
 * await math.square(12);
 */
export type Remote<C> = C & AsyncDisposable;

/** Makes the typed face of a peer. */
export function remote<C>(peer: Peer): Remote<C> {
  // The proxy answers any name; the contract is what makes the type true, and the remote side checks what arrives.
  return face(peer, "", undefined) as Remote<C>;
}

/**
 * The same remote kite, with options for every call made through the result.
 *
 * @example await callWith(math, { timeoutMs: 500, signal }).square(12)
 */
export function callWith<C>(target: Remote<C>, options: CallOptions): Remote<C> {
  return face(peerOf(target), "", options) as Remote<C>;
}

/**
 * The connection behind a remote kite: its state, its session, and `close`.
 *
 * @throws {KiteError} `invalid_argument` for anything else, such as a twin that a test made.
 */
export function peerOf(target: AsyncDisposable): Peer {
  const peer = (target as AsyncDisposable & { [PEER]?: Peer })[PEER];
  if (peer === undefined) throw new KiteError("invalid_argument", "a remote kite was expected, as connect() and dial() make them");
  return peer;
}

const PEER = Symbol("kite.peer");

function face(peer: Peer, path: string, options: CallOptions | undefined): object {
  const parts = new Map<string, object>();
  const call = (...args: unknown[]) => peer.call(path, args, options);
  return new Proxy(call, {
    get: (_, name) => {
      if (typeof name === "symbol") return special(peer, name);
      // A promise resolved with this must not take it for another promise.
      if (name === "then") return undefined;
      let part = parts.get(name);
      if (part === undefined) {
        part = face(peer, path === "" ? name : `${path}.${name}`, options);
        parts.set(name, part);
      }
      return part;
    },
  });
}

function special(peer: Peer, name: symbol): unknown {
  if (name === PEER) return peer;
  if (name === Symbol.asyncDispose) return () => peer[Symbol.asyncDispose]();
  return undefined;
}
