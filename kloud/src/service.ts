import { randomUUID } from "node:crypto";
import { KiteError } from "@kite-mesh/kite";
import { planChanges, planIsOld } from "./apply.ts";
import type { OperationStarted, Plan } from "./contract.ts";
import { eachBounded } from "./engine/bounded.ts";
import type { Workshop } from "./job.ts";
import { checkMachineMethod, refreshMachine } from "./machine.ts";
import { typeOfMachine } from "./machine-steps.ts";
import { describeStarted, type NewOperation, newOperation } from "./operation.ts";
import { type Change, describeChange, digestOf, masked, type WantedResource } from "./plan.ts";
import { checkFree, claimStack, dropStaleLocks } from "./stack.ts";
import type { MachineDocument, OperationDocument, StackDocument } from "./store/documents.ts";
import { change } from "./store/store.ts";
import { type Catalog, checkStackName, parseTemplate } from "./template.ts";
import { TemplateError } from "./template-source.ts";
import { wantedResources } from "./wanted.ts";

export interface ServiceOptions extends Workshop {
  /** Told that an operation waits to be taken up. */
  wake: () => void;
  log: { warn(fields: object, message: string): void };
}

/** `StackRequest` as it comes out of a schema: what was left out may also be undefined. */
export interface PlanRequest {
  template: string;
  name?: string | undefined;
  variables?: Record<string, string> | undefined;
}

export interface ApplyRequest extends PlanRequest {
  planId?: string | undefined;
}

