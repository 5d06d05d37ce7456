import { type Methods, method } from "@kite-mesh/kite";
import { z } from "zod";
import { describeMachine } from "./machine.ts";
import { describeOperation } from "./operation.ts";
import { MachineSchema, OperationSchema, OperationStartedSchema, PlanSchema, StackSchema } from "./schemas.ts";
import type { KloudService } from "./service.ts";
import { describeStack } from "./stack.ts";
import type { Store } from "./store/store.ts";
import { readStack, readStacks, watchOperation, watchStacks } from "./watch.ts";

/**
 * The methods of `KloudContract`. Any signed-in user may call them (role `viewer`), because each looks only at what the
 * caller owns; what concerns others needs the role that kontrol gives to administrators.
 */
export function kloudMethods(service: KloudService, store: Store) {
  return { ...stackMethods(service, store), ...machineMethods(service, store), ...operationMethods(service, store) } satisfies Methods;
}

function stackMethods(service: KloudService, store: Store) {
  const starting = { role: "viewer", output: OperationStartedSchema } as const;
  return {
    stack: {
      plan: method(
        { ...reading, input: StackRequest, output: PlanSchema, description: "Tells what applying a stack would do, without doing it." },
        (request, call) => service.plan(call.caller.username, request, call.signal),
      ),
      apply: method(
        { ...starting, input: ApplyRequest, description: "Makes a stack real; follow it with operation.watch." },
        (request, call) => service.apply(call.caller.username, request, call.signal),
      ),
      destroy: method({ ...starting, input: ByName, description: "Removes a stack and its machines." }, ({ name }, call) =>
        service.destroy(call.caller.username, name),
      ),
      list: method({ ...reading, output: z.array(StackSchema), description: "Lists the caller's stacks with their machines." }, (call) =>
        readStacks(store, call.caller.username),
      ),
      get: method(
        { ...reading, input: ByName, output: StackSchema, description: "Answers with one of the caller's stacks." },
        async ({ name }, call) => {
          const stack = await service.stack(call.caller.username, name);
          return (await readStack(store, stack.id)) ?? describeStack({ ...stack, state: "gone" }, []);
        },
      ),
      release: method(
        {
          role: "owner",
          input: z.object({ username: z.string().min(1) }),
          output: z.object({ operations: z.array(z.string()) }),
          repetition: "idempotent",
          description: "Destroys every stack of a person who left.",
        },
        async ({ username }) => ({ operations: await service.release(username) }),
      ),
    },
    watch: method({ ...reading, description: "Sends all of the caller's stacks, then every change to one." }, (call) =>
      watchStacks(store, call.caller.username, call.session.closed),
    ),
  };
}

function machineMethods(service: KloudService, store: Store) {
  const starting = { role: "viewer", input: ByMachine, output: OperationStartedSchema } as const;
  return {
    machine: {
      list: method({ ...reading, output: z.array(MachineSchema), description: "Lists the caller's machines." }, async (call) =>
        (await store.machines.find({ owner: call.caller.username })).map(describeMachine),
      ),
      start: method({ ...starting, description: "Starts a machine; follow it with operation.watch." }, ({ machineId }, call) =>
        service.start(call.caller.username, machineId, call.signal),
      ),
      stop: method({ ...starting, description: "Stops a machine; its data stays." }, ({ machineId }, call) =>
        service.stop(call.caller.username, machineId, call.signal),
      ),
      info: method(
        { ...reading, input: ByMachine, output: MachineSchema, description: "Asks a machine's provider how it is." },
        async ({ machineId }, call) => describeMachine(await service.info(call.caller.username, machineId, call.signal)),
      ),
    },
  };
}

function operationMethods(service: KloudService, store: Store) {
  return {
    operation: {
      get: method(
        { ...reading, input: ByOperation, output: OperationSchema, description: "Answers with one of the caller's operations." },
        async ({ operationId }, call) => describeOperation(await service.operation(call.caller.username, operationId)),
      ),
      watch: method(
        { ...reading, input: WatchRequest, description: "Sends the events of an operation, from any of them on, until it ends." },
        async (request, call) => {
          const operation = await service.operation(call.caller.username, request.operationId);
          return watchOperation(store, operation, request.since ?? 0, call.session.closed);
        },
      ),
    },
  };
}

// Looking twice is like looking once: a call whose answer was lost may be made again.
const reading = { role: "viewer", repetition: "idempotent" } as const;
const StackRequest = z.object({
  template: z.string(),
  name: z.string().optional(),
  variables: z.record(z.string(), z.string()).optional(),
});
const ApplyRequest = StackRequest.extend({ planId: z.string().optional() });
const ByName = z.object({ name: z.string() });
const ByMachine = z.object({ machineId: z.string() });
const ByOperation = z.object({ operationId: z.string() });
const WatchRequest = ByOperation.extend({ since: z.number().int().nonnegative().optional() });
