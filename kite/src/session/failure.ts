import { KiteError } from "../errors.ts";
import { type Logger, silent } from "../log.ts";
import type { Call } from "../method.ts";

/** What failed: a call, or something named like one, such as a stream or a function that the other side was given. */
export type FailedWork = Pick<Call, "method" | "caller"> & { readonly signal?: AbortSignal };

/**
 * What the other side sees of an error that is no KiteError. `false`, the default: a sentence and an id that is in the log as
 * well, since a message may hold what only the kite should know. `true`: its message. A function: the error that it makes of
 * it; undefined hides it.
 */
export type ExposeErrors = boolean | ((thrown: unknown, work: FailedWork) => KiteError | undefined);

/** Makes what was thrown into what the other side is told. */
export type Explain = (thrown: unknown, work: FailedWork) => KiteError;

/** One rule for everything that a kite runs for others: methods, and the streams and functions that it has given away. */
export function explaining({ exposeErrors = false, log = silent }: { exposeErrors?: ExposeErrors | undefined; log?: Logger }): Explain {
  return (thrown, work) => {
    if (thrown instanceof KiteError) return thrown;
    // What `fetch` and Node's own functions throw when they are given the call's signal.
    if (thrown instanceof Error && thrown.name === "AbortError") return cancelled(thrown, work);
    const { method } = work;
    const id = crypto.randomUUID().slice(0, 8);
    log.error({ method, caller: work.caller.username, id, err: thrown }, "a method, stream or function failed");
    return (
      exposed(thrown, work, exposeErrors) ??
      new KiteError("internal", `${method} failed; its kite's log says why (id ${id})`, { cause: thrown, details: { id } })
    );
  };
}

/** Where nobody said what may be seen. */
export const hideErrors: Explain = explaining({});

/** What went wrong while a value was written: code in it, such as a `toJSON`, may throw anything, which its error is made of. */
export function reasonOf(thrown: unknown): unknown {
  return thrown instanceof KiteError && thrown.cause !== undefined ? thrown.cause : thrown;
}

function exposed(thrown: unknown, work: FailedWork, expose: ExposeErrors): KiteError | undefined {
  if (typeof expose === "boolean") return expose ? KiteError.from(thrown) : undefined;
  try {
    return expose(thrown, work);
  } catch {
    // It did not know this error either, and what it threw is no more for others than the error itself.
    return undefined;
  }
}

function cancelled(thrown: Error, { method, signal }: FailedWork): KiteError {
  const reason: unknown = signal?.reason;
  if (signal?.aborted && reason instanceof KiteError) return reason;
  return new KiteError("cancelled", `${method} was cancelled in its kite`, { cause: thrown });
}
