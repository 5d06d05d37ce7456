import type {
  Machine,
  MachineState,
  Operation,
  OperationEvent,
  OperationKind,
  OperationState,
  Stack,
  StackEvent,
} from "@kite-mesh/kloud/contract";
import type { Trouble } from "./trouble.ts";

/** The person's stacks and machines, with what is being done to them. */
export interface Fleet {
  readonly stacks: readonly Stack[];
  /** The last operations, oldest first. Those that succeeded stay for a while, so that a late answer cannot revive them. */
  readonly operations: ReadonlyMap<string, Progress>;
  /** By machine id: a request that did not even become an operation. */
  readonly refusals: ReadonlyMap<string, Trouble>;
  /** Machines whose start or stop was asked for and not yet answered. */
  readonly asking: ReadonlySet<string>;
}

export interface Progress {
  readonly id: string;
  /** Unknown until kloud was asked: an event tells only the operation's id. */
  readonly kind: OperationKind | null;
  readonly stack: string | null;
  readonly machineId: string | null;
  readonly state: OperationState;
  readonly percentage: number;
  readonly message: string;
  readonly error: string | null;
  /** Of the last event that was counted in. */
  readonly sequence: number;
}

export const EMPTY_FLEET: Fleet = { stacks: [], operations: new Map(), refusals: new Map(), asking: new Set() };

/** The fleet after one event of kloud's watch. */
export function applyStackEvent(fleet: Fleet, event: StackEvent): Fleet {
  switch (event.type) {
    case "snapshot":
      return { ...fleet, stacks: sortStacks(event.stacks.filter(present)) };
    case "stack": {
      const others = fleet.stacks.filter((stack) => stack.id !== event.stack.id);
      return { ...fleet, stacks: present(event.stack) ? sortStacks([...others, event.stack]) : others };
    }
    case "operation":
      return applyOperationEvent(fleet, event.event);
  }
}

/** The fleet after kloud was asked about an operation. What its events said meanwhile is newer, and stays. */
export function describeOperation(fleet: Fleet, operation: Operation): Fleet {
  const known = fleet.operations.get(operation.id);
  const { kind, stack, machineId } = operation;
  const described: Progress = known
    ? { ...known, kind, stack, machineId }
    : {
        id: operation.id,
        kind,
        stack,
        machineId,
        state: operation.state,
        percentage: operation.percentage,
        message: "",
        error: operation.error,
        sequence: 0,
      };
  const { state, percentage, error } = operation;
  return withOperation(fleet, isSettled(state) ? { ...described, state, percentage, error } : described);
}

/** Operations that the page has to ask about: named by a stack or an event, and not described yet. */
export function undescribedOperations(fleet: Fleet): string[] {
  const named = fleet.stacks.flatMap((stack) => (stack.operationId === null ? [] : [stack.operationId]));
  const unknown = named.filter((id) => !fleet.operations.has(id));
  const bare = [...fleet.operations.values()]
    .filter((progress) => progress.kind === null && running(progress))
    .map((progress) => progress.id);
  return [...new Set([...unknown, ...bare])];
}

export function operationOnMachine(fleet: Fleet, machine: Machine): Progress | undefined {
  return [...fleet.operations.values()].filter((progress) => progress.machineId === machine.id).at(-1);
}

export function operationOnStack(fleet: Fleet, stack: Stack): Progress | undefined {
  const about = (progress: Progress) => progress.machineId === null && (progress.stack === stack.name || progress.stack === stack.id);
  return [...fleet.operations.values()].filter(about).at(-1);
}

/** Whether an operation is still at work, so that no other may begin. */
export function running(progress: Progress | undefined): boolean {
  return progress !== undefined && (progress.state === "pending" || progress.state === "running");
}

export function ask(fleet: Fleet, machineId: string): Fleet {
  return {
    ...fleet,
    asking: new Set(fleet.asking).add(machineId),
    refusals: without(fleet.refusals, machineId),
    operations: clearFailed(fleet, machineId),
  };
}

export function answered(fleet: Fleet, machineId: string, refusal?: Trouble): Fleet {
  const asking = new Set(fleet.asking);
  asking.delete(machineId);
  return { ...fleet, asking, refusals: refusal ? new Map(fleet.refusals).set(machineId, refusal) : fleet.refusals };
}

/** Forgets what failed, once it was read. */
export function dismiss(fleet: Fleet, id: string): Fleet {
  return { ...fleet, operations: without(fleet.operations, id), refusals: without(fleet.refusals, id) };
}

/** What a person may do with a machine now. */
export function offersOf(fleet: Fleet, machine: Machine, stack: Stack): { start: boolean; stop: boolean; terminal: boolean } {
  const busy =
    fleet.asking.has(machine.id) ||
    running(operationOnMachine(fleet, machine)) ||
    running(operationOnStack(fleet, stack)) ||
    stack.operationId !== null;
  return {
    start: !busy && STARTABLE.has(machine.state),
    stop: !busy && STOPPABLE.has(machine.state),
    terminal: machine.state === "Running" && machine.kiteId !== null,
  };
}

const STARTABLE: ReadonlySet<MachineState> = new Set(["Stopped", "Unknown"]);
const STOPPABLE: ReadonlySet<MachineState> = new Set(["Running", "Unknown"]);

function applyOperationEvent(fleet: Fleet, event: OperationEvent): Fleet {
  const known = fleet.operations.get(event.operationId) ?? unknownOperation(event.operationId);
  if (event.sequence <= known.sequence) return fleet;
  const { state, percentage, message, sequence } = event;
  return withOperation(fleet, { ...known, state, percentage, message, sequence, error: event.error });
}

function unknownOperation(id: string): Progress {
  return { id, kind: null, stack: null, machineId: null, state: "pending", percentage: 0, message: "", error: null, sequence: 0 };
}

function withOperation(fleet: Fleet, progress: Progress): Fleet {
  const operations = new Map(fleet.operations).set(progress.id, progress);
  for (const [id, { state }] of operations) {
    if (operations.size <= MAX_OPERATIONS) break;
    if (isSettled(state)) operations.delete(id);
  }
  return { ...fleet, operations };
}

// Far more than are ever at work at once; the page of a long day must not grow.
const MAX_OPERATIONS = 100;

function isSettled(state: OperationState): boolean {
  return state === "succeeded" || state === "failed";
}

function clearFailed(fleet: Fleet, machineId: string): Fleet["operations"] {
  return new Map([...fleet.operations].filter(([, progress]) => progress.machineId !== machineId || progress.state !== "failed"));
}

function without<T>(map: ReadonlyMap<string, T>, key: string): ReadonlyMap<string, T> {
  if (!map.has(key)) return map;
  const next = new Map(map);
  next.delete(key);
  return next;
}

function present(stack: Stack): boolean {
  return stack.state !== "gone";
}

function sortStacks(stacks: readonly Stack[]): Stack[] {
  return [...stacks].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }) || a.id.localeCompare(b.id));
}
