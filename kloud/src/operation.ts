import type { Operation, OperationEvent, OperationKind, OperationStarted, OperationState } from "./contract.ts";
import type { ApplyIntent, New, OperationDocument, StoredEvent } from "./store/documents.ts";

/** Which state may follow which. A finished operation never moves again. */
export const OPERATION_MOVES: Readonly<Record<OperationState, readonly OperationState[]>> = {
  pending: ["running", "failed"],
  running: ["succeeded", "failed"],
  succeeded: [],
  failed: [],
};

export interface NewOperation {
  id: string;
  kind: OperationKind;
  owner: string;
  stackId: string;
  stack: string;
  machine?: { id: string; label: string };
  apply?: ApplyIntent;
  whenFree?: boolean;
}

/** An operation before anybody has taken it up. */
export function newOperation(request: NewOperation, at: Date): New<OperationDocument> {
  const { id, kind, owner, stackId, stack, machine, apply = null, whenFree = false } = request;
  const createdAt = at.toISOString();
  const first: StoredEvent = {
    sequence: 1,
    state: "pending",
    percentage: 0,
    message: `${kind} started`,
    machine: machine?.label ?? null,
    at: createdAt,
    error: null,
  };
  return {
    id,
    kind,
    owner,
    stackId,
    stack,
    machineId: machine?.id ?? null,
    machine: machine?.label ?? null,
    state: "pending",
    open: true,
    percentage: 0,
    error: null,
    createdAt,
    finishedAt: null,
    lease: null,
    events: [first],
    whenFree,
    apply,
    changes: null,
  };
}

export function isFinished(operation: OperationDocument): boolean {
  return OPERATION_MOVES[operation.state].length === 0;
}

export interface Happening {
  state?: OperationState;
  percentage?: number;
  message: string;
  machine?: string | null;
  error?: string;
}

/** The document with one more event. The percentage never falls, also not when a second worker repeats a step. */
export function withEvent(operation: OperationDocument, happening: Happening, at: Date): OperationDocument {
  const state = happening.state ?? operation.state;
  if (state !== operation.state && !OPERATION_MOVES[operation.state].includes(state)) {
    throw new Error(`operation ${operation.id} cannot go from ${operation.state} to ${state}`);
  }
  const percentage = Math.max(operation.percentage, happening.percentage ?? 0);
  const finished = OPERATION_MOVES[state].length === 0;
  const error = happening.error ?? operation.error;
  const sequence = (operation.events.at(-1)?.sequence ?? 0) + 1;
  const event: StoredEvent = {
    sequence,
    state,
    percentage,
    message: happening.message,
    machine: happening.machine ?? null,
    at: at.toISOString(),
    error,
  };
  // Past the bound only the end is told: an operation's story must not outgrow its document.
  const told = operation.events.length < MAX_EVENTS || finished;
  return {
    ...operation,
    state,
    percentage,
    error,
    open: !finished,
    finishedAt: finished ? at.toISOString() : null,
    lease: finished ? null : operation.lease,
    events: told ? [...operation.events, event] : operation.events,
  };
}

// A hundred machines tell about five things each.
const MAX_EVENTS = 1_000;

/** An operation as its owner sees it. */
export function describeOperation(operation: OperationDocument): Operation {
  const { id, kind, owner, stack, machineId, state, percentage, error, createdAt, finishedAt } = operation;
  return { id, kind, owner, stack, machineId, state, percentage, error, createdAt, finishedAt };
}

/** The events after `since`, oldest first. */
export function eventsAfter(operation: OperationDocument, since: number): OperationEvent[] {
  return operation.events.filter(({ sequence }) => sequence > since).map((event) => ({ ...event, operationId: operation.id }));
}

/** Koding's name for an operation: `apply-<stack id>`, `start-<machine id>`. */
export function describeStarted(operation: OperationDocument): OperationStarted {
  return { operationId: operation.id, eventId: `${operation.kind}-${operation.machineId ?? operation.stackId}` };
}
