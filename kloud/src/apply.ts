import { KiteError } from "@kite-mesh/kite";
import { eachBounded } from "./engine/bounded.ts";
import type { EngineEvent } from "./engine/engine.ts";
import type { Job, Workshop } from "./job.ts";
import { moveMachine } from "./machine.ts";
import { bootOf, bringUp, editMachine } from "./machine-steps.ts";
import { type Change, digestOf, type WantedResource } from "./plan.ts";
import { moveStack } from "./stack.ts";
import type { MachineDocument } from "./store/documents.ts";
import { isLeaseLost } from "./store/fence.ts";
import { change, isStoreDown } from "./store/store.ts";

/** Makes a stack what its template says. The percentages are those of Koding's kloud. */
export async function applyStack(job: Job): Promise<void> {
  const { run, store, now } = job;
  const intent = run.operation.apply;
  if (intent === null) throw new KiteError("internal", `operation ${run.operation.id} does not say what to apply`);
  await change(store.stacks, run.operation.stackId, (stack) => ({ ...moveStack(stack, "applying", now()), template: intent.template }));
  await run.tell({ state: "running", percentage: 20, message: "Fetching and validating machines" });

  const changes = await decideChanges(job, intent.wanted, intent.digest);
  await run.tell({ percentage: 50, message: summary(changes) });
  await carryOutChanges(job, changes);

  await run.tell({ percentage: 70, message: "Checking VM connections" });
  await bringUpMachines(job);

  await run.tell({ percentage: 90, message: "Updating machine settings" });
  await change(store.stacks, run.operation.stackId, (stack) => moveStack(stack, "running", now()));
}

/** Removes every machine and resource of the stack, and then the stack. */
export async function destroyStack(job: Job): Promise<void> {
  const { run, store, now } = job;
  const { stackId } = run.operation;
  await change(store.stacks, stackId, (stack) => moveStack(stack, "destroying", now()));
  await run.tell({ state: "running", percentage: 20, message: "Fetching and validating machines" });

  const changes = await decideChanges(job, [], null);
  await run.tell({ percentage: 30, message: summary(changes) });
  await carryOutChanges(job, changes);

  run.assertHeld();
  const stack = await store.stacks.get(stackId);
  if (stack !== null) await store.stacks.remove(stack);
}

/** What would have to change, for a plan that is shown and for one that is carried out. */
export async function planChanges(
  { store, engine }: Pick<Workshop, "store" | "engine">,
  request: { stackId: string | null; wanted: readonly WantedResource[]; signal: AbortSignal },
): Promise<Change[]> {
  const { stackId, wanted, signal } = request;
  const mustReplace = new Map<string, string>();
  const machines = stackId === null ? [] : await store.machines.find({ stackId });
  for (const { type, label, kiteId } of machines) {
    if (kiteId === null) mustReplace.set(`${type}.${label}`, "its klient has never registered");
  }
  return await engine.plan({ stackId, wanted, refresh: wanted.length > 0, mustReplace, signal });
}

/** Decided once and kept: a second worker finds the ids of everything that the first one may have begun. */
async function decideChanges(job: Job, wanted: readonly WantedResource[], digest: string | null): Promise<readonly Change[]> {
  const { run } = job;
  if (run.operation.changes !== null) return run.operation.changes;
  const changes = await planChanges(job, { stackId: run.operation.stackId, wanted, signal: run.signal });
  if (digest !== null && digest !== digestOf(changes)) throw planIsOld();
  await run.saveChanges(changes);
  return changes;
}

/** The error of applying a plan that would no longer do what it showed. */
export function planIsOld(): KiteError {
  return new KiteError("failed_precondition", "the stack has changed since the plan was made; plan again, and apply that one");
}

async function carryOutChanges(job: Job, changes: readonly Change[]): Promise<void> {
  const { run, engine, fence } = job;
  const { id: operationId, owner, stackId } = run.operation;
  const steps = changes.filter(({ action }) => action !== "none").length;
  let done = 0;
  await engine.apply({
    operationId,
    owner,
    stackId,
    fence,
    changes,
    assertHeld: () => run.assertHeld(),
    boot: ({ label }) => bootOf(job, label),
    tell: async (event) => {
      if (event.type === "present" || event.type === "deleted") done++;
      await follow(job, event);
      const percentage = Math.min(69, 50 + Math.floor((20 * done) / Math.max(1, steps)));
      await run.tell({ percentage, message: sentence(event), machine: event.resource.machine ? event.resource.label : null });
    },
    signal: run.signal,
  });
}

