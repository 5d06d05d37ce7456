import { KiteError } from "./errors.ts";

/** What one peer may send or keep open on one session. Each limit names itself in the error that it causes. */
export interface Limits {
  /** Bytes in one frame. Both sides refuse more, and the sender does not try. */
  readonly frameBytes: number;
  /** How deep arrays and objects may be nested in one value. */
  readonly depth: number;
  /** Calls that wait for an answer, in each direction; notifications that are at work count as well. */
  readonly pendingCalls: number;
  /** Functions that one side holds for the other. */
  readonly callbacks: number;
  /** Streams that are open in one direction. */
  readonly streams: number;
  /** How much of a stream may be on its way, by weight; see `wire/values.ts`. Both sides must have the same: a larger one breaks the smaller. */
  readonly streamWindow: number;
  /** Frames kept for replay until the peer has acknowledged them, in bytes; calls and streams wait beyond, twice as much ends the session. */
  readonly unackedBytes: number;
  /** Transports on one kite whose peer has not yet shown who it is; also, of sessions without a credential, how many may wait for their peer. */
  readonly unauthenticated: number;
  /** Time for a peer to say hello after its socket opened. */
  readonly helloMs: number;
}

export const LIMITS: Limits = {
  // Sixteen MiB: a large file chunk or directory listing fits, a mistake does not take the process down.
  frameBytes: 16 * 1024 * 1024,
  depth: 100,
  pendingCalls: 16_384,
  callbacks: 10_000,
  streams: 1_000,
  // One MiB fills a link of 100 Mbit/s at 80 ms; more only moves memory to the slower side.
  streamWindow: 1024 * 1024,
  unackedBytes: 64 * 1024 * 1024,
  unauthenticated: 1_000,
  helloMs: 10_000,
};

/** The error for a limit that was reached; it says which one, what it is and what came. */
export function limitError(limit: keyof Limits, limits: Limits, came: string): KiteError {
  return new KiteError("limit_exceeded", `the limit ${limit} is ${limits[limit]}; ${came}`, { details: { limit, allowed: limits[limit] } });
}
