import { KiteError } from "./errors.ts";
import type { Identity } from "./identity.ts";
import type { Logger } from "./log.ts";
import type { Call, CallMeta } from "./method.ts";
import type { Serve } from "./session/calls.ts";
import type { SessionCounts } from "./session/counts.ts";
import { isThenable } from "./thenable.ts";
import type { CallThrough, Through } from "./through.ts";

/**
 * Looks at a kite. It is called once, while the kite is made, and answers with what it wants to be told of. A kite without
 * observers pays nothing for them. What an observer throws is logged, and changes nothing for the call; only what `run`
 * throws is the call's.
 *
 * @example
 * const slow: Observer = () => ({
 *   serving: ({ call }) => {
 *     const begin = performance.now();
 *     return { ended: () => { if (performance.now() - begin > 1_000) log.warn({ method: call.method }, "slow") } };
 *   },
 * });
 * const kite = await openKite({ name: "math", version: "1.0.0", methods, observers: [slow] });
 */
export type Observer = (kite: ObservedKite) => Observations;

/** The kite that is looked at. */
export interface ObservedKite {
  readonly identity: Identity;
  /** The sessions that there are at this moment. Not to be asked before the kite has been made. */
  sessions(): Iterable<ObservedSession>;
}

/** A session as it is at this moment. */
export interface ObservedSession {
  /** Whether the peer came here or was dialled from here. */
  readonly direction: "accepted" | "dialled";
  readonly state: "connecting" | "open" | "suspended" | "closed";
  readonly counts: SessionCounts;
}

/** What an observer wants to be told of one kite; every part may be left out. */
export interface Observations {
  /** A call has come in, from whatever dialect, and is answered next. */
  serving?(call: AnsweredCall): Serving | undefined;
  /** A call goes out next. One that is repeated is a new call each time. */
  calling?(call: MadeCall): Calling | undefined;
  /** A function that came from the peer is called next, over kite.v1; its `method` is `function`, since it came without a name. */
  invoking?(call: MadeCall): Calling | undefined;
  /** The peer calls a function that it was sent, over kite.v1; its `method` is the function's own name, if it has one. */
  invoked?(call: AnsweredCall): Serving | undefined;
  /** The kite has closed. Calls that were under way may end after it. */
  closed?(): void;
}

/** A call that this kite answers. */
export interface AnsweredCall {
  /** As its method sees it. */
  readonly call: Call;
  /** Undefined for a name that the kite does not serve: callers can think of any number of those. */
  readonly method: string | undefined;
}

/** How one served call is followed. */
export interface Serving {
  /** Runs the method where its work can be told from other work. It calls `work` once, at once, and answers with its result. */
  run?(work: () => unknown): unknown;
  /** The method has answered or failed. Streams in the result go on after it. */
  ended?(error: KiteError | undefined): void;
}

/** A call that this kite makes. */
export interface MadeCall {
  readonly method: string;
  /** What travels beside the arguments, as far as it is known. */
  readonly meta: CallMeta | undefined;
  /** Who answers. Undefined until the peer was reached for the first time: look again when the call has ended. */
  readonly peer: Identity | undefined;
}

/** How one call that was made is followed. */
export interface Calling {
  /** Travels in place of the call's own. */
  readonly meta?: CallMeta | undefined;
  /** The answer has come, or `error` in its place. */
  ended?(error: KiteError | undefined): void;
}

/** The observers of one kite, as its call path wants them. */
export interface Watch {
  /** The same as `serve`, with every call told; `isServed` tells the methods that there are. */
  serving(serve: Serve, isServed: (method: string) => boolean): Serve;
  /** What the calls of a session with `peer` go through. */
  through(peer: () => Identity | undefined): Through;
  close(): void;
}

