import { KiteError } from "@kite-mesh/kite";
import type { Job } from "./job.ts";
import { moveMachine } from "./machine.ts";
import { bringUp, editMachine, typeOfMachine } from "./machine-steps.ts";
import type { MachineDocument } from "./store/documents.ts";

/** Makes a machine run again with the data that it had. Nothing is replaced. */
export async function startMachine(job: Job): Promise<void> {
  const { run } = job;
  await begin(job, "Checking machine state");
  const machine = await editMachine(job, machineOf(job), (found) => ({ ...moveMachine(found, "Starting"), desired: "Running" }));
  await tell(job, 25, "Starting machine");
  const { label } = await bringUp(job, machine);
  await run.tell({ percentage: 90, message: `machine ${label} is ready`, machine: label });
}

/** Ends everything that runs on a machine and keeps its data. */
export async function stopMachine(job: Job): Promise<void> {
  await begin(job, "Checking machine state");
  const machine = await editMachine(job, machineOf(job), (found) => ({ ...found, desired: "Stopped" }));
  // A worker before this one may have come to the end of it.
  if (machine.state === "Stopped") return;
  const stopping = await editMachine(job, machine.id, (found) => moveMachine(found, "Stopping"));
  await tell(job, 25, "Stopping machine");
  const resource = await stop(job, stopping);
  await editMachine(job, machine.id, (found) => ({ ...moveMachine(found, "Stopped"), resource }));
}

async function stop(job: Job, machine: MachineDocument) {
  const type = typeOfMachine(job.providers, machine);
  if (type.stop === undefined)
    throw new KiteError("failed_precondition", `machine ${machine.label} cannot be stopped: ${machine.type} has no such action`);
  job.run.assertHeld();
  return await type.stop({ id: machine.id, state: machine.resource, signal: job.run.signal });
}

async function begin(job: Job, message: string): Promise<void> {
  await job.run.tell({ state: "running", percentage: 10, message, machine: job.run.operation.machine });
}

async function tell(job: Job, percentage: number, message: string): Promise<void> {
  await job.run.tell({ percentage, message, machine: job.run.operation.machine });
}

function machineOf({ run }: Job): string {
  if (run.operation.machineId === null) throw new KiteError("internal", `operation ${run.operation.id} does not name its machine`);
  return run.operation.machineId;
}
