/** Something with messages to send at the end of the tick. */
export interface Flushable {
  flush(): void;
}

/**
 * Runs `flush` once this tick's work is done, so that everything written meanwhile leaves in one frame. In Node that is
 * when no microtask is left, so also after the methods that only awaited what was there; waiting for the check phase costs
 * two microseconds more. Elsewhere it is a message to oneself, which no timer throttles.
 */
export function flushLater(entry: Flushable): void {
  dirty.push(entry);
  if (dirty.length === 1) defer();
}

let dirty: Flushable[] = [];

function flushAll(): void {
  const entries = dirty;
  dirty = [];
  for (const entry of entries) entry.flush();
}

// Asked for in a microtask, the next tick comes after all of them; asked for outside, it would come before.
const afterMicrotasks = (): void => process.nextTick(flushAll);

const isNode = typeof globalThis.process?.nextTick === "function";

const settled = Promise.resolve();

// Not `queueMicrotask`, which makes an asynchronous resource for each; `afterMicrotasks` does not throw.
const defer: () => void = isNode ? () => void settled.then(afterMicrotasks) : messageToSelf();

function messageToSelf(): () => void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = flushAll;
  return () => port2.postMessage(0);
}
