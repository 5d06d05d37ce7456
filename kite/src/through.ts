import type { Call, CallOptions } from "./method.ts";

/** Makes one call while it is looked at: `make` is the call, with the options that it goes out with. */
export type CallThrough = (method: string, options: CallOptions, make: (options: CallOptions) => Promise<unknown>) => Promise<unknown>;

/** Calls of functions while they are looked at. */
export interface FunctionsThrough {
  readonly invoking: CallThrough;
  /** `work` calls the function that has this name. */
  readonly invoked: (call: Call, name: string, work: () => unknown) => unknown;
}
