/**
 * A controller whose signal is meant to be listened to by many. Node warns of a leak at the eleventh listener of a signal;
 * for those that live as long as a session, with a terminal or a watch per listener, that is a false alarm.
 */
export function sharedController(): AbortController {
  const controller = new AbortController();
  calm?.(controller.signal);
  return controller;
}

let calm: ((signal: AbortSignal) => void) | undefined;

/** From now on, this keeps the runtime from warning of a signal's listeners. Kite in Node says how; a browser has no such warning. */
export function calmSignals(quieten: (signal: AbortSignal) => void): void {
  calm ??= quieten;
}
