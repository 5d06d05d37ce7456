import type { StackEvent } from "@kite-mesh/kloud/contract";
import { type FeedOptions, followFeed, type Link } from "./feed.ts";
import {
  answered,
  applyStackEvent,
  ask,
  describeOperation,
  dismiss,
  EMPTY_FLEET,
  type Fleet,
  running,
  undescribedOperations,
} from "./fleet.ts";
import { type Live, live } from "./live.ts";
import type { Mesh } from "./mesh.ts";
import { sayError } from "./trouble.ts";

/** The fleet as it is now, and what a person can ask of it. */
export interface FleetFeed {
  readonly fleet: Live<Fleet>;
  readonly link: Live<Link>;
  start(machineId: string): void;
  stop(machineId: string): void;
  dismiss(id: string): void;
}

/** Follows kloud's watch, and asks kloud about every operation that appears in it. Ends with the signal. */
export function followFleet(mesh: Mesh, options: Pick<FeedOptions<unknown>, "signal" | "wake">): FleetFeed {
  const fleet = live<Fleet>(EMPTY_FLEET);
  const asked = new Set<string>();

  const describe = (operationId: string) => {
    asked.add(operationId);
    mesh.operation(operationId).then(
      (operation) => change(describeOperation(fleet.value, operation)),
      // Asked again with the next event or snapshot; until then the progress is shown without its kind.
      () => asked.delete(operationId),
    );
  };
  const change = (next: Fleet) => {
    fleet.set(next);
    for (const id of undescribedOperations(next)) if (!asked.has(id)) describe(id);
  };
  const request = (machineId: string, send: (machineId: string) => Promise<{ operationId: string }>) => {
    change(ask(fleet.value, machineId));
    send(machineId).then(
      async ({ operationId }) => {
        asked.add(operationId);
        const operation = await mesh.operation(operationId).catch(() => undefined);
        if (operation === undefined) asked.delete(operationId);
        const done = answered(fleet.value, machineId);
        change(operation === undefined ? done : describeOperation(done, operation));
      },
      (error: unknown) => change(answered(fleet.value, machineId, sayError(error))),
    );
  };

  const link = followFeed<StackEvent>({
    ...options,
    watch: (watcher) => mesh.watchStacks(watcher),
    onEvent(event) {
      change(applyStackEvent(fleet.value, event));
      // Events of the time without a connection are lost: what ran then may have ended since.
      if (event.type === "snapshot") for (const progress of fleet.value.operations.values()) if (running(progress)) describe(progress.id);
    },
  });
  return {
    fleet,
    link,
    start: (machineId) => request(machineId, (id) => mesh.startMachine(id)),
    stop: (machineId) => request(machineId, (id) => mesh.stopMachine(id)),
    dismiss: (id) => change(dismiss(fleet.value, id)),
  };
}
