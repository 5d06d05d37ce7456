import { KiteError } from "@kite-mesh/kite";
import { applyStack, destroyStack } from "./apply.ts";
import type { Job, Workshop } from "./job.ts";
import { settleMachines } from "./machine-steps.ts";
import { describeOperation } from "./operation.ts";
import type { OperationRun } from "./operation-run.ts";
import { startMachine, stopMachine } from "./power.ts";
import { claimStack, moveStack, releaseStack, STACK_BUSY, STACK_GONE } from "./stack.ts";
import type { StackDocument } from "./store/documents.ts";
import { fenced, isLeaseLost } from "./store/fence.ts";
import { change, isStoreDown, type Store } from "./store/store.ts";

/**
 * Carries an operation from wherever it is to its end. Every step may have been done by an earlier worker.
 *
 * @throws when this worker must leave it: its lease is lost, it shuts down, or the store does not answer.
 */
export async function execute(workshop: Workshop, run: OperationRun): Promise<"ended" | "later"> {
  try {
    const stack = await claimStack(workshop.store, run.operation);
    const fence = await takeFence(workshop.store, stack);
    const job = { ...workshop, run, fence };
    await markAll(job);
    await carryOut(job);
  } catch (thrown) {
    const error = KiteError.from(thrown);
    if (run.signal.aborted || isLeaseLost(thrown) || isStoreDown(thrown)) throw thrown;
    if (error.reason === STACK_BUSY && run.operation.whenFree) return "later";
    if (error.reason === STACK_GONE && run.operation.kind === "destroy") await succeed(run);
    else await fail(workshop, run, error);
  }
  await releaseStack(workshop.store, run.operation);
  return "ended";
}

async function carryOut(job: Job): Promise<void> {
  const { kind } = job.run.operation;
  if (kind === "apply") await applyStack(job);
  else if (kind === "destroy") await destroyStack(job);
  else if (kind === "start") await startMachine(job);
  else await stopMachine(job);
  await succeed(job.run);
}

async function succeed(run: OperationRun): Promise<void> {
  const { kind } = describeOperation(run.operation);
  // A destroy whose stack was found gone has never been running.
  if (run.operation.state === "pending") await run.tell({ state: "running", message: `${kind} goes on` });
  await run.tell({ state: "succeeded", percentage: 100, message: `${kind} finished`, machine: run.operation.machine });
}

/** Leaves machines and stack in states from which something can be done, then ends the operation. */
async function fail({ store, now }: Workshop, run: OperationRun, error: KiteError): Promise<void> {
  const { operation } = run;
  const ours = (await store.stacks.get(operation.stackId))?.locks.some(({ operationId }) => operationId === operation.id) ?? false;
  if (ours) {
    await settleMachines(store, operation);
    if (operation.machineId === null) {
      await change(store.stacks, operation.stackId, (stack) =>
        stack.state === "applying" || stack.state === "destroying" ? moveStack(stack, "failed", now(), error.message) : null,
      );
    }
  }
  await run.tell({
    state: "failed",
    message: `${operation.kind} failed: ${error.message}`,
    machine: operation.machine,
    error: error.message,
  });
}

async function takeFence(store: Store, { id, name }: StackDocument): Promise<number> {
  const stack = await change(store.stacks, id, (found) => ({ ...found, fence: found.fence + 1 }));
  if (stack === null) throw new KiteError("not_found", `stack ${name} does not exist any more`, { reason: STACK_GONE });
  return stack.fence;
}

/** From here on a worker that held this operation before, and is only slow, can write none of these documents. */
async function markAll({ store, run, fence }: Job): Promise<void> {
  const { stackId, machineId } = run.operation;
  const isOurs = ({ id }: { id: string }) => machineId === null || id === machineId;
  for (const { id } of (await store.machines.find({ stackId })).filter(isOurs)) {
    await change(store.machines, id, (machine) => fenced(machine, fence));
  }
  for (const { id } of (await store.resources.find({ stackId })).filter(isOurs)) {
    await change(store.resources, id, (resource) => fenced(resource, fence));
  }
}
