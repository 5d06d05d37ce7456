import { KiteError } from "./errors.ts";

/** What one peer may send or keep open on one session. Each limit names itself in the error that it causes. */
export interface Limits {
  /** Bytes in one frame; half of what a transport takes in. What is larger than a small part of it travels in pieces. */
  readonly frameBytes: number;
  /** Bytes in one message: a call with its arguments, a result, a chunk of a stream. */
  readonly messageBytes: number;
  /** Bytes of all messages together that have begun to arrive in pieces; of those that wait to be sent in pieces, as many may wait. */
  readonly reassemblyBytes: number;
  /** Messages that have begun to arrive in pieces. */
  readonly parcels: number;
  /** How deep arrays and objects may be nested in one value. */
  readonly depth: number;
  /** Calls that wait for an answer, in each direction; notifications that are at work count as well. */
  readonly pendingCalls: number;
  /** Functions that one side holds for the other. */
  readonly callbacks: number;
  /** Unanswered invocations of one function; further ones wait here for their turn, in order. */
  readonly callbackCredit: number;
  /** Streams that are open in one direction. */
  readonly streams: number;
  /** How much of a stream may be on its way, by weight: bytes and characters, and 32 for each chunk. Of the two sides' the smaller holds. */
  readonly streamWindow: number;
  /** Frames kept for replay until the peer has acknowledged them, in bytes; calls and streams wait beyond, twice as much ends the session. */
  readonly unackedBytes: number;
  /** Transports on one kite whose peer has not yet shown who it is; also, of sessions without a credential, how many may wait for their peer. */
  readonly unauthenticated: number;
  /** Sessions on one kite whose peer showed no credential. */
  readonly strangers: number;
  /** Of those, from one address; of IPv6, from one /64. */
  readonly strangersPerSource: number;
  /**
   * Bytes that a peer without a credential may have in one message, in all messages that arrive in pieces, and in the windows
   * of all its streams; see {@link strangerLimits}.
   */
  readonly strangerBytes: number;
  /** Milliseconds for a peer to say hello after its socket opened. */
  readonly helloMs: number;
}

/** The limits of a kite that says nothing else; `new Kite({ limits })` replaces some of them. */
export const LIMITS: Limits = {
  // Sixteen MiB: far more than a tick gathers, and still no mistake that takes the process down.
  frameBytes: 16 * 1024 * 1024,
  // 256 MiB: an artifact or a core dump fits; half of what V8 can hold in one string.
  messageBytes: 256 * 1024 * 1024,
  // Room for a second one of the largest, so that one transfer does not keep all others waiting.
  reassemblyBytes: 512 * 1024 * 1024,
  parcels: 64,
  depth: 100,
  pendingCalls: 16_384,
  callbacks: 10_000,
  // Enough to fill any link with small events; what waits beyond costs the fast side's memory, not the slow one's.
  callbackCredit: 1_024,
  streams: 1_000,
  // One MiB fills a link of 100 Mbit/s at 80 ms; more only moves memory to the slower side.
  streamWindow: 1024 * 1024,
  unackedBytes: 64 * 1024 * 1024,
  unauthenticated: 1_000,
  // Each holds half a MiB at most: half a GiB when all of them try.
  strangers: 1_000,
  // An office behind one address signs in at the same time, and leaves room for everybody else.
  strangersPerSource: 250,
  // Far more than a person's name and password; what is larger is worth a credential.
  strangerBytes: 256 * 1024,
  helloMs: 10_000,
};

/** The error for a limit that was reached; it says which one, what it is and what came. */
export function limitError(limit: keyof Limits, limits: Limits, came: string): KiteError {
  return new KiteError("limit_exceeded", `the limit ${limit} is ${limits[limit]}; ${came}`, { details: { limit, allowed: limits[limit] } });
}

/** What holds for a session whose peer showed no credential: anybody may open one, so it must not hold much. */
export function strangerLimits(limits: Limits): Limits {
  const { strangerBytes, messageBytes, reassemblyBytes, streamWindow, unackedBytes } = limits;
  return {
    ...limits,
    messageBytes: Math.min(messageBytes, strangerBytes),
    reassemblyBytes: Math.min(reassemblyBytes, strangerBytes),
    parcels: Math.min(limits.parcels, STRANGER_PARCELS),
    streams: Math.min(limits.streams, STRANGER_STREAMS),
    streamWindow: Math.min(streamWindow, Math.ceil(strangerBytes / STRANGER_STREAMS)),
    pendingCalls: Math.min(limits.pendingCalls, STRANGER_CALLS),
    callbacks: Math.min(limits.callbacks, STRANGER_CALLBACKS),
    // A few answers of the largest size, which this side has written itself.
    unackedBytes: Math.min(unackedBytes, 4 * strangerBytes),
  };
}

const STRANGER_PARCELS = 4;
const STRANGER_STREAMS = 8;
const STRANGER_CALLS = 64;
const STRANGER_CALLBACKS = 256;

/** What each side tells the other in the handshake that it takes in; what is left out is as {@link LIMITS} has it. */
export type AgreedLimits = Readonly<Record<(typeof AGREED)[number], number>>;

const AGREED = ["streamWindow", "messageBytes", "reassemblyBytes", "parcels"] as const;

/** What each of the limits that are agreed is by `limit`. */
export function eachAgreed(limit: (name: keyof AgreedLimits) => number): AgreedLimits {
  return Object.fromEntries(AGREED.map((name) => [name, limit(name)])) as Record<keyof AgreedLimits, number>;
}

/** Of two sides' limits the smaller ones: what is sent must suit whoever takes it in. */
export function agreedLimits(here: AgreedLimits, there: AgreedLimits): AgreedLimits {
  return eachAgreed((name) => Math.min(here[name], there[name]));
}