/** Keeps the machine's document in step with what happens to its resource. */
async function follow(job: Job, event: EngineEvent): Promise<void> {
  if (!event.resource.machine) return;
  const { id, type } = event;
  if (type === "creating") await enterMachine(job, id, event.resource);
  else if (type === "updating") await editMachine(job, id, (machine) => moveMachine(machine, "Building"));
  else if (type === "deleting") await leaveMachine(job, id);
  else if (type === "present")
    await editMachine(job, id, (machine) => settled({ ...machine, resource: event.state, secret: event.resource.secret }));
  else if (type === "deleted") await forgetMachine(job, id);
}

async function enterMachine(job: Job, id: string, resource: WantedResource): Promise<void> {
  const { run, store, fence, now } = job;
  const { owner, stackId, stack } = run.operation;
  const { label, provider, type, secret } = resource;
  if ((await store.machines.get(id)) !== null) return;
  run.assertHeld();
  try {
    await store.machines.insert({
      id,
      stackId,
      stack,
      owner,
      label,
      provider,
      type,
      secret,
      state: "Building",
      desired: "Running",
      kiteId: null,
      resource: null,
      fence,
      createdAt: now().toISOString(),
    });
  } catch (thrown) {
    if (KiteError.from(thrown).code !== "already_exists") throw thrown;
    throw new KiteError(
      "already_exists",
      `${owner} already has a machine called ${label}; machine names are hostnames in the mesh, so choose another`,
      { cause: thrown },
    );
  }
}

async function leaveMachine(job: Job, id: string): Promise<void> {
  if ((await job.store.machines.get(id)) !== null) await editMachine(job, id, (machine) => moveMachine(machine, "Terminating"));
}

async function forgetMachine({ store, run }: Job, id: string): Promise<void> {
  run.assertHeld();
  const machine = await store.machines.get(id);
  if (machine !== null) await store.machines.remove(machine);
}

/** A machine that its owner has stopped stays so; the others are brought up when all changes are made. */
function settled(machine: MachineDocument): MachineDocument {
  return machine.desired === "Stopped" && machine.resource?.status === "stopped" ? moveMachine(machine, "Stopped") : machine;
}

// As many as the engine makes at once.
const CONCURRENCY = 8;

async function bringUpMachines(job: Job): Promise<void> {
  const { run, store } = job;
  const machines = await store.machines.find({ stackId: run.operation.stackId });
  const waiting = machines.filter(({ desired, state, kiteId }) => desired === "Running" && (state !== "Running" || kiteId === null));
  const failures: KiteError[] = [];
  let ready = 0;
  await eachBounded(waiting, CONCURRENCY, async (machine) => {
    try {
      await bringUp(job, machine);
      ready++;
      await run.tell({
        percentage: 70 + Math.floor((19 * ready) / waiting.length),
        message: `machine ${machine.label} is ready`,
        machine: machine.label,
      });
    } catch (thrown) {
      run.assertHeld();
      if (isStoreDown(thrown) || isLeaseLost(thrown)) throw thrown;
      failures.push(KiteError.from(thrown));
    }
  });
  const [first] = failures;
  if (first === undefined) return;
  if (failures.length === 1) throw first;
  throw new KiteError(first.code, failures.map(({ message }) => message).join("; "), { cause: first });
}

function summary(changes: readonly Change[]): string {
  const counts = (["create", "update", "replace", "delete"] as const).map((action) => ({
    action,
    count: changes.filter((planned) => planned.action === action).length,
  }));
  const told = counts.filter(({ count }) => count > 0).map(({ action, count }) => `${count} to ${action}`);
  return told.length === 0 ? "Nothing to change" : `Building stack resources: ${told.join(", ")}`;
}

function sentence(event: EngineEvent): string {
  const { address } = event.resource;
  if (event.type === "progress") return `${address}: ${event.message}`;
  const words = { creating: "creating", updating: "updating", deleting: "deleting", present: "done:", deleted: "deleted" } as const;
  return `${words[event.type]} ${address}`;
}
