import type { CallOptions } from "../method.ts";
import type { RetryOptions } from "./retry-options.ts";

/** What a remote kite is called through, whatever its dialect; policies such as retries are connections around another one. */
export interface Connection extends AsyncDisposable {
  call(method: string, args: readonly unknown[], options?: CallOptions): Promise<unknown>;
  /** The connection that this one adds something to. */
  readonly inner?: Connection;
  /** The same connection, which makes failed calls again, with other rules for that; undefined where it makes none again. */
  with?(retry: RetryOptions): Connection;
  /** `closed` when it was ended on this side: nothing that is tried again can succeed. */
  readonly state?: string | undefined;
  /** What the peer said of itself holds as long as this is the same; undefined where there are several peers. */
  readonly session?: unknown;
  /** Whether the next call goes to another kite than the one that has just failed, so that there is nothing to wait for. */
  readonly hasAnother?: boolean;
}
