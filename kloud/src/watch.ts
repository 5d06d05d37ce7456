import { KiteError } from "@kite-mesh/kite";
import type { OperationEvent, Stack, StackEvent } from "./contract.ts";
import { follow } from "./follow.ts";
import { eventsAfter, isFinished } from "./operation.ts";
import { describeStack } from "./stack.ts";
import type { OperationDocument, StackDocument } from "./store/documents.ts";
import type { Store } from "./store/store.ts";

/** Every event of an operation after `since`, until it ends. A watcher that comes back says what it saw last. */
export function watchOperation(
  store: Store,
  operation: OperationDocument,
  since: number,
  signal: AbortSignal,
): AsyncIterableIterator<OperationEvent> {
  let last = since;
  return follow({
    store,
    signal,
    notice: (change) => change.type === "resync" || (change.collection === "operations" && change.id === operation.id),
    async read() {
      const current = await store.operations.get(operation.id);
      if (current === null) throw new KiteError("not_found", `operation ${operation.id} does not exist any more`);
      const items = eventsAfter(current, last);
      last = items.at(-1)?.sequence ?? last;
      return { items, end: isFinished(current) };
    },
  });
}

/** The stacks of one owner: first all of them, then every change to a stack, its machines or its operations. */
export function watchStacks(store: Store, owner: string, signal: AbortSignal): AsyncIterableIterator<StackEvent> {
  const view = new OwnerView(store, owner);
  return follow({
    store,
    signal,
    notice: (change) => {
      if (change.type === "resync") return view.forgetAll();
      if (change.owner !== owner || change.collection === "plans" || change.collection === "resources") return false;
      return change.collection === "operations" ? view.noteOperation(change.id) : view.noteStack(change.stackId);
    },
    read: async () => ({ items: await view.news(), end: false }),
  });
}

/** One stack with its machines, as its owner sees it. */
export async function readStack(store: Store, stackId: string): Promise<Stack | null> {
  const [stack, machines] = await Promise.all([store.stacks.get(stackId), store.machines.find({ stackId })]);
  return stack === null ? null : describeStack(await withoutStaleLocks(store, stack), machines);
}

/** All stacks of an owner. */
export async function readStacks(store: Store, owner: string): Promise<Stack[]> {
  const [stacks, machines] = await Promise.all([store.stacks.find({ owner }), store.machines.find({ owner })]);
  const described = stacks.map(async (stack) => {
    const own = machines.filter(({ stackId }) => stackId === stack.id);
    return describeStack(await withoutStaleLocks(store, stack), own);
  });
  return await Promise.all(described);
}

/** An operation ends first and leaves its stack then; whoever looks in between is not told that it still works there. */
async function withoutStaleLocks(store: Store, stack: StackDocument): Promise<StackDocument> {
  const operations = await Promise.all(stack.locks.map(({ operationId }) => store.operations.get(operationId)));
  const open = new Set(operations.filter((operation) => operation?.open === true).map((operation) => operation?.id));
  return { ...stack, locks: stack.locks.filter(({ operationId }) => open.has(operationId)) };
}

/** What one watcher has been told, and what it has not. Its size is that of the owner's stacks and open operations. */
class OwnerView {
  readonly #store: Store;
  readonly #owner: string;
  readonly #told = new Map<string, Stack>();
  readonly #sequences = new Map<string, number>();
  #stacks = new Set<string>();
  #operations = new Set<string>();
  #fresh = true;

  constructor(store: Store, owner: string) {
    this.#store = store;
    this.#owner = owner;
  }

  forgetAll(): true {
    this.#fresh = true;
    return true;
  }

  noteStack(id: string): true {
    this.#stacks.add(id);
    return true;
  }

  noteOperation(id: string): true {
    this.#operations.add(id);
    return true;
  }

  async news(): Promise<StackEvent[]> {
    if (this.#fresh) return [await this.#snapshot()];
    const operations = [...this.#operations];
    const stacks = [...this.#stacks];
    this.#operations = new Set();
    this.#stacks = new Set();
    const events = await Promise.all(operations.map((id) => this.#operationNews(id)));
    const states = await Promise.all(stacks.map((id) => this.#stackNews(id)));
    return [...events.flat(), ...states.flat()];
  }

  async #snapshot(): Promise<StackEvent> {
    this.#fresh = false;
    // Open operations first: what happens to them while the stacks are read is told afterwards, not lost.
    for (const operation of await this.#store.operations.find({ owner: this.#owner, open: true })) {
      this.#sequences.set(operation.id, operation.events.at(-1)?.sequence ?? 0);
    }
    const stacks = await readStacks(this.#store, this.#owner);
    this.#told.clear();
    for (const stack of stacks) this.#told.set(stack.id, stack);
    return { type: "snapshot", stacks };
  }

  async #operationNews(id: string): Promise<StackEvent[]> {
    const operation = await this.#store.operations.get(id);
    if (operation === null) return [];
    const events = eventsAfter(operation, this.#sequences.get(id) ?? 0);
    if (isFinished(operation)) this.#sequences.delete(id);
    else this.#sequences.set(id, operation.events.at(-1)?.sequence ?? 0);
    return events.map((event) => ({ type: "operation", event }));
  }

  async #stackNews(id: string): Promise<StackEvent[]> {
    const stack = await readStack(this.#store, id);
    const before = this.#told.get(id);
    if (stack !== null) this.#told.set(id, stack);
    else this.#told.delete(id);
    if (stack !== null) return [{ type: "stack", stack }];
    return before === undefined ? [] : [{ type: "stack", stack: { ...before, state: "gone", operationId: null, machines: [] } }];
  }
}
