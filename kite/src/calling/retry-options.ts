/**
 * Which failed calls are made again, and how. A call that certainly did not run always is; one that may have run only if
 * its method is `idempotent` or `keyed`, as its kite says in `kite.describe` or the caller says here.
 */
export interface RetryOptions {
  /** Methods that may run twice. */
  readonly idempotent?: readonly string[] | undefined;
  /**
   * Methods that run once per key in each process of their kite; each call gets a fresh one. Methods that only their kite declares
   * as keyed get keys after the first failure, which is when it is asked.
   */
  readonly keyed?: readonly string[] | undefined;
  /** The first one included. Default 3. */
  readonly tries?: number | undefined;
  /** The most that the first wait may take; it doubles, and a random part of it is waited. Default 50 ms. */
  readonly firstMs?: number | undefined;
  /** Default 2 s. */
  readonly maxMs?: number | undefined;
}
