import { KiteError } from "./errors.ts";
import type { Identity } from "./identity.ts";
import type { Logger } from "./log.ts";
import type { Call, CallMeta, CallOptions } from "./method.ts";
import type { Serve } from "./session/calls.ts";
import type { SessionCounts } from "./session/conversation.ts";
import { isThenable } from "./thenable.ts";

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
  serving?(call: ServedCall): Serving | undefined;
  /** A call goes out next. One that is repeated is a new call each time. */
  calling?(call: MadeCall): Calling | undefined;
  /** The kite has closed. Calls that were under way may end after it. */
  closed?(): void;
}

/** A call that this kite answers. */
export interface ServedCall {
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
  ended?(error: KiteError | undefined): void;
}

/** The observers of one kite, as its call path wants them. */
export interface Watch {
  /** The same as `serve`, with every call told; `isServed` tells the methods that there are. */
  serving(serve: Serve, isServed: (method: string) => boolean): Serve;
  /** What a session makes its calls through; undefined when nobody wants to know. */
  readonly calling: ((peer: () => Identity | undefined) => CallThrough) | undefined;
  close(): void;
}

/** Makes one call while it is looked at: `make` is the call, with the options that it goes out with. */
export type CallThrough = (method: string, options: CallOptions, make: (options: CallOptions) => Promise<unknown>) => Promise<unknown>;

/** Lets `observers` look at a kite; undefined without any. The kite closes it. */
export function watchKite(kite: ObservedKite, observers: readonly Observer[], log: Logger): Watch | undefined {
  if (observers.length === 0) return undefined;
  const guard: Guard = (tell) => {
    try {
      return tell();
    } catch (thrown) {
      log.error({ err: thrown }, "an observer failed");
      return undefined;
    }
  };
  const all = observers.map((observer) => guard(() => observer(kite)) ?? {});
  const serving = all.flatMap(({ serving }) => (serving === undefined ? [] : [serving]));
  const calling = all.flatMap(({ calling }) => (calling === undefined ? [] : [calling]));
  return {
    serving: (serve, isServed) => (serving.length === 0 ? serve : served(serve, isServed, serving, guard)),
    calling: calling.length === 0 ? undefined : (peer) => made(peer, calling, guard),
    close: () => {
      for (const { closed } of all) guard(() => closed?.());
    },
  };
}

/** Asks an observer; one that throws has said nothing. */
type Guard = <T>(tell: () => T) => T | undefined;

type Ended = { ended?(error: KiteError | undefined): void };

function served(
  serve: Serve,
  isServed: (method: string) => boolean,
  observers: readonly NonNullable<Observations["serving"]>[],
  guard: Guard,
): Serve {
  return (call) => {
    const about: ServedCall = { call, method: isServed(call.method) ? call.method : undefined };
    const following: Serving[] = [];
    let work = (): unknown => serve(call);
    for (const observer of observers) {
      const serving = guard(() => observer(about));
      if (serving === undefined) continue;
      following.push(serving);
      if (serving.run !== undefined) work = within(serving, work);
    }
    let result: unknown;
    try {
      result = work();
    } catch (thrown) {
      tellEnd(following, KiteError.from(thrown), guard);
      throw thrown;
    }
    if (!isThenable(result)) {
      tellEnd(following, undefined, guard);
      return result;
    }
    return follow(Promise.resolve(result), following, guard);
  };
}

function within(serving: Serving, work: () => unknown): () => unknown {
  return () => serving.run?.(work);
}

function made(peer: () => Identity | undefined, observers: readonly NonNullable<Observations["calling"]>[], guard: Guard): CallThrough {
  return (method, options, make) => {
    const following: Calling[] = [];
    let { meta } = options;
    const about: MadeCall = {
      method,
      get meta() {
        return meta;
      },
      get peer() {
        return peer();
      },
    };
    for (const observer of observers) {
      const calling = guard(() => observer(about));
      if (calling === undefined) continue;
      following.push(calling);
      meta = calling.meta ?? meta;
    }
    return follow(make(meta === options.meta ? options : { ...options, meta }), following, guard);
  };
}

/** Tells how `answer` ends; whoever awaits it gets it after that. */
function follow(answer: Promise<unknown>, following: readonly Ended[], guard: Guard): Promise<unknown> {
  if (following.length === 0) return answer;
  return answer.then(
    (value) => {
      tellEnd(following, undefined, guard);
      return value;
    },
    (thrown: unknown) => {
      tellEnd(following, KiteError.from(thrown), guard);
      throw thrown;
    },
  );
}

function tellEnd(following: readonly Ended[], error: KiteError | undefined, guard: Guard): void {
  for (const each of following) guard(() => each.ended?.(error));
}
