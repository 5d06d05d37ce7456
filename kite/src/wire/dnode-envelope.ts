import { type KiteError, protocolError } from "../errors.ts";
import { checkIdentity, type Identity } from "../identity.ts";
import { isRecord, ResponseCallback } from "./dnode.ts";
import { readDnodeError } from "./dnode-error.ts";

/** A call as dnode's envelope carries it. */
export interface CallEnvelope {
  /** What the caller says of itself; undefined unless it is a whole identity. */
  readonly kite: Identity | undefined;
  readonly authentication: { readonly type: string; readonly key: string } | undefined;
  readonly args: readonly unknown[];
  /** Where the answer goes; undefined for a call that wants none. */
  readonly response: number | undefined;
}

/**
 * Reads the one argument of a named call.
 *
 * @throws {KiteError} `protocol_error` when there is none.
 */
export function readCall([envelope]: readonly unknown[]): CallEnvelope {
  if (!isRecord(envelope)) throw protocolError("a call has one argument, an object with withArgs and responseCallback");
  const { kite, authentication, withArgs = null, responseCallback } = envelope;
  return {
    kite: readIdentity(kite),
    authentication: readAuthentication(authentication),
    // Go sends null for none, and kite.js whatever it was given.
    args: withArgs === null ? [] : Array.isArray(withArgs) ? withArgs : [withArgs],
    response: responseCallback instanceof ResponseCallback ? responseCallback.id : undefined,
  };
}

/** An answer, or what the method failed with. */
export type Answer = { readonly result: unknown } | { readonly error: KiteError };

/**
 * Reads what a response callback was called with: `{ error, result }` in one object, or, from a client that is kite.js 1.0,
 * the two after one another.
 */
export function readAnswer(args: readonly unknown[]): Answer {
  const [first, second] = args;
  if (args.length === 1 && isRecord(first) && ("error" in first || "result" in first)) return answer(first["error"], first["result"]);
  const hidden = args.length === 2 && first === null ? hiddenError(second) : undefined;
  return answer(hidden ?? first, second);
}

function answer(error: unknown, result: unknown): Answer {
  return error === undefined || error === null ? { result: result ?? null } : { error: readDnodeError(error) };
}

/** A kite.js that refuses a call answers with success, and puts the error into the result: `[null, {"error": {"message": …}}]`. */
function hiddenError(result: unknown): unknown {
  if (!isRecord(result) || !isRecord(result["error"])) return undefined;
  const { error } = result;
  const alone = Object.keys(result).length === 1 && Object.keys(error).join() === "message";
  return alone && typeof error["message"] === "string" ? error : undefined;
}

/** A claim that is not whole is no reason to refuse a call: Go's own clients may say nothing of themselves. */
function readIdentity(kite: unknown): Identity | undefined {
  if (!isRecord(kite)) return undefined;
  try {
    return checkIdentity(kite as Partial<Identity>);
  } catch {
    return undefined;
  }
}

/** What is no credential is read as one that nobody knows, so that it is refused, and not taken for none. */
function readAuthentication(sent: unknown): CallEnvelope["authentication"] {
  if (sent === undefined || sent === null) return undefined;
  const { type, key } = isRecord(sent) ? sent : {};
  return { type: typeof type === "string" ? type : "", key: typeof key === "string" ? key : "" };
}
