/** What kloud serves. Everything is about the caller's own stacks and machines, except where administrators are named. */
export interface KloudContract {
  stack: {
    /** What applying the template would do, without doing it. */
    plan(request: StackRequest): Promise<Plan>;
    /** Makes the stack real. Returns once the operation is in the store; follow it with `operation.watch`. */
    apply(request: StackRequest & { planId?: string }): Promise<OperationStarted>;
    destroy(request: { name: string }): Promise<OperationStarted>;
    list(): Promise<Stack[]>;
    get(request: { name: string }): Promise<Stack>;
    /** For administrators: destroys every stack of a person who left. Idempotent. */
    release(request: { username: string }): Promise<{ operations: string[] }>;
  };
  machine: {
    list(): Promise<Machine[]>;
    start(request: { machineId: string }): Promise<OperationStarted>;
    stop(request: { machineId: string }): Promise<OperationStarted>;
    info(request: { machineId: string }): Promise<Machine>;
  };
  operation: {
    get(request: { operationId: string }): Promise<Operation>;
    /** Every event from the first (or after `since`) until the operation ends. */
    watch(request: { operationId: string; since?: number }): Promise<AsyncIterable<OperationEvent>>;
  };
  /** Every change to the caller's stacks and machines, from now on; first a snapshot. */
  watch(): Promise<AsyncIterable<StackEvent>>;
}

export interface StackRequest {
  /** The stack's YAML text. */
  template: string;
  /** Overrides the name in the template. */
  name?: string;
  variables?: Record<string, string>;
}

export interface Plan {
  id: string;
  stack: string;
  /** True when applying would change nothing. */
  empty: boolean;
  changes: PlanChange[];
  /** Which engine and which isolation would be used. */
  engine: string;
  machines: { label: string; provider: string; attributes: Record<string, unknown> }[];
}

export interface PlanChange {
  /** `local_instance.hello` */
  address: string;
  action: "create" | "update" | "replace" | "delete" | "none";
  /** Attributes that differ; secrets are `"(secret)"`. */
  before: Record<string, unknown> | null;
  after: Record<string, unknown> | null;
  /** Why it must be replaced, when it must. */
  replaceReasons: string[];
}

export interface OperationStarted {
  operationId: string;
  /** Koding's name for it: `apply-<stack id>`. */
  eventId: string;
}

export type OperationKind = "apply" | "destroy" | "start" | "stop";
export type OperationState = "pending" | "running" | "succeeded" | "failed";

export interface Operation {
  id: string;
  kind: OperationKind;
  owner: string;
  stack: string;
  machineId: string | null;
  state: OperationState;
  percentage: number;
  error: string | null;
  createdAt: string;
  finishedAt: string | null;
}

export interface OperationEvent {
  /** 1, 2, 3 … within the operation. */
  sequence: number;
  operationId: string;
  state: OperationState;
  percentage: number;
  message: string;
  machine: string | null;
  at: string;
  error: string | null;
}

export type StackState = "planned" | "applying" | "running" | "destroying" | "failed" | "gone";
export type MachineState =
  | "NotInitialized"
  | "Building"
  | "Starting"
  | "Running"
  | "Stopping"
  | "Stopped"
  | "Terminating"
  | "Terminated"
  | "Unknown";

export interface Stack {
  id: string;
  name: string;
  owner: string;
  state: StackState;
  /** The operation that is working on it, if any. */
  operationId: string | null;
  error: string | null;
  machines: Machine[];
  createdAt: string;
  updatedAt: string;
}

export interface Machine {
  id: string;
  label: string;
  stack: string;
  owner: string;
  provider: string;
  state: MachineState;
  /** The id of the klient on it, once it has registered. */
  kiteId: string | null;
  /** What the provider says of it, such as `isolation`; no secrets. */
  attributes: Record<string, unknown>;
  createdAt: string;
}

export type StackEvent =
  | { type: "snapshot"; stacks: Stack[] }
  | { type: "stack"; stack: Stack }
  | { type: "operation"; event: OperationEvent };
