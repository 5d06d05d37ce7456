import type { MachineState, OperationEvent, OperationKind, OperationState, StackState } from "../contract.ts";
import type { Change as PlannedChange, WantedResource } from "../plan.ts";
import type { ResourceState } from "../provider.ts";

/** What every document has. Times are ISO strings; lists come back in the order of `createdAt`, then `id`. */
export interface Document {
  readonly id: string;
  /** 1 when inserted, one more with every write. */
  readonly version: number;
  readonly owner: string;
  readonly stackId: string;
  readonly createdAt: string;
}

/** A document before the store has given it a version. */
export type New<D extends Document> = Omit<D, "version">;

/** A stack: what was asked for, and who is working on it now. */
export interface StackDocument extends Document {
  readonly name: string;
  readonly state: StackState;
  /** The YAML that was applied last. */
  readonly template: string;
  readonly locks: readonly Lock[];
  /** Grows with every worker that takes up an operation on this stack; a smaller number may no longer write. */
  readonly fence: number;
  readonly error: string | null;
  readonly updatedAt: string;
}

/** An operation at work on a stack. `machineId` is null when it is about all of it. */
export interface Lock {
  readonly operationId: string;
  readonly kind: OperationKind;
  readonly machineId: string | null;
}

/** A machine as its owner sees it, whichever engine made it. */
export interface MachineDocument extends Document {
  readonly stack: string;
  readonly label: string;
  readonly provider: string;
  /** The resource type, such as `local_instance`. */
  readonly type: string;
  readonly state: MachineState;
  /** What the owner wants; after a reboot, machines that should run are started again. */
  readonly desired: "Running" | "Stopped";
  readonly kiteId: string | null;
  readonly resource: ResourceState | null;
  /** Names of attributes that answers must not show. */
  readonly secret: readonly string[];
  readonly fence: number;
}

/** What the built-in engine knows of one resource. */
export interface ResourceDocument extends Document {
  readonly address: string;
  readonly wanted: WantedResource;
  /** Written before the provider is called (`creating`, `updating`, `deleting`) and after (`present`). */
  readonly phase: "creating" | "present" | "updating" | "deleting";
  readonly state: ResourceState | null;
  /** The operation that brought it to `present` last. */
  readonly doneBy: string | null;
  readonly fence: number;
}

/** One long action: its intent, its lease and its events in one document, so that they can never disagree. */
export interface OperationDocument extends Document {
  readonly kind: OperationKind;
  readonly stack: string;
  readonly machineId: string | null;
  readonly machine: string | null;
  readonly state: OperationState;
  /** True until it has succeeded or failed. */
  readonly open: boolean;
  readonly percentage: number;
  readonly error: string | null;
  readonly finishedAt: string | null;
  readonly lease: Lease | null;
  readonly events: readonly StoredEvent[];
  /** Wait for the stack to be free, instead of failing when it is not. */
  readonly whenFree: boolean;
  readonly apply: ApplyIntent | null;
  /** What is to be done, with the ids of what will be made: decided once, so that a second worker makes nothing twice. */
  readonly changes: readonly PlannedChange[] | null;
}

export interface ApplyIntent {
  readonly template: string;
  readonly wanted: readonly WantedResource[];
  /** Of the plan that was agreed to; null when none was shown. */
  readonly digest: string | null;
}

/** Held by the one run that may write; the others see by `beat` that it is alive, and need no common clock for that. */
export interface Lease {
  readonly holder: string;
  readonly beat: number;
}

export type StoredEvent = Omit<OperationEvent, "operationId">;

/** A plan that was shown: applying with its id does exactly that, or nothing. */
export interface PlanDocument extends Document {
  readonly stack: string;
  readonly digest: string;
}
