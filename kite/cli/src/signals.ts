/**
 * Ctrl-C, `kill` and a closed window, as one signal for what is under way. `leave` runs once; a second Ctrl-C ends the process
 * without waiting for it. The process then exits as a shell expects: 128 + the signal's number.
 */
export function interrupted(leave: () => unknown, names: readonly (keyof typeof NUMBERS)[] = ["SIGINT", "SIGTERM", "SIGHUP"]): AbortSignal {
  const controller = new AbortController();
  for (const name of names) {
    const number = NUMBERS[name];
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(128 + number);
      process.exitCode = 128 + number;
      controller.abort();
      Promise.resolve(leave()).catch(() => process.exit(128 + number));
    });
  }
  return controller.signal;
}

const NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;

/** Keeps the process until it is disposed of: the library's own waits let a program end that has nothing else to do. */
export function stayAlive(): Disposable {
  const timer = setInterval(() => {}, 3_600_000);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
