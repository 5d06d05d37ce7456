import { type Methods, method } from "@kite-mesh/kite";
import { z } from "zod";
import { describeMachine } from "./machine.ts";
import { describeOperation } from "./operation.ts";
import type { KloudService } from "./service.ts";
import { describeStack } from "./stack.ts";
import type { Store } from "./store/store.ts";
import { readStack, readStacks, watchOperation, watchStacks } from "./watch.ts";

/**
 * The methods of `KloudContract`. Any signed-in user may call them (role `viewer`), because each looks only at what the
 * caller owns; what concerns others needs the role that kontrol gives to administrators.
 */
export function kloudMethods(service: KloudService, store: Store) {
  return {
    stack: {
      plan: method({ role: "viewer", input: StackRequest, description: "What applying a stack would do." }, (request, call) =>
        service.plan(call.caller.username, request, call.signal),
      ),
      apply: method(
        { role: "viewer", input: ApplyRequest, description: "Makes a stack real; follow it with operation.watch." },
        (request, call) => service.apply(call.caller.username, request, call.signal),
      ),
      destroy: method({ role: "viewer", input: ByName, description: "Removes a stack and its machines." }, ({ name }, call) =>
        service.destroy(call.caller.username, name),
      ),
      list: method({ role: "viewer", description: "The caller's stacks." }, (call) => readStacks(store, call.caller.username)),
      get: method({ role: "viewer", input: ByName, description: "One of the caller's stacks." }, async ({ name }, call) => {
        const stack = await service.stack(call.caller.username, name);
        return (await readStack(store, stack.id)) ?? describeStack({ ...stack, state: "gone" }, []);
      }),
      release: method(
        { role: "owner", input: z.object({ username: z.string().min(1) }), description: "Destroys every stack of a person who left." },
        async ({ username }) => ({
          operations: await service.release(username),
        }),
      ),
    },
    machine: {
      list: method({ role: "viewer", description: "The caller's machines." }, async (call) =>
        (await store.machines.find({ owner: call.caller.username })).map(describeMachine),
      ),
      start: method({ role: "viewer", input: ByMachine, description: "Starts a machine." }, ({ machineId }, call) =>
        service.start(call.caller.username, machineId, call.signal),
      ),
      stop: method({ role: "viewer", input: ByMachine, description: "Stops a machine; its data stays." }, ({ machineId }, call) =>
        service.stop(call.caller.username, machineId, call.signal),
      ),
      info: method(
        { role: "viewer", input: ByMachine, description: "How a machine is, as its provider says." },
        async ({ machineId }, call) => describeMachine(await service.info(call.caller.username, machineId, call.signal)),
      ),
    },
    operation: {
      get: method({ role: "viewer", input: ByOperation, description: "One of the caller's operations." }, async ({ operationId }, call) =>
        describeOperation(await service.operation(call.caller.username, operationId)),
      ),
      watch: method(
        { role: "viewer", input: WatchRequest, description: "The events of an operation, from any of them on." },
        async (request, call) => {
          const operation = await service.operation(call.caller.username, request.operationId);
          return watchOperation(store, operation, request.since ?? 0, call.session.closed);
        },
      ),
    },
    watch: method({ role: "viewer", description: "A snapshot of the caller's stacks, then every change." }, (call) =>
      watchStacks(store, call.caller.username, call.session.closed),
    ),
  } satisfies Methods;
}

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
