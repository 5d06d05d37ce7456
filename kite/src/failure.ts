import { KiteError } from "./errors.ts";
import type { Logger } from "./log.ts";
import type { Call } from "./method.ts";

/**
 * What callers see of an error that is no KiteError. `false`, the default: a sentence and an id that is in the log as well,
 * since a message may hold what only the kite should know. `true`: its message. A function: the error that it makes of it;
 * undefined hides it.
 */
export type ExposeErrors = boolean | ((thrown: unknown, call: Call) => KiteError | undefined);

/** Makes what a method threw into what its caller is told, and logs what the caller is not told. */
export function failure(thrown: unknown, call: Call, { expose, log }: { expose: ExposeErrors; log: Logger }): KiteError {
  const { method } = call;
  const caller = call.caller.username;
  if (thrown instanceof KiteError) {
    if (thrown.code === "internal" || thrown.code === "invalid_result") log.error({ method, caller, err: thrown }, "a method failed");
    return thrown;
  }
  // What `fetch` and Node's own functions throw when they are given the call's signal.
  if (thrown instanceof Error && thrown.name === "AbortError") return cancelled(thrown, call);
  const id = crypto.randomUUID().slice(0, 8);
  log.error({ method, caller, id, err: thrown }, "a method failed");
  if (expose === true) return KiteError.from(thrown);
  const exposed = expose === false ? undefined : expose(thrown, call);
  return exposed ?? new KiteError("internal", `${method} failed; its kite's log says why (id ${id})`, { cause: thrown, details: { id } });
}

function cancelled(thrown: Error, { method, signal }: Call): KiteError {
  const { reason } = signal;
  if (signal.aborted && reason instanceof KiteError) return reason;
  return new KiteError("cancelled", `${method} was cancelled in its kite`, { cause: thrown });
}
