/** Thrown in a worker whose operation another worker has taken up, or may take up at any moment: it must stop and touch nothing. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
}

/**
 * The document, marked as written by the worker with this fence.
 *
 * @throws {LeaseLost} when a later worker has written it: what this one knows is out of date.
 */
export function fenced<D extends { readonly id: string; readonly fence: number }>(document: D, fence: number): D {
  if (document.fence <= fence) return { ...document, fence };
  throw new LeaseLost(`document ${document.id} was written under fence ${document.fence}, this worker has ${fence}`);
}

/** Whether a worker must leave its operation to another one, instead of calling it failed. */
export function isLeaseLost(thrown: unknown): boolean {
  return thrown instanceof LeaseLost;
}
