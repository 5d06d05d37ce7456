import { KiteError } from "@kite-mesh/kite";
import type { Document, New } from "./documents.ts";
import type { Change, Collection, CollectionName, Filter, FilterField, Store } from "./store.ts";
import { UNIQUE } from "./store.ts";

/** A store for tests and trials that forgets everything when the process ends; it behaves like the real ones otherwise. */
export function memoryStore(): Store {
  const listeners = new Set<(change: Change) => void>();
  // Listeners of a real database hear of a write after it was answered, never during it.
  const tell = (change: Change) =>
    queueMicrotask(() => {
      for (const listener of listeners) listener(change);
    });
  return {
    stacks: memoryCollection("stacks", tell),
    machines: memoryCollection("machines", tell),
    operations: memoryCollection("operations", tell),
    resources: memoryCollection("resources", tell),
    plans: memoryCollection("plans", tell),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: async () => listeners.clear(),
  };
}

function memoryCollection<D extends Document>(name: CollectionName, tell: (change: Change) => void): Collection<D> {
  // Kept as text: nobody can change a stored document by holding on to what was read or written.
  const texts = new Map<string, string>();
  const all = () => [...texts.values()].map((text) => JSON.parse(text) as D);
  const put = (document: D, type: "written" | "removed") => {
    if (type === "written") texts.set(document.id, JSON.stringify(document));
    else texts.delete(document.id);
    tell({ type, collection: name, id: document.id, owner: document.owner, stackId: document.stackId });
    return structuredClone(document);
  };
  const current = (id: string, version: number): D | null => {
    const text = texts.get(id);
    const document = text === undefined ? null : (JSON.parse(text) as D);
    if (document !== null && document.version !== version) {
      throw new KiteError("conflict", `document ${id} of ${name} is at version ${document.version}, not ${version}; read it again`);
    }
    return document;
  };
  const checkUnique = (document: New<D>) => {
    const fields = UNIQUE[name];
    if (fields === undefined) return;
    const clash = all().some((other) => other.id !== document.id && fields.every((field) => pick(other, field) === pick(document, field)));
    if (clash) throw new KiteError("already_exists", `${name} already holds a document with the same ${fields.join(" and ")}`);
  };

  return {
    async insert(document) {
      if (texts.has(document.id)) throw new KiteError("already_exists", `${name} already holds a document with id ${document.id}`);
      checkUnique(document);
      // The store gives the version; everything else of D is in the new document.
      return put({ ...document, version: 1 } as unknown as D, "written");
    },
    get: async (id) => {
      const text = texts.get(id);
      return text === undefined ? null : (JSON.parse(text) as D);
    },
    find: async (filter) => all().filter(matches(filter)).sort(byAge),
    async replace(document) {
      if (current(document.id, document.version) === null)
        throw new KiteError("conflict", `document ${document.id} of ${name} was removed`);
      checkUnique(document);
      return put({ ...document, version: document.version + 1 }, "written");
    },
    async remove({ id, version }) {
      const document = current(id, version);
      if (document !== null) put(document, "removed");
    },
  };
}

function matches(filter: Filter): (document: Document) => boolean {
  const wanted = Object.entries(filter) as [FilterField, string | boolean][];
  return (document) => wanted.every(([field, value]) => pick(document, field) === value);
}

function pick(document: object, field: FilterField): unknown {
  return (document as Partial<Record<FilterField, unknown>>)[field];
}

function byAge(a: Document, b: Document): number {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt ? -1 : 1;
  return a.id < b.id ? -1 : 1;
}