/** What callers may ask of kloud, each for their own stacks. To everybody else a stack does not exist. */
export class KloudService {
  readonly #options: ServiceOptions;
  readonly #catalog: Catalog;

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#catalog = Object.fromEntries(options.providers.map(({ name, resources }) => [name, { resources }]));
  }

  async plan(owner: string, request: PlanRequest, signal: AbortSignal): Promise<Plan> {
    const { store, now } = this.#options;
    const { name, wanted } = await this.#read(request);
    const stack = await this.#findStack(owner, name);
    await this.#checkLabels(owner, stack?.id ?? null, wanted);
    const changes = await planChanges(this.#options, { stackId: stack?.id ?? null, wanted, signal });
    const id = randomUUID();
    await store.plans.insert({
      id,
      owner,
      stackId: stack?.id ?? "",
      stack: name,
      digest: digestOf(changes),
      createdAt: now().toISOString(),
    });
    await this.#forgetOldPlans(owner);
    return await this.#describePlan(id, name, wanted, changes);
  }

  async apply(owner: string, request: ApplyRequest, signal: AbortSignal): Promise<OperationStarted> {
    const { name, wanted } = await this.#read(request);
    const stack = await this.#findStack(owner, name);
    await this.#checkLabels(owner, stack?.id ?? null, wanted);
    if (stack === null) await this.#checkStackCount(owner);
    const digest = request.planId === undefined ? null : await this.#agreedDigest(owner, name, request.planId);
    if (digest !== null && digest !== digestOf(await planChanges(this.#options, { stackId: stack?.id ?? null, wanted, signal })))
      throw planIsOld();
    const apply = { template: request.template, wanted, digest };
    return await this.#begin({ id: randomUUID(), kind: "apply", owner, stackId: stack?.id ?? randomUUID(), stack: name, apply });
  }

  async destroy(owner: string, name: string): Promise<OperationStarted> {
    const stack = await this.stack(owner, name);
    return await this.#begin({ id: randomUUID(), kind: "destroy", owner, stackId: stack.id, stack: name });
  }

  /** Destroys all stacks of somebody who left; what is under way on them ends first. */
  async release(owner: string): Promise<string[]> {
    const { store, now, wake } = this.#options;
    const operations: string[] = [];
    for (const stack of await store.stacks.find({ owner })) {
      const open = await store.operations.find({ stackId: stack.id, open: true });
      const known = open.find(({ kind }) => kind === "destroy");
      const request: NewOperation = { id: randomUUID(), kind: "destroy", owner, stackId: stack.id, stack: stack.name, whenFree: true };
      operations.push(known?.id ?? (await store.operations.insert(newOperation(request, now()))).id);
    }
    wake();
    return operations;
  }

  async start(owner: string, machineId: string, signal: AbortSignal): Promise<OperationStarted> {
    return await this.#power("start", owner, machineId, signal);
  }

  async stop(owner: string, machineId: string, signal: AbortSignal): Promise<OperationStarted> {
    return await this.#power("stop", owner, machineId, signal);
  }

  /** The machine after its provider was asked how it is. */
  async info(owner: string, machineId: string, signal: AbortSignal): Promise<MachineDocument> {
    const machine = await this.#machine(owner, machineId);
    return await this.#refresh(machine, signal);
  }

  async stack(owner: string, name: string): Promise<StackDocument> {
    const stack = await this.#findStack(owner, name);
    if (stack === null) throw new KiteError("not_found", `you have no stack called ${name}; \`kite stack list\` shows those that you have`);
    return stack;
  }

  async operation(owner: string, operationId: string): Promise<OperationDocument> {
    const operation = await this.#options.store.operations.get(operationId);
    if (operation === null || operation.owner !== owner) throw new KiteError("not_found", `you have no operation ${operationId}`);
    return operation;
  }

  /** Tidies up after a crash and starts what should run and does not, such as after a reboot. Called once, when kloud starts. */
  async bringBack(signal: AbortSignal): Promise<void> {
    const { store, log } = this.#options;
    for (const stack of await store.stacks.find({})) await dropStaleLocks(store, stack);
    const machines = await store.machines.find({});
    await eachBounded(machines, CONCURRENCY, async (machine) => {
      try {
        const now = await this.#refresh(machine, signal);
        if (now.desired === "Running" && now.state === "Stopped") await this.#begin(powerOperation("start", now));
      } catch (thrown) {
        if (signal.aborted) return;
        log.warn(
          { machine: machine.label, owner: machine.owner, error: KiteError.from(thrown).message },
          "a machine that should run could not be looked after",
        );
      }
    });
  }

  async #read(request: PlanRequest): Promise<{ name: string; wanted: WantedResource[] }> {
    try {
      return await this.#readTemplate(request);
    } catch (thrown) {
      if (thrown instanceof TemplateError) throw new KiteError("invalid_argument", thrown.message, { cause: thrown });
      throw thrown;
    }
  }

  async #readTemplate(request: PlanRequest): Promise<{ name: string; wanted: WantedResource[] }> {
    const template = parseTemplate(request.template, this.#catalog);
    const name = request.name === undefined ? template.name : checkStackName(request.name, "as the name to apply under");
    if (name === null) throw new TemplateError("the stack has no name: add `name: …` to the stack file, or give one with the request");
    return { name, wanted: await wantedResources(template, request.variables ?? {}, this.#options.providers) };
  }

  /**
   * Intent first: an operation that is in the store is carried out even if this process ends in the next line. Until its
   * stack is claimed the request itself holds the lease, so that no worker comes in between.
   */
  async #begin(request: NewOperation): Promise<OperationStarted> {
    const { store, now, wake } = this.#options;
    await checkFree(store, request.stackId, request.machine?.id ?? null);
    await this.#forgetOldOperations(request.owner);
    const operation = await store.operations.insert({ ...newOperation(request, now()), lease: { holder: "request", beat: 0 } });
    try {
      await claimStack(store, operation);
    } catch (thrown) {
      // If the lease has run out meanwhile, a worker comes to the same end.
      await store.operations.remove(operation).catch(() => undefined);
      throw thrown;
    }
    await store.operations.replace({ ...operation, lease: null }).catch(passConflict);
    wake();
    return describeStarted(operation);
  }

  async #power(kind: "start" | "stop", owner: string, machineId: string, signal: AbortSignal): Promise<OperationStarted> {
    const machine = await this.#refresh(await this.#machine(owner, machineId), signal);
    checkMachineMethod(machine, kind);
    return await this.#begin(powerOperation(kind, machine));
  }

  async #refresh(machine: MachineDocument, signal: AbortSignal): Promise<MachineDocument> {
    const { store, providers } = this.#options;
    const stack = await store.stacks.get(machine.stackId);
    // An operation knows better, and is about to say so.
    if (stack?.locks.some(({ machineId }) => machineId === null || machineId === machine.id)) return machine;
    const actual = await typeOfMachine(providers, machine).read({ id: machine.id, state: machine.resource, signal });
    const edit = (found: MachineDocument) => (found.version === machine.version ? refreshMachine(found, actual) : null);
    return (await change(store.machines, machine.id, edit)) ?? machine;
  }

  async #machine(owner: string, machineId: string): Promise<MachineDocument> {
    const machine = await this.#options.store.machines.get(machineId);
    if (machine === null || machine.owner !== owner) throw new KiteError("not_found", `you have no machine with id ${machineId}`);
    return machine;
  }

  async #findStack(owner: string, name: string): Promise<StackDocument | null> {
    return (await this.#options.store.stacks.find({ owner, name })).at(0) ?? null;
  }

  async #checkLabels(owner: string, stackId: string | null, wanted: readonly WantedResource[]): Promise<void> {
    for (const { machine, label, address } of wanted) {
      const [other] = machine ? await this.#options.store.machines.find({ owner, label }) : [];
      if (other === undefined || other.stackId === stackId) continue;
      throw new KiteError(
        "already_exists",
        `${address}: your stack ${other.stack} already has a machine called ${label}; machine names are hostnames in the mesh, so choose another`,
      );
    }
  }

  async #checkStackCount(owner: string): Promise<void> {
    const { length } = await this.#options.store.stacks.find({ owner });
    if (length >= MAX_STACKS)
      throw new KiteError("limit_exceeded", `you have ${length} stacks, and may have ${MAX_STACKS}; destroy one first`);
  }

  async #agreedDigest(owner: string, name: string, planId: string): Promise<string> {
    const plan = await this.#options.store.plans.get(planId);
    if (plan === null || plan.owner !== owner) throw new KiteError("not_found", `you have no plan ${planId}, or it is too old; plan again`);
    if (plan.stack !== name) throw new KiteError("invalid_argument", `plan ${planId} is for stack ${plan.stack}, not for ${name}`);
    return plan.digest;
  }

  /** What is open is never forgotten, and neither is what somebody may still be looking at. */
  async #forgetOldOperations(owner: string): Promise<void> {
    const { store } = this.#options;
    const finished = (await store.operations.find({ owner })).filter(({ open }) => !open);
    for (const operation of finished.slice(0, -MAX_FINISHED)) await store.operations.remove(operation);
  }

  async #forgetOldPlans(owner: string): Promise<void> {
    const { store } = this.#options;
    const plans = await store.plans.find({ owner });
    for (const plan of plans.slice(0, -MAX_PLANS)) await store.plans.remove(plan);
  }

  async #describePlan(id: string, stack: string, wanted: readonly WantedResource[], changes: readonly Change[]): Promise<Plan> {
    const { engine, providers } = this.#options;
    const used = providers.filter(({ name }) => wanted.some(({ provider }) => provider === name));
    const said = await Promise.all(used.map((provider) => provider.describe()));
    return {
      id,
      stack,
      empty: changes.every(({ action }) => action === "none"),
      changes: changes.map(describeChange),
      engine: [engine.name, ...said].join("; "),
      machines: wanted
        .filter(({ machine }) => machine)
        .map(({ label, provider, attributes, secret }) => ({ label, provider, attributes: masked(attributes, secret) })),
    };
  }
}

// A person looks after a handful; a script that runs wild stops here.
const MAX_STACKS = 100;
// An operation ends within minutes, and is looked at for days at most.
const MAX_FINISHED = 50;
// Plans are agreed to within minutes; older ones would only be refused.
const MAX_PLANS = 20;
const CONCURRENCY = 8;

function powerOperation(kind: "start" | "stop", { id, label, owner, stackId, stack }: MachineDocument): NewOperation {
  return { id: randomUUID(), kind, owner, stackId, stack, machine: { id, label } };
}

/** A worker was faster, and has it already. */
function passConflict(thrown: unknown): void {
  if (KiteError.from(thrown).code !== "conflict") throw thrown;
}
