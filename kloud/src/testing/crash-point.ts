import { KiteError } from "@kite-mesh/kite";
import type { Mesh } from "../mesh.ts";
import type { Provider, ResourceType } from "../provider.ts";
import type { Document } from "../store/documents.ts";
import type { Collection, Store } from "../store/store.ts";
import { STORE_DOWN } from "../store/store.ts";

/** A process that dies at its n-th step. After that nothing it does has an effect: the same as `kill -9` to all others. */
export interface CrashPoint {
  readonly crashed: boolean;
  /** How many steps were taken, the last one maybe not. */
  readonly steps: number;
  store(store: Store): Store;
  provider(provider: Provider): Provider;
  mesh(mesh: Mesh): Mesh;
}

/** Counts every call that leaves the process; dies before the n-th has its effect, or after it and before the answer. */
export function crashPoint(at: number, when: "before" | "after"): CrashPoint {
  let steps = 0;
  let crashed = false;
  const die = (): never => {
    crashed = true;
    throw new KiteError("unavailable", "this process is dead", { reason: STORE_DOWN });
  };
  const step = async <T>(effect: () => Promise<T>): Promise<T> => {
    if (crashed) die();
    steps++;
    if (steps !== at) return await effect();
    if (when === "after") await effect();
    return die();
  };
  return {
    get crashed() {
      return crashed;
    },
    get steps() {
      return steps;
    },
    store: (store) => ({
      stacks: crashingCollection(store.stacks, step),
      machines: crashingCollection(store.machines, step),
      operations: crashingCollection(store.operations, step),
      resources: crashingCollection(store.resources, step),
      plans: crashingCollection(store.plans, step),
      onChange: (listener) => store.onChange(listener),
      close: async () => undefined,
    }),
    provider: (provider) => ({
      ...provider,
      resources: Object.fromEntries(Object.entries(provider.resources).map(([name, type]) => [name, crashingType(type, step)])),
    }),
    mesh: (mesh) => ({
      kontrolUrl: mesh.kontrolUrl,
      joinToken: (request) => step(() => mesh.joinToken(request)),
      klientReady: (request) => step(() => mesh.klientReady(request)),
    }),
  };
}

type Step = <T>(effect: () => Promise<T>) => Promise<T>;

function crashingCollection<D extends Document>(collection: Collection<D>, step: Step): Collection<D> {
  return {
    insert: (document) => step(() => collection.insert(document)),
    get: (id) => step(() => collection.get(id)),
    find: (filter) => step(() => collection.find(filter)),
    replace: (document) => step(() => collection.replace(document)),
    remove: (document) => step(() => collection.remove(document)),
  };
}

function crashingType(type: ResourceType, step: Step): ResourceType {
  const { start, stop } = type;
  return {
    ...type,
    create: (request) => step(() => type.create(request)),
    read: (request) => step(() => type.read(request)),
    update: (request) => step(() => type.update(request)),
    delete: (request) => step(() => type.delete(request)),
    ...(start === undefined ? {} : { start: (request) => step(() => start(request)) }),
    ...(stop === undefined ? {} : { stop: (request) => step(() => stop(request)) }),
  };
}
