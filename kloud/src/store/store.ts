import { KiteError } from "@kite-mesh/kite";
import type { Document, MachineDocument, New, OperationDocument, PlanDocument, ResourceDocument, StackDocument } from "./documents.ts";

/**
 * What kloud remembers. It asks little of a database, so that PostgreSQL and MongoDB serve alike: documents are written one
 * at a time, a write names the version that it saw, and a few indexes are unique. Whoever opened a store closes it.
 */
export interface Store {
  readonly stacks: Collection<StackDocument>;
  readonly machines: Collection<MachineDocument>;
  readonly operations: Collection<OperationDocument>;
  readonly resources: Collection<ResourceDocument>;
  readonly plans: Collection<PlanDocument>;
  /** Calls back after every write, by whichever process. The returned function ends it. */
  onChange(listener: (change: Change) => void): () => void;
  close(): Promise<void>;
}

/** Equality on fields that are indexed; every one that is given must match. */
export type Filter = Readonly<Partial<Record<FilterField, string | boolean>>>;
export const FILTER_FIELDS = ["owner", "stackId", "name", "label", "address", "open"] as const;
export type FilterField = (typeof FILTER_FIELDS)[number];

export interface Collection<D extends Document> {
  /** @throws {KiteError} `already_exists` when the id or a unique index is taken. */
  insert(document: New<D>): Promise<D>;
  get(id: string): Promise<D | null>;
  find(filter: Filter): Promise<D[]>;
  /**
   * Writes the document if the stored one still has its version.
   *
   * @throws {KiteError} `conflict` when somebody else wrote or removed it first.
   */
  replace(document: D): Promise<D>;
  /** Removes it if it still has that version; nothing happens when it is gone. @throws {KiteError} `conflict` */
  remove(document: { id: string; version: number }): Promise<void>;
}

/** The names of a store's collections. */
export const COLLECTIONS = ["stacks", "machines", "operations", "resources", "plans"] as const;
export type CollectionName = (typeof COLLECTIONS)[number];

/** No two documents of a collection agree in all of these fields. */
export const UNIQUE: Readonly<Partial<Record<CollectionName, readonly FilterField[]>>> = {
  stacks: ["owner", "name"],
  // A label is the machine's hostname in the mesh: with two of a name, `kite ssh hello` could not tell which.
  machines: ["owner", "label"],
  resources: ["stackId", "address"],
};

/** `resync` says that changes may have been missed: read again whatever you follow. */
export type Change =
  | { type: "written" | "removed"; collection: CollectionName; id: string; owner: string; stackId: string }
  | { type: "resync" };

// Conflicts come from a handful of writers at most; more tries than that mean a bug, not bad luck.
const MAX_TRIES = 32;

/**
 * Reads, changes and writes one document, again and again until nobody was in between. `change` may run several times;
 * it returns null to leave the document as it is. The answer is null when there is no such document.
 */
export async function change<D extends Document>(
  collection: Collection<D>,
  id: string,
  edit: (document: D) => D | null,
): Promise<D | null> {
  for (let attempt = 0; attempt < MAX_TRIES; attempt++) {
    const found = await collection.get(id);
    if (found === null) return null;
    const wanted = edit(found);
    if (wanted === null) return found;
    try {
      return await collection.replace(wanted);
    } catch (thrown) {
      if (KiteError.from(thrown).code !== "conflict") throw thrown;
    }
  }
  throw new KiteError("conflict", `document ${id} was changed by others ${MAX_TRIES} times while it was to be written; try again`);
}

/** Whether the store itself could not be reached, as opposed to having answered no. */
export function isStoreDown(thrown: unknown): boolean {
  return thrown instanceof KiteError && thrown.code === "unavailable" && thrown.reason === STORE_DOWN;
}

/** The `reason` of the `unavailable` error of a store that does not answer. */
export const STORE_DOWN = "store_down";
