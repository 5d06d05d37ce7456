/** A promise that somebody else settles. (`Promise.withResolvers` needs Node 22.) */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

export function deferred<T>(): Deferred<T> {
  let settle: Omit<Deferred<T>, "promise"> | undefined;
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject };
  });
  // The executor has run by now.
  return { promise, ...(settle as unknown as Omit<Deferred<T>, "promise">) };
}