/** Lets `observers` look at a kite; undefined without any. The kite closes it. */
export function watchKite(kite: ObservedKite, observers: readonly Observer[], log: Logger): Watch | undefined {
  if (observers.length === 0) return undefined;
  const failed: Failed = (thrown) => log.error({ err: thrown }, "an observer failed");
  const all = observers.map((observer) => told(() => observer(kite), failed) ?? {});
  const serving = all.flatMap((observed) => observed.serving?.bind(observed) ?? []);
  const calling = all.flatMap((observed) => observed.calling?.bind(observed) ?? []);
  const invoking = all.flatMap((observed) => observed.invoking?.bind(observed) ?? []);
  const invoked = all.flatMap((observed) => observed.invoked?.bind(observed) ?? []);
  return {
    serving: (serve, isServed) => (serving.length === 0 ? serve : served(serve, isServed, serving, failed)),
    through: (peer) => ({
      calling: calling.length === 0 ? undefined : made(peer, calling, failed),
      invoking: invoking.length === 0 ? undefined : made(peer, invoking, failed),
      invoked:
        invoked.length === 0 ? undefined : (call, name, work) => answered({ call, method: name || undefined }, work, invoked, failed),
    }),
    close: () => {
      for (const observed of all) told(() => observed.closed?.(), failed);
    },
  };
}

type Failed = (thrown: unknown) => void;

/** What an observer says; one that throws has said nothing. */
function told<T>(ask: () => T, failed: Failed): T | undefined {
  try {
    return ask();
  } catch (thrown) {
    failed(thrown);
    return undefined;
  }
}

type ObserveServing = (call: AnsweredCall) => Serving | undefined;
type ObserveCalling = (call: MadeCall) => Calling | undefined;

function served(serve: Serve, isServed: (method: string) => boolean, observers: readonly ObserveServing[], failed: Failed): Serve {
  return (call) => answered({ call, method: isServed(call.method) ? call.method : undefined }, () => serve(call), observers, failed);
}

function answered(about: AnsweredCall, work: () => unknown, observers: readonly ObserveServing[], failed: Failed): unknown {
  const following: Serving[] = [];
  for (const observe of observers) {
    const serving = told(() => observe(about), failed);
    if (serving !== undefined) following.push(serving);
  }
  let result: unknown;
  try {
    result = within(following, 0, work);
  } catch (thrown) {
    tellEnd(following, KiteError.from(thrown), failed);
    throw thrown;
  }
  if (isThenable(result)) return follow(Promise.resolve(result), following, failed);
  tellEnd(following, undefined, failed);
  return result;
}

/** The first observer is the outermost. */
function within(following: readonly Serving[], index: number, work: () => unknown): unknown {
  for (let at = index; at < following.length; at++) {
    const serving = following[at];
    if (serving?.run !== undefined) return serving.run(() => within(following, at + 1, work));
  }
  return work();
}

function made(peer: () => Identity | undefined, observers: readonly ObserveCalling[], failed: Failed): CallThrough {
  return (method, options, make) => {
    const about = new WatchedCall(method, options.meta, peer);
    const following: Calling[] = [];
    for (const observe of observers) {
      const calling = told(() => observe(about), failed);
      if (calling === undefined) continue;
      following.push(calling);
      about.meta = calling.meta ?? about.meta;
    }
    return follow(make(about.meta === options.meta ? options : { ...options, meta: about.meta }), following, failed);
  };
}

class WatchedCall implements MadeCall {
  readonly method: string;
  meta: CallMeta | undefined;
  readonly #peer: () => Identity | undefined;

  constructor(method: string, meta: CallMeta | undefined, peer: () => Identity | undefined) {
    this.method = method;
    this.meta = meta;
    this.#peer = peer;
  }

  get peer(): Identity | undefined {
    return this.#peer();
  }
}

type Ended = { ended?(error: KiteError | undefined): void };

/** Tells how `answer` ends, before whoever awaits what is returned. */
function follow(answer: Promise<unknown>, following: readonly Ended[], failed: Failed): Promise<unknown> {
  if (following.length > 0) {
    answer.then(
      () => tellEnd(following, undefined, failed),
      (thrown: unknown) => tellEnd(following, KiteError.from(thrown), failed),
    );
  }
  return answer;
}

function tellEnd(following: readonly Ended[], error: KiteError | undefined, failed: Failed): void {
  for (const each of following) told(() => each.ended?.(error), failed);
}
