import type { Caller, CallMeta, CallSession } from "../method.ts";
import { IncomingCall } from "../session/calls.ts";
import { testCaller } from "../testing.ts";

interface CallFacts {
  readonly method?: string | undefined;
  readonly args?: readonly unknown[];
  readonly caller?: Partial<Caller>;
  /** A session, or the id of a new one. */
  readonly session?: CallSession | string;
  readonly closed?: AbortSignal;
  readonly timeoutMs?: number | undefined;
  readonly meta?: CallMeta;
}

/** A call as it reaches a kite, without a session that carried it. */
export function testCall({ method = "work", args = [], caller, session = "s", closed, ...rest }: CallFacts = {}): IncomingCall {
  const carrier = typeof session === "string" ? sessionOf(session, closed) : session;
  return new IncomingCall({ method, args, session: carrier, caller: testCaller(caller), ...rest });
}

/** Only what a method that does not call back looks at. */
function sessionOf(id: string, closed = OPEN): CallSession {
  return { id, closed, call: async () => undefined, notify: () => {} } as Partial<CallSession> as CallSession;
}

const OPEN = new AbortController().signal;
