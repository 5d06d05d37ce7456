import { KiteError } from "@kite-mesh/kite";
import { type Change, diff, type StoredResource, type WantedResource } from "../plan.ts";
import type { Provider, ResourceState, ResourceType } from "../provider.ts";
import type { ResourceDocument } from "../store/documents.ts";
import { fenced, isLeaseLost } from "../store/fence.ts";
import { change, isStoreDown, type Store } from "../store/store.ts";
import { eachBounded } from "./bounded.ts";
import type { ApplyRequest, Engine, PlanRequest } from "./engine.ts";

export interface BuiltinEngineOptions {
  store: Store;
  providers: readonly Provider[];
  newId: () => string;
  now: () => Date;
}

/** The engine for machines where there is no Terraform: it drives only providers written for kloud. */
export function builtinEngine(options: BuiltinEngineOptions): Engine {
  return {
    name: "builtin",
    plan: (request) => plan(options, request),
    apply: (request) => apply(options, request),
  };
}

// Starting a machine is mostly waiting; more at once than this only makes each of them slower.
const CONCURRENCY = 8;

const CONDITIONS = { creating: "broken", present: "whole", updating: "dirty", deleting: "broken" } as const;

async function plan({ store, providers, newId }: BuiltinEngineOptions, request: PlanRequest): Promise<Change[]> {
  const documents = request.stackId === null ? [] : await store.resources.find({ stackId: request.stackId });
  const stored: StoredResource[] = [];
  await eachBounded(documents, CONCURRENCY, async (document) => {
    const { id, wanted, phase, state } = document;
    const condition = CONDITIONS[phase];
    const ask = request.refresh && condition !== "broken";
    const actual = ask ? await typeOf(providers, wanted).read({ id, state, signal: request.signal }) : state;
    stored.push({ id, wanted, condition, actual });
  });
  return diff({
    wanted: request.wanted,
    stored: stored.sort((a, b) => (a.id < b.id ? -1 : 1)),
    replaceOn: (resource) => typeOf(providers, resource).replaceOn,
    mustReplace: request.mustReplace,
    newId,
  });
}

async function apply(options: BuiltinEngineOptions, request: ApplyRequest): Promise<void> {
  const failures: string[] = [];
  let cause: unknown;
  await eachBounded(request.changes, CONCURRENCY, async (planned) => {
    try {
      await carryOut(new Task(options, request, planned), planned);
    } catch (thrown) {
      // Whoever must not go on (crashed store, lost lease, shutdown) has not failed: another worker will go on.
      request.signal.throwIfAborted();
      request.assertHeld();
      if (isStoreDown(thrown) || isLeaseLost(thrown)) throw thrown;
      cause ??= thrown;
      failures.push(`${planned.address}: ${KiteError.from(thrown).message}`);
    }
  });
  if (failures.length === 1 && cause instanceof KiteError) throw new KiteError(cause.code, failures[0] ?? "", errorOptions(cause));
  if (failures.length > 0) throw new KiteError("internal", failures.join("; "), { cause });
}

async function carryOut(task: Task, { action, id, removes }: Change): Promise<void> {
  if (removes !== null) await task.remove(removes);
  if (id === null) return;
  if (action === "create" || action === "replace") await task.create(id);
  if (action === "update") await task.update(id);
}

/** One change on its way. Every method may find its work done already, by this worker's predecessor. */
class Task {
  readonly #store: Store;
  readonly #now: () => Date;
  readonly #request: ApplyRequest;
  readonly #resource: WantedResource;
  readonly #type: ResourceType;

  constructor({ store, providers, now }: BuiltinEngineOptions, request: ApplyRequest, { resource }: Change) {
    this.#store = store;
    this.#now = now;
    this.#request = request;
    this.#resource = resource;
    this.#type = typeOf(providers, resource);
  }

