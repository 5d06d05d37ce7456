import type { Change, WantedResource } from "../plan.ts";
import type { MachineBoot, ResourceState } from "../provider.ts";

/**
 * What turns a plan into machines. An engine keeps its own state in kloud's store; what it plans is plain data, so that a
 * plan outlives the process that made it. Destroying a stack is applying the plan that wants nothing.
 */
export interface Engine {
  readonly name: string;
  plan(request: PlanRequest): Promise<Change[]>;
  /**
   * Carries the changes out, as many at once as it dares. Repeating it after a crash, with the same changes, does what was
   * not done and nothing twice.
   *
   * @throws {KiteError} naming every resource that failed; the others were carried out.
   */
  apply(request: ApplyRequest): Promise<void>;
}

export interface PlanRequest {
  /** Empty for a stack that does not exist yet. */
  stackId: string | null;
  wanted: readonly WantedResource[];
  /** Ask the providers what is really there. Not needed to destroy. */
  refresh: boolean;
  /** Addresses that must be made anew, with the reason. */
  mustReplace: ReadonlyMap<string, string>;
  signal: AbortSignal;
}

export interface ApplyRequest {
  operationId: string;
  owner: string;
  stackId: string;
  /** Of the worker: documents that a later worker has written refuse this one. */
  fence: number;
  changes: readonly Change[];
  /** Called before every effect; throws when this worker must not go on. */
  assertHeld: () => void;
  /** What a new machine's klient is started with. */
  boot: (resource: WantedResource, id: string) => Promise<MachineBoot>;
  /** Awaited: what is told before an effect is in the store before the effect. */
  tell: (event: EngineEvent) => Promise<void>;
  signal: AbortSignal;
}

/** `creating`, `updating` and `deleting` come before the effect, `present` and `deleted` after it, maybe more than once. */
export type EngineEvent =
  | { type: "creating" | "updating" | "deleting"; id: string; resource: WantedResource }
  | { type: "present"; id: string; resource: WantedResource; state: ResourceState }
  | { type: "deleted"; id: string; resource: WantedResource }
  | { type: "progress"; id: string; resource: WantedResource; message: string };
