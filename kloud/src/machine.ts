import { KiteError } from "@kite-mesh/kite";
import type { Machine, MachineState } from "./contract.ts";
import { masked } from "./plan.ts";
import type { ResourceState } from "./provider.ts";
import type { MachineDocument } from "./store/documents.ts";

/** Which state may follow which. Those in `-ing` belong to an operation; `Unknown` is where a failed one leaves a machine. */
export const MACHINE_MOVES: Readonly<Record<MachineState, readonly MachineState[]>> = {
  NotInitialized: ["Building", "Terminating"],
  Building: ["Running", "Stopped", "Unknown", "Terminating"],
  Starting: ["Running", "Stopped", "Unknown", "Terminating"],
  // Straight to Stopped: the provider says that it ended by itself.
  Running: ["Building", "Starting", "Stopping", "Stopped", "Unknown", "Terminating"],
  Stopping: ["Stopped", "Unknown", "Terminating"],
  // Straight to Running: somebody started it behind our back.
  Stopped: ["Building", "Starting", "Running", "Unknown", "Terminating"],
  Terminating: ["Terminated", "Unknown"],
  Terminated: [],
  Unknown: ["Building", "Starting", "Stopping", "Running", "Stopped", "Terminating"],
};

/** What the owner of a machine may ask for in each state, as Koding's kloud had it; nothing while something is under way. */
export const MACHINE_METHODS: Readonly<Record<MachineState, readonly ("start" | "stop")[]>> = {
  NotInitialized: [],
  Building: [],
  Starting: [],
  Running: ["stop"],
  Stopping: [],
  Stopped: ["start"],
  Terminating: [],
  Terminated: [],
  Unknown: ["start", "stop"],
};

/**
 * The document in its new state. A state may follow itself: an operation that was taken up again repeats its moves.
 *
 * @throws {KiteError} `internal` for a move that is not in the table.
 */
export function moveMachine(machine: MachineDocument, to: MachineState): MachineDocument {
  if (machine.state === to) return machine;
  if (MACHINE_MOVES[machine.state].includes(to)) return { ...machine, state: to };
  throw new KiteError("internal", `machine ${machine.label} cannot go from ${machine.state} to ${to}`);
}

/** @throws {KiteError} `failed_precondition` saying what is allowed instead. */
export function checkMachineMethod(machine: MachineDocument, wanted: "start" | "stop"): void {
  const allowed = MACHINE_METHODS[machine.state];
  if (allowed.includes(wanted)) return;
  const instead = allowed.length === 0 ? "nothing is allowed until that is over" : `allowed: ${allowed.join(", ")}`;
  throw new KiteError("failed_precondition", `${wanted} is not allowed while machine ${machine.label} is ${machine.state}; ${instead}`);
}

/** Takes over what the provider says, for a machine that no operation is working on. */
export function refreshMachine(machine: MachineDocument, actual: ResourceState | null): MachineDocument {
  if (machine.state !== "Running" && machine.state !== "Stopped" && machine.state !== "Unknown") return machine;
  if (actual === null) return { ...moveMachine(machine, "Unknown"), resource: null };
  const resource = actual;
  // Running again after a failed start is for the start operation to say: it also waits for the klient.
  if (actual.status === "stopped") return { ...moveMachine(machine, "Stopped"), resource };
  return machine.state === "Stopped" ? { ...moveMachine(machine, "Running"), resource } : { ...machine, resource };
}

/** A machine as its owner sees it. */
export function describeMachine(machine: MachineDocument): Machine {
  const { id, label, stack, owner, provider, state, kiteId, createdAt } = machine;
  const attributes = masked(machine.resource?.attributes ?? {}, machine.secret);
  return { id, label, stack, owner, provider, state, kiteId, attributes, createdAt };
}