  async create(id: string): Promise<void> {
    const { operationId, stackId, owner, fence, tell, boot, signal } = this.#request;
    const resource = this.#resource;
    const found = await this.#store.resources.get(id);
    if (found?.phase === "present" && found.doneBy === operationId) return await this.#present(found);

    this.#check();
    if (found === null) {
      const createdAt = this.#now().toISOString();
      const { address } = resource;
      await this.#store.resources.insert({
        id,
        stackId,
        owner,
        address,
        createdAt,
        wanted: resource,
        phase: "creating",
        state: null,
        doneBy: null,
        fence,
      });
    }
    await tell({ type: "creating", id, resource });
    const machineBoot = resource.machine ? await boot(resource, id) : null;
    this.#check();
    const state = await this.#type.create({
      id,
      label: resource.label,
      attributes: { ...resource.attributes },
      boot: machineBoot,
      progress: this.#progress(id),
      signal,
    });
    await this.#finish(id, state);
  }

  async update(id: string): Promise<void> {
    const resource = this.#resource;
    const found = await this.#store.resources.get(id);
    if (found === null) throw new KiteError("not_found", `resource ${id} is not in the store any more; plan again`);
    if (found.phase === "present" && found.doneBy === this.#request.operationId) return await this.#present(found);

    const previous = found.state ?? { id, status: "present" as const, attributes: { ...found.wanted.attributes } };
    await this.#write(id, { phase: "updating", wanted: resource });
    await this.#request.tell({ type: "updating", id, resource });
    this.#check();
    const { signal } = this.#request;
    const state = await this.#type.update({
      id,
      label: resource.label,
      attributes: { ...resource.attributes },
      boot: null,
      progress: this.#progress(id),
      signal,
      previous,
    });
    await this.#finish(id, state);
  }

  async remove(id: string): Promise<void> {
    const resource = this.#resource;
    const found = await this.#store.resources.get(id);
    if (found !== null) {
      await this.#write(id, { phase: "deleting" });
      await this.#request.tell({ type: "deleting", id, resource });
      this.#check();
      await this.#type.delete({ id, state: found.state, signal: this.#request.signal });
      this.#check();
      const last = await this.#store.resources.get(id);
      if (last !== null) await this.#store.resources.remove(fenced(last, this.#request.fence));
    }
    await this.#request.tell({ type: "deleted", id, resource });
  }

  async #finish(id: string, state: ResourceState): Promise<void> {
    const written = await this.#write(id, { phase: "present", wanted: this.#resource, state, doneBy: this.#request.operationId });
    await this.#present(written);
  }

  async #present({ id, state }: ResourceDocument): Promise<void> {
    if (state !== null) await this.#request.tell({ type: "present", id, resource: this.#resource, state });
  }

  async #write(id: string, edit: Partial<ResourceDocument>): Promise<ResourceDocument> {
    this.#check();
    const written = await change(this.#store.resources, id, (document) => ({ ...fenced(document, this.#request.fence), ...edit }));
    if (written === null) throw new KiteError("conflict", `resource ${id} was removed while it was being changed`);
    return written;
  }

  #check(): void {
    this.#request.signal.throwIfAborted();
    this.#request.assertHeld();
  }

  #progress(id: string): (message: string) => void {
    // A provider does not wait for its words to be written; a store that fails will be noticed at the next step.
    return (message) => void this.#request.tell({ type: "progress", id, resource: this.#resource, message }).catch(() => undefined);
  }
}

function typeOf(providers: readonly Provider[], { provider, type }: WantedResource): ResourceType {
  const found = providers.find(({ name }) => name === provider)?.resources[type];
  if (found !== undefined) return found;
  throw new KiteError(
    "failed_precondition",
    `resource type ${type} of provider ${provider} is not available in this kloud; start it with that provider`,
  );
}

function errorOptions({ reason, details, cause }: KiteError) {
  return { cause, ...(reason === undefined ? {} : { reason }), ...(details === undefined ? {} : { details }) };
}
