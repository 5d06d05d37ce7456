import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { New, PlanDocument, StackDocument } from "./documents.ts";
import { type Change, change, type Store } from "./store.ts";

/** What every store must do; each implementation calls this with a way to make an empty one. */
export function testStore(name: string, open: () => Promise<Store>): void {
  describe(`the ${name} store`, () => {
    let store: Store;
    beforeAll(async () => {
      store = await open();
    });
    afterAll(() => store.close());

    test("gives a document back as it was written, with version 1", async () => {
      const document = stack({ template: 'a: "ü" # \\ \n', locks: [{ operationId: "o", kind: "apply", machineId: null }] });

      const inserted = await store.stacks.insert(document);

      expect(inserted).toEqual({ ...document, version: 1 });
      expect(await store.stacks.get(document.id)).toEqual(inserted);
    });

    test("answers null for an id that it does not have", async () => {
      expect(await store.stacks.get("nobody")).toBeNull();
    });

    test("refuses a second document with the same id", async () => {
      const { version: _, ...first } = await store.stacks.insert(stack());

      await expect(store.stacks.insert({ ...first, name: "another" })).rejects.toMatchObject({ code: "already_exists" });
    });

    test("refuses a second stack of one owner with the same name, also by renaming", async () => {
      const first = await store.stacks.insert(stack());
      const second = await store.stacks.insert(stack({ owner: first.owner }));

      await expect(store.stacks.insert(stack({ owner: first.owner, name: first.name }))).rejects.toMatchObject({ code: "already_exists" });
      await expect(store.stacks.replace({ ...second, name: first.name })).rejects.toMatchObject({ code: "already_exists" });
      await expect(store.stacks.insert(stack({ name: first.name }))).resolves.toBeDefined();
    });

    test("finds by every field that is given, oldest first", async () => {
      const owner = unique();
      const third = await store.plans.insert(plan({ owner, createdAt: "2024-03-01T00:00:00.000Z" }));
      const first = await store.plans.insert(plan({ owner, createdAt: "2024-01-01T00:00:00.000Z" }));
      const second = await store.plans.insert(plan({ owner, stackId: "s2", createdAt: "2024-02-01T00:00:00.000Z" }));
      await store.plans.insert(plan());

      expect(await store.plans.find({ owner })).toEqual([first, second, third]);
      expect(await store.plans.find({ owner, stackId: "s2" })).toEqual([second]);
      expect((await store.plans.find({})).length).toBeGreaterThanOrEqual(4);
    });

    test("finds by a field that is true", async () => {
      const stackId = unique();
      const open = await store.operations.insert({ ...operation(stackId), open: true });
      await store.operations.insert({ ...operation(stackId), open: false });

      expect(await store.operations.find({ stackId, open: true })).toEqual([open]);
    });

    test("counts versions, and refuses a write that has not seen the last one", async () => {
      const first = await store.stacks.insert(stack());

      const second = await store.stacks.replace({ ...first, error: "one" });

      expect(second).toEqual({ ...first, version: 2, error: "one" });
      await expect(store.stacks.replace({ ...first, error: "two" })).rejects.toMatchObject({ code: "conflict" });
      expect(await store.stacks.get(first.id)).toEqual(second);
    });

    test("lets exactly one of many writers win each version", async () => {
      const { id } = await store.stacks.insert(stack({ fence: 0 }));

      await Promise.all(Array.from({ length: 20 }, () => change(store.stacks, id, (found) => ({ ...found, fence: found.fence + 1 }))));

      expect(await store.stacks.get(id)).toMatchObject({ fence: 20, version: 21 });
    });

    test("removes a document once, unless it has changed", async () => {
      const first = await store.stacks.insert(stack());
      const second = await store.stacks.replace(first);

      await expect(store.stacks.remove(first)).rejects.toMatchObject({ code: "conflict" });
      await store.stacks.remove(second);
      await store.stacks.remove(second);

      expect(await store.stacks.get(first.id)).toBeNull();
      await expect(store.stacks.replace(second)).rejects.toMatchObject({ code: "conflict" });
    });

    test("tells every write to those who listen, and to nobody else", async () => {
      const heard: Change[] = [];
      const stop = store.onChange((told) => heard.push(told));
      const first = await store.stacks.insert(stack());
      const second = await store.stacks.replace(first);
      await store.stacks.remove(second);
      const about = { collection: "stacks", id: first.id, owner: first.owner, stackId: first.stackId };

      const mine = () => heard.filter((told) => told.type !== "resync" && told.id === first.id);
      await vi.waitFor(() => expect(mine()).toHaveLength(3));
      expect(mine()).toEqual([
        { type: "written", ...about },
        { type: "written", ...about },
        { type: "removed", ...about },
      ]);

      stop();
      await store.stacks.insert(stack({ id: unique() }));
      expect(mine()).toHaveLength(3);
    });
  });
}

let made = 0;

function unique(): string {
  made++;
  return `id-${made}-${process.pid}`;
}

function stack(fields: Partial<New<StackDocument>> = {}): New<StackDocument> {
  const id = fields.id ?? unique();
  const at = "2024-01-01T00:00:00.000Z";
  return {
    id,
    stackId: id,
    owner: unique(),
    name: unique(),
    state: "planned",
    template: "",
    locks: [],
    fence: 0,
    error: null,
    createdAt: at,
    updatedAt: at,
    ...fields,
  };
}

function plan(fields: Partial<New<PlanDocument>> = {}): New<PlanDocument> {
  return { id: unique(), owner: unique(), stackId: "s1", stack: "s", digest: "d", createdAt: "2024-01-01T00:00:00.000Z", ...fields };
}

function operation(stackId: string) {
  return {
    id: unique(),
    stackId,
    owner: "o",
    stack: "s",
    kind: "apply" as const,
    machineId: null,
    machine: null,
    state: "pending" as const,
    percentage: 0,
    error: null,
    createdAt: "2024-01-01T00:00:00.000Z",
    finishedAt: null,
    lease: null,
    events: [],
    whenFree: false,
    apply: null,
    changes: null,
  };
}
