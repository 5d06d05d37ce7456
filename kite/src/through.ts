import type { Call, CallOptions } from "./method.ts";

/** Makes one call while it is looked at: `make` is the call, with the options that it goes out with. */
export type CallThrough = (method: string, options: CallOptions, make: (options: CallOptions) => Promise<unknown>) => Promise<unknown>;

/** What a session's calls go through while they are looked at; what is left out just happens. */
export interface Through {
  /** Calls of the peer's methods. */
  readonly calling?: CallThrough | undefined;
  /** Calls of the peer's functions. */
  readonly invoking?: CallThrough | undefined;
  /** Calls by the peer of functions that it was sent. `work` calls the one that has this name. */
  readonly invoked?: ((call: Call, name: string, work: () => unknown) => unknown) | undefined;
}
