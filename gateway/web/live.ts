/** A value that changes, and tells those who look. */
export interface Live<T> {
  readonly value: T;
  /** Calls `observe` now and after every change; returns the way to stop. */
  observe(observe: (value: T) => void): () => void;
}

export interface Changing<T> extends Live<T> {
  set(value: T): void;
}

export function live<T>(initial: T): Changing<T> {
  let current = initial;
  const observers = new Set<(value: T) => void>();
  return {
    get value() {
      return current;
    },
    set(value) {
      if (value === current) return;
      current = value;
      for (const observer of observers) observer(value);
    },
    observe(observer) {
      observers.add(observer);
      observer(current);
      return () => observers.delete(observer);
    },
  };
}
