import { KiteError } from "@kite-mesh/kite";
import type { Stack, StackState } from "./contract.ts";
import { describeMachine } from "./machine.ts";
import { isFinished } from "./operation.ts";
import type { Lock, MachineDocument, OperationDocument, StackDocument } from "./store/documents.ts";
import { change, type Store } from "./store/store.ts";

/** Which state may follow which. A stack that is `gone` has no document any more. */
export const STACK_MOVES: Readonly<Record<StackState, readonly StackState[]>> = {
  planned: ["applying", "destroying"],
  applying: ["running", "failed"],
  running: ["applying", "destroying"],
  destroying: ["gone", "failed"],
  failed: ["applying", "destroying"],
  gone: [],
};

/**
 * The document in its new state; a state may follow itself.
 *
 * @throws {KiteError} `internal` for a move that is not in the table.
 */
export function moveStack(stack: StackDocument, to: StackState, at: Date, error: string | null = null): StackDocument {
  if (stack.state !== to && !STACK_MOVES[stack.state].includes(to)) {
    throw new KiteError("internal", `stack ${stack.name} cannot go from ${stack.state} to ${to}`);
  }
  return { ...stack, state: to, error, updatedAt: at.toISOString() };
}

/** A stack as its owner sees it. */
export function describeStack(stack: StackDocument, machines: readonly MachineDocument[]): Stack {
  const { id, name, owner, state, error, createdAt, updatedAt } = stack;
  const operationId = stack.locks.at(0)?.operationId ?? null;
  return { id, name, owner, state, operationId, error, machines: [...machines].sort(byLabel).map(describeMachine), createdAt, updatedAt };
}

/** The order in which machines are shown: the same every time, also for those that were made in the same instant. */
function byLabel(a: MachineDocument, b: MachineDocument): number {
  return a.label < b.label ? -1 : Number(a.label > b.label);
}

/**
 * Enters the operation into its stack, which for a first `apply` comes into being here. Idempotent: who crashed after it
 * calls it again. Apply and destroy want the stack for themselves, start and stop only their machine.
 *
 * @throws {KiteError} `failed_precondition` naming the operation in the way; `not_found` when the stack is gone.
 */
export async function claimStack(store: Store, operation: OperationDocument): Promise<StackDocument> {
  const existing = await store.stacks.get(operation.stackId);
  if (existing === null) return await insertStack(store, operation);
  await dropStaleLocks(store, existing);
  const claimed = await change(store.stacks, operation.stackId, (stack) => {
    if (stack.locks.some(({ operationId }) => operationId === operation.id)) return null;
    const other = stack.locks.find((lock) => excludes(lock, operation.machineId));
    if (other !== undefined) throw busy(stack.name, other);
    return { ...stack, locks: [...stack.locks, { operationId: operation.id, kind: operation.kind, machineId: operation.machineId }] };
  });
  return claimed ?? gone(operation);
}

/**
 * Looks whether an operation could enter the stack now. Only `claimStack` decides; this spares the store an operation that
 * would be refused.
 *
 * @throws {KiteError} `failed_precondition` naming the operation in the way.
 */
export async function checkFree(store: Store, stackId: string, machineId: string | null): Promise<void> {
  const stack = await store.stacks.get(stackId);
  if (stack === null) return;
  await dropStaleLocks(store, stack);
  const other = (await store.stacks.get(stackId))?.locks.find((lock) => excludes(lock, machineId));
  if (other !== undefined) throw busy(stack.name, other);
}

/** Takes the operation out of its stack. Idempotent. */
export async function releaseStack(store: Store, { id, stackId }: { id: string; stackId: string }): Promise<void> {
  await change(store.stacks, stackId, (stack) => {
    const locks = stack.locks.filter(({ operationId }) => operationId !== id);
    return locks.length === stack.locks.length ? null : { ...stack, locks };
  });
}

function excludes(lock: Lock, machineId: string | null): boolean {
  return lock.machineId === null || machineId === null || lock.machineId === machineId;
}

/** An operation finishes first and releases then; a crash in between must not lock the stack for ever. */
export async function dropStaleLocks(store: Store, stack: StackDocument): Promise<void> {
  for (const { operationId } of stack.locks) {
    const operation = await store.operations.get(operationId);
    if (operation === null || isFinished(operation)) await releaseStack(store, { id: operationId, stackId: stack.id });
  }
}

async function insertStack(store: Store, operation: OperationDocument): Promise<StackDocument> {
  if (operation.kind !== "apply" || operation.apply === null) return gone(operation);
  const { stackId: id, owner, stack: name, createdAt } = operation;
  const lock: Lock = { operationId: operation.id, kind: operation.kind, machineId: null };
  try {
    return await store.stacks.insert({
      id,
      stackId: id,
      owner,
      name,
      state: "planned",
      template: operation.apply.template,
      locks: [lock],
      fence: 0,
      error: null,
      createdAt,
      updatedAt: createdAt,
    });
  } catch (thrown) {
    if (KiteError.from(thrown).code !== "already_exists") throw thrown;
    const [winner] = await store.stacks.find({ owner, name });
    if (winner?.locks.some(({ operationId }) => operationId === operation.id)) return winner;
    throw new KiteError("failed_precondition", `stack ${name} is just being made by another operation; try again when that is over`, {
      cause: thrown,
    });
  }
}

function busy(name: string, { kind, operationId }: Lock): KiteError {
  return new KiteError(
    "failed_precondition",
    `stack ${name} is busy: operation ${operationId} (${kind}) is working on it; follow that one, and try again when it is over`,
    {
      reason: STACK_BUSY,
      details: { operationId, kind },
    },
  );
}

/** The `reason` of the error that says that another operation is at work. */
export const STACK_BUSY = "stack_busy";

function gone(operation: OperationDocument): never {
  throw new KiteError("not_found", `stack ${operation.stack} does not exist any more`, { reason: STACK_GONE });
}

/** The `reason` of the error that says that there is no such stack (any more). */
export const STACK_GONE = "stack_gone";
