import { randomUUID } from "node:crypto";
import { KiteError } from "@kite-mesh/kite";
import { OperationRun } from "./operation-run.ts";
import type { OperationDocument } from "./store/documents.ts";
import type { Store } from "./store/store.ts";

export interface WorkerOptions {
  store: Store;
  /** Carries an operation to its end; throws to leave it to the next worker. `later`: try again in a while. */
  execute: (run: OperationRun) => Promise<"ended" | "later">;
  log: { warn(fields: object, message: string): void };
  now: () => Date;
  leaseMs?: number;
  /** How many operations at once. */
  concurrency?: number;
}

/**
 * Takes up operations that nobody is working on, also those that a killed process left behind. How long a document has not
 * changed is measured on this machine alone, so clocks that disagree cannot make two workers hold one operation.
 */
export class Worker {
  readonly #options: Required<WorkerOptions>;
  readonly #seen = new Map<string, { version: number; since: number }>();
  readonly #notBefore = new Map<string, number>();
  readonly #running = new Map<string, { run: OperationRun | undefined; ended: Promise<void> }>();
  #unsubscribe: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #scan: Promise<void> | undefined;
  #scanAgain = false;
  #closed = false;

  constructor(options: WorkerOptions) {
    this.#options = { leaseMs: LEASE_MS, concurrency: CONCURRENCY, ...options };
  }

  start(): void {
    this.#unsubscribe = this.#options.store.onChange((change) => {
      if (change.type === "resync" || (change.collection === "operations" && !this.#running.has(change.id))) this.wake();
    });
    this.#timer = setInterval(() => this.wake(), Math.min(this.#options.leaseMs / 2, RETRY_MS));
    this.wake();
  }

  /** Looks for work now. */
  wake(): void {
    if (this.#closed) return;
    if (this.#scan !== undefined) {
      this.#scanAgain = true;
      return;
    }
    this.#scan = this.#scanOnce().finally(() => {
      this.#scan = undefined;
      if (!this.#scanAgain) return;
      this.#scanAgain = false;
      this.wake();
    });
  }

  /** Stops what is under way, and leaves it so that the next worker begins at once. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#unsubscribe?.();
    await this.#scan;
    const running = [...this.#running.values()];
    for (const { run } of running) run?.lose("kloud is shutting down");
    await Promise.all(running.map(({ ended }) => ended));
  }

  async #scanOnce(): Promise<void> {
    try {
      const open = await this.#options.store.operations.find({ open: true });
      this.#forget(new Set(open.map(({ id }) => id)));
      for (const operation of open) {
        if (this.#closed || this.#running.size >= this.#options.concurrency) return;
        if (!this.#running.has(operation.id) && this.#isFree(operation)) this.#takeUp(operation);
      }
    } catch (thrown) {
      this.#options.log.warn({ error: KiteError.from(thrown).message }, "kloud could not look for operations; it will try again");
    }
  }

  #isFree({ id, lease, version }: OperationDocument): boolean {
    const now = performance.now();
    if (now < (this.#notBefore.get(id) ?? 0)) return false;
    if (lease === null) return true;
    const seen = this.#seen.get(id);
    if (seen?.version === version) return now - seen.since > this.#options.leaseMs;
    this.#seen.set(id, { version, since: now });
    return false;
  }

  #takeUp(operation: OperationDocument): void {
    const entry: { run: OperationRun | undefined; ended: Promise<void> } = { run: undefined, ended: Promise.resolve() };
    entry.ended = this.#work(operation, entry).finally(() => {
      this.#running.delete(operation.id);
      this.wake();
    });
    this.#running.set(operation.id, entry);
  }

  async #work(found: OperationDocument, entry: { run: OperationRun | undefined }): Promise<void> {
    const { store, execute, leaseMs, now, log } = this.#options;
    // Whatever goes wrong here, trying again at once would go wrong again.
    this.#notBefore.set(found.id, performance.now() + RETRY_MS);
    let run: OperationRun | undefined;
    try {
      const operation = await store.operations.replace({ ...found, lease: { holder: randomUUID(), beat: 0 } });
      run = new OperationRun({ store, operation, leaseMs, now });
      entry.run = run;
      if (this.#closed) run.lose("kloud is shutting down");
      const outcome = await execute(run);
      if (outcome === "later") await run.putBack();
    } catch (thrown) {
      const error = KiteError.from(thrown);
      if (error.code !== "conflict") log.warn({ operation: found.id, error: error.message }, "an operation was left for later");
      // Where the store answers, nobody has to wait for the lease to end.
      if (this.#closed) await run?.putBack().catch(() => undefined);
    } finally {
      await run?.close();
    }
  }

  #forget(open: ReadonlySet<string>): void {
    for (const map of [this.#seen, this.#notBefore]) for (const id of map.keys()) if (!open.has(id)) map.delete(id);
  }
}

// After kill -9 an operation rests so long; four beats of 1.5 s keep a live one from being taken for dead.
const LEASE_MS = 6_000;
// Operations mostly wait for machines; the provider's own limit is what protects the host.
const CONCURRENCY = 16;
const RETRY_MS = 500;
