import { KiteError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Call } from "../method.ts";

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
  return (
    exposed(thrown, call, expose) ??
    new KiteError("internal", `${method} failed; its kite's log says why (id ${id})`, { cause: thrown, details: { id } })
  );
}

function exposed(thrown: unknown, call: Call, expose: ExposeErrors): KiteError | undefined {
  if (typeof expose === "boolean") return expose ? KiteError.from(thrown) : undefined;
  try {
    return expose(thrown, call);
  } catch {
    // It did not know this error either, and what it threw is no more for callers than the error itself.
    return undefined;
  }
}

function cancelled(thrown: Error, { method, signal }: Call): KiteError {
  const { reason } = signal;
  if (signal.aborted && reason instanceof KiteError) return reason;
  return new KiteError("cancelled", `${method} was cancelled in its kite`, { cause: thrown });
}
