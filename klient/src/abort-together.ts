/**
 * A signal that follows several, until it is released. `AbortSignal.any` cannot be released: on Node 20 each use leaves a
 * trace in its sources, and one of ours lives as long as a caller's session.
 */
export function abortTogether(sources: readonly AbortSignal[]): { signal: AbortSignal; release: () => void } {
  const together = new AbortController();
  const listeners = sources.map((source) => ({ source, listener: () => together.abort(source.reason) }));
  for (const { source, listener } of listeners) {
    if (source.aborted) listener();
    else source.addEventListener("abort", listener, { once: true });
  }
  const release = () => {
    for (const { source, listener } of listeners) source.removeEventListener("abort", listener);
  };
  return { signal: together.signal, release };
}
