/**
 * A controller whose signal is meant to be listened to by many. Node warns of a leak at the eleventh listener of a signal;
 * for those that live as long as a session, with a terminal or a watch per listener, that is a false alarm.
 */
export function sharedController(): AbortController {
  const controller = new AbortController();
  events?.setMaxListeners(0, controller.signal);
  return controller;
}

// Asked for at run time: a browser has no such module, and no such warning.
const events = (globalThis.process as NodeJS.Process | undefined)?.getBuiltinModule?.("node:events");
