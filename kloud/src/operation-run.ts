import { KiteError } from "@kite-mesh/kite";
import { type Happening, withEvent } from "./operation.ts";
import type { OperationDocument } from "./store/documents.ts";
import { LeaseLost } from "./store/fence.ts";
import type { Store } from "./store/store.ts";

export interface OperationRunOptions {
  store: Store;
  /** The operation with the lease that this run has just written into it. */
  operation: OperationDocument;
  /** Others take the operation up when its document has not changed for so long. */
  leaseMs: number;
  now: () => Date;
}

/**
 * One worker's hold on one operation. It beats while it is held, writes events in order, and knows when it must stop:
 * `signal` aborts and `assertHeld` throws before another worker may begin. Close it with `close()`.
 */
export class OperationRun {
  readonly #store: Store;
  readonly #leaseMs: number;
  readonly #now: () => Date;
  readonly #abort = new AbortController();
  readonly #beats: NodeJS.Timeout;
  #operation: OperationDocument;
  #writes: Promise<unknown> = Promise.resolve();
  #provenAt = performance.now();

  constructor({ store, operation, leaseMs, now }: OperationRunOptions) {
    this.#store = store;
    this.#operation = operation;
    this.#leaseMs = leaseMs;
    this.#now = now;
    this.#beats = setInterval(() => this.#beat(), leaseMs / BEATS_PER_LEASE);
  }

  get operation(): OperationDocument {
    return this.#operation;
  }

  /** Aborted when the lease is lost or the worker shuts down; the operation is then another worker's. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** @throws {LeaseLost} */
  assertHeld(): void {
    if (performance.now() - this.#provenAt > this.#leaseMs * SAFE_SHARE)
      this.lose(`no write has succeeded for ${SAFE_SHARE * this.#leaseMs} ms`);
    if (this.signal.aborted) throw this.signal.reason;
  }

  /** Appends an event; it is in the store when the promise resolves. */
  async tell(happening: Happening): Promise<void> {
    await this.#write((operation) => withEvent(operation, happening, this.#now()));
  }

  async saveChanges(changes: NonNullable<OperationDocument["changes"]>): Promise<void> {
    await this.#write((operation) => ({ ...operation, changes }));
  }

  /** Gives the lease back without an end: the next worker may begin at once. */
  async putBack(): Promise<void> {
    await this.#write((operation) => ({ ...operation, lease: null }));
  }

  /** Ends the run because somebody else has it, or nobody here may go on. */
  lose(why: string): void {
    if (!this.signal.aborted) this.#abort.abort(new LeaseLost(`operation ${this.#operation.id}: ${why}`));
  }

  async close(): Promise<void> {
    clearInterval(this.#beats);
    await this.#writes.catch(() => undefined);
  }

  /** One write after the other: each builds on the version that the one before it has left. */
  #write(edit: (operation: OperationDocument) => OperationDocument): Promise<void> {
    const write = async () => {
      const startedAt = performance.now();
      try {
        this.#operation = await this.#store.operations.replace(edit(this.#operation));
        this.#provenAt = startedAt;
      } catch (thrown) {
        if (KiteError.from(thrown).code === "conflict") this.lose("another worker has taken it up");
        throw this.signal.aborted ? this.signal.reason : thrown;
      }
    };
    const written = this.#writes.then(write, write);
    this.#writes = written;
    return written;
  }

  #beat(): void {
    if (this.#operation.lease === null || this.signal.aborted) return;
    const beat = this.#write((operation) =>
      operation.lease === null ? operation : { ...operation, lease: { ...operation.lease, beat: operation.lease.beat + 1 } },
    );
    // A beat that fails may be followed by one that does not; the check of the lease decides.
    beat.catch(() => undefined);
    try {
      this.assertHeld();
    } catch {
      // The signal has told everybody.
    }
  }
}

// Three beats may fail before the lease is in danger.
const BEATS_PER_LEASE = 4;
// Stop well before another worker may begin: what was started last must still have time to end.
const SAFE_SHARE = 0.75;
