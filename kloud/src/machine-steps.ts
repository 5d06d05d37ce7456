import { KiteError } from "@kite-mesh/kite";
import type { Job } from "./job.ts";
import { moveMachine } from "./machine.ts";
import type { MachineBoot, Provider, ResourceState, ResourceType } from "./provider.ts";
import type { MachineDocument, OperationDocument } from "./store/documents.ts";
import { fenced } from "./store/fence.ts";
import { change, type Store } from "./store/store.ts";

/** Changes a machine's document under the job's fence. */
export async function editMachine(job: Job, id: string, edit: (machine: MachineDocument) => MachineDocument): Promise<MachineDocument> {
  job.run.assertHeld();
  const written = await change(job.store.machines, id, (machine) => edit(fenced(machine, job.fence)));
  if (written === null) throw new KiteError("not_found", `machine ${id} does not exist any more`);
  return written;
}

/** Makes a machine run, if it does not, and waits until its klient is in the mesh. The document says `Running` afterwards. */
export async function bringUp(job: Job, machine: MachineDocument): Promise<MachineDocument> {
  const { state, started } = await startIfStopped(job, machine);
  job.run.assertHeld();
  const { kiteId } = await waitForKlient(job, machine, state, started ? machine.kiteId : null);
  return await editMachine(job, machine.id, (found) => ({ ...moveMachine(found, "Running"), kiteId, resource: state }));
}

/** What an operation that failed was doing with its machines is unknown now; their owner may start, apply or destroy. */
export async function settleMachines(store: Store, { stackId, machineId }: OperationDocument): Promise<void> {
  for (const { id } of await store.machines.find({ stackId })) {
    if (machineId !== null && id !== machineId) continue;
    await change(store.machines, id, (machine) => (IN_PROGRESS.has(machine.state) ? moveMachine(machine, "Unknown") : null));
  }
}

const IN_PROGRESS: ReadonlySet<string> = new Set(["Building", "Starting", "Stopping", "Terminating"]);

/** How the machine's provider handles its type. */
export function typeOfMachine(providers: readonly Provider[], { provider, type, label }: MachineDocument): ResourceType {
  const found = providers.find(({ name }) => name === provider)?.resources[type];
  if (found !== undefined) return found;
  throw new KiteError(
    "failed_precondition",
    `machine ${label} belongs to provider ${provider}, which this kloud does not have; start it with that provider`,
  );
}

/** What a new machine's klient is started with; the join token is made for it now, and kept nowhere. */
export async function bootOf({ mesh, run }: Job, label: string): Promise<MachineBoot> {
  const { owner, stack } = run.operation;
  const joinToken = await mesh.joinToken({ username: owner, purpose: `machine ${label} of stack ${stack}`, signal: run.signal });
  return { kontrolUrl: mesh.kontrolUrl, joinToken, hostname: label, username: owner };
}

async function startIfStopped(job: Job, machine: MachineDocument): Promise<{ state: ResourceState; started: boolean }> {
  const type = typeOfMachine(job.providers, machine);
  const { signal } = job.run;
  const state = await type.read({ id: machine.id, state: machine.resource, signal });
  if (state === null) throw new KiteError("not_found", `machine ${machine.label} is gone at its provider; apply the stack to make it anew`);
  if (state.status !== "stopped") return { state, started: false };
  return { state: await start(job, machine, type), started: true };
}

async function start(job: Job, machine: MachineDocument, type: ResourceType): Promise<ResourceState> {
  const { id, label, kiteId, resource } = machine;
  const { signal } = job.run;
  const made = kiteId === null ? await job.store.resources.get(id) : null;
  if (made !== null) {
    // Its klient was never in the mesh, so it may have no key yet: making it again, which finds what is there, brings a new token.
    const boot = await bootOf(job, label);
    job.run.assertHeld();
    return await type.create({ id, label, attributes: { ...made.wanted.attributes }, boot, progress: () => undefined, signal });
  }
  if (type.start === undefined)
    throw new KiteError("failed_precondition", `machine ${label} is stopped, and ${machine.type} cannot be started`);
  job.run.assertHeld();
  return await type.start({ id, state: resource, signal });
}

// Often enough that a klient which dies at once is reported within the second, seldom enough to cost nothing.
const LOOK_MS = 500;

async function waitForKlient(job: Job, machine: MachineDocument, state: ResourceState, not: string | null): Promise<{ kiteId: string }> {
  const { owner: username, label: hostname } = machine;
  const over = new AbortController();
  const signal = AbortSignal.any([job.run.signal, over.signal]);
  const timer = setTimeout(() => over.abort(), job.klientTimeoutMs);
  const died = diedEarly(job, machine, signal);
  try {
    return await Promise.race([job.mesh.klientReady({ username, hostname, not, signal }), died]);
  } catch (thrown) {
    job.run.signal.throwIfAborted();
    if (over.signal.aborted) throw tooLate(job, machine, state, thrown);
    throw thrown;
  } finally {
    clearTimeout(timer);
    over.abort();
    await died.catch(() => undefined);
  }
}

/** Rejects when the provider says that the machine has stopped; never resolves before the signal ends the wait. */
async function diedEarly(job: Job, machine: MachineDocument, signal: AbortSignal): Promise<never> {
  const type = typeOfMachine(job.providers, machine);
  while (!signal.aborted) {
    await pause(LOOK_MS, signal);
    if (signal.aborted) break;
    const state = await type.read({ id: machine.id, state: machine.resource, signal });
    if (state !== null && state.status !== "stopped") continue;
    throw new KiteError("unavailable", `the klient of machine ${machine.label} ended before it had registered${seeLog(state)}`);
  }
  throw signal.reason;
}

function tooLate(job: Job, machine: MachineDocument, state: ResourceState, cause: unknown): KiteError {
  const seconds = Math.round(job.klientTimeoutMs / 1000);
  return new KiteError(
    "deadline_exceeded",
    `the klient of machine ${machine.label} did not register within ${seconds} s; make sure that it can reach kontrol at ${job.mesh.kontrolUrl}${seeLog(state)}`,
    { cause },
  );
}

function seeLog(state: ResourceState | null): string {
  const log = state?.attributes.log;
  return typeof log === "string" ? `; its log is ${log}` : "";
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}
