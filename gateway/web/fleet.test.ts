import type { Machine, Operation, OperationEvent, Stack } from "@kite-mesh/kloud/contract";
import { describe, expect, test } from "vitest";
import {
  answered,
  applyStackEvent,
  ask,
  describeOperation,
  dismiss,
  EMPTY_FLEET,
  type Fleet,
  offersOf,
  operationOnMachine,
  operationOnStack,
  undescribedOperations,
} from "./fleet.ts";

describe("stacks", () => {
  test("a snapshot replaces them, sorted by name, without those that are gone", () => {
    const fleet = fleetOf(stack("lab"), stack("hello"), stack("past", { state: "gone" }));

    expect(fleet.stacks.map(({ name }) => name)).toEqual(["hello", "lab"]);
  });

  test("a changed stack replaces its entry, a destroyed one leaves", () => {
    const changed = applyStackEvent(fleetOf(stack("a"), stack("b")), { type: "stack", stack: stack("a", { state: "failed" }) });
    const destroyed = applyStackEvent(changed, { type: "stack", stack: stack("b", { state: "gone" }) });

    expect(destroyed.stacks.map(({ name, state }) => [name, state])).toEqual([["a", "failed"]]);
  });
});

describe("operations", () => {
  test("an operation that only its events tell of has to be asked about, once", () => {
    const seen = applyStackEvent(fleetOf(stack("a")), progress({ sequence: 1 }));

    expect(undescribedOperations(seen)).toEqual(["op"]);
    expect(undescribedOperations(describeOperation(seen, operation()))).toEqual([]);
  });

  test("an operation that a stack names has to be asked about", () => {
    expect(undescribedOperations(fleetOf(stack("a", { operationId: "op" })))).toEqual(["op"]);
  });

  test("what events said before the description stays", () => {
    const seen = applyStackEvent(fleetOf(stack("a")), progress({ sequence: 4, percentage: 60, message: "booting" }));

    const described = describeOperation(seen, operation({ percentage: 10 }));

    expect(operationOnMachine(described, machine())).toMatchObject({ kind: "start", percentage: 60, message: "booting" });
  });

  test("an event that was already counted in changes nothing", () => {
    const seen = applyStackEvent(fleetOf(stack("a")), progress({ sequence: 4, percentage: 60 }));

    expect(applyStackEvent(seen, progress({ sequence: 3, percentage: 30 }))).toBe(seen);
  });

  test("a late description does not revive an operation that has succeeded", () => {
    const done = applyStackEvent(fleetOf(stack("a")), progress({ sequence: 9, state: "succeeded", percentage: 100 }));

    const late = describeOperation(done, operation({ state: "running", percentage: 80 }));

    expect(operationOnMachine(late, machine())?.state).toBe("succeeded");
  });

  test("an operation that ended while nobody listened is settled by its description", () => {
    const running = describeOperation(applyStackEvent(fleetOf(stack("a")), progress({ sequence: 2 })), operation());

    const settled = describeOperation(running, operation({ state: "failed", error: "no memory" }));

    expect(operationOnMachine(settled, machine())).toMatchObject({ state: "failed", error: "no memory" });
  });

  test("an operation on a whole stack is shown there, by the stack's name or id", () => {
    const fleet = fleetOf(stack("a"), stack("b"));

    const byName = describeOperation(fleet, operation({ kind: "apply", machineId: null, stack: "a" }));
    const byId = describeOperation(fleet, operation({ kind: "apply", machineId: null, stack: "id-a" }));

    for (const described of [byName, byId]) {
      expect(operationOnStack(described, stack("a"))?.id).toBe("op");
      expect(operationOnStack(described, stack("b"))).toBeUndefined();
    }
  });

  test("a long day keeps no more than a hundred settled operations", () => {
    let fleet: Fleet = EMPTY_FLEET;
    for (let at = 0; at < 150; at++) fleet = describeOperation(fleet, operation({ id: `op-${at}`, state: "succeeded" }));

    expect(fleet.operations.size).toBe(100);
    expect(fleet.operations.has("op-149")).toBe(true);
  });
});

describe("what a person may do", () => {
  test.each([
    ["Running", { start: false, stop: true, terminal: true }],
    ["Stopped", { start: true, stop: false, terminal: false }],
    ["Unknown", { start: true, stop: true, terminal: false }],
    ["Starting", { start: false, stop: false, terminal: false }],
    ["Terminated", { start: false, stop: false, terminal: false }],
  ] as const)("with a machine that is %s", (state, offers) => {
    expect(offersOf(fleetOf(stack("a")), machine({ state }), stack("a"))).toEqual(offers);
  });

  test("a terminal needs a klient that has registered", () => {
    expect(offersOf(EMPTY_FLEET, machine({ kiteId: null }), stack("a")).terminal).toBe(false);
  });

  test("nothing but a terminal while an operation is at work on the machine or its stack", () => {
    const onMachine = describeOperation(fleetOf(stack("a")), operation());
    const onStack = describeOperation(fleetOf(stack("a")), operation({ machineId: null, stack: "a" }));
    const asked = ask(fleetOf(stack("a")), "m");

    for (const fleet of [onMachine, onStack, asked]) {
      expect(offersOf(fleet, machine(), stack("a"))).toEqual({ start: false, stop: false, terminal: true });
    }
    expect(offersOf(EMPTY_FLEET, machine(), stack("a", { operationId: "other" })).stop).toBe(false);
  });
});

test("a refused request is shown until it is dismissed or made again", () => {
  const trouble = { text: "it is busy", advice: "" };
  const refused = answered(ask(EMPTY_FLEET, "m"), "m", trouble);

  expect(refused.asking.has("m")).toBe(false);
  expect(refused.refusals.get("m")).toEqual(trouble);
  expect(dismiss(refused, "m").refusals.size).toBe(0);
  expect(ask(refused, "m").refusals.size).toBe(0);
});

test("asking again forgets the operation that failed before", () => {
  const failed = describeOperation(EMPTY_FLEET, operation({ state: "failed", error: "no memory" }));

  expect(operationOnMachine(ask(failed, "m"), machine())).toBeUndefined();
});

function fleetOf(...stacks: Stack[]): Fleet {
  return applyStackEvent(EMPTY_FLEET, { type: "snapshot", stacks });
}

function stack(name: string, rest: Partial<Stack> = {}): Stack {
  return {
    id: `id-${name}`,
    name,
    owner: "alice",
    state: "running",
    operationId: null,
    error: null,
    machines: [],
    createdAt: "",
    updatedAt: "",
    ...rest,
  };
}

function machine(rest: Partial<Machine> = {}): Machine {
  return {
    id: "m",
    label: "hello",
    stack: "a",
    owner: "alice",
    provider: "local",
    state: "Running",
    kiteId: "k",
    attributes: {},
    createdAt: "",
    ...rest,
  };
}

function operation(rest: Partial<Operation> = {}): Operation {
  return {
    id: "op",
    kind: "start",
    owner: "alice",
    stack: "a",
    machineId: "m",
    state: "running",
    percentage: 0,
    error: null,
    createdAt: "",
    finishedAt: null,
    ...rest,
  };
}

function progress(rest: Partial<OperationEvent>): { type: "operation"; event: OperationEvent } {
  return {
    type: "operation",
    event: { sequence: 1, operationId: "op", state: "running", percentage: 0, message: "", machine: null, at: "", error: null, ...rest },
  };
}
