import { KiteError } from "../errors.ts";
import type { RawFrame } from "../wire/v1.ts";

/**
 * What carries frames, in order, until it closes. It does not know what is in them. Whoever made a transport, or was
 * given it, closes it; closing twice is allowed, and `closed` is told exactly once after `start`. Neither `send` nor
 * `close` throws: what cannot be sent any more is dropped, and the session sends it again over the next transport.
 */
export interface Transport {
  /** Begins to deliver. Frames that came before are delivered first. */
  start(receiver: TransportReceiver): void;
  /**
   * Sends a frame. `taken` is told when its bytes are not needed any more, neither here nor by the peer, so that they may be
   * written over; a transport that cannot know that, such as one that passes them on as they are, never tells.
   */
  send(frame: RawFrame, taken?: () => void): void;
  /** Closes it behind what was sent, with a code of {@link CLOSE} or of WebSocket. */
  close(code: number, reason: string): void;
  /** Bytes that were sent but not yet taken by the network. */
  readonly bufferedBytes: number;
  /** The address that the peer dials from, where the transport knows it. Left out in memory, and through a relay. */
  readonly remoteAddress?: string | undefined;
  /** The peer has shown a credential that is good: it may fill more of this side's memory than a stranger. */
  admit?(): void;
}

/** Who takes what a transport carries. */
export interface TransportReceiver {
  /** A frame has come, in order. */
  frame(frame: RawFrame): void;
  /** Nothing comes any more; told once, with the code and reason that the WebSocket or its like was closed with. */
  closed(why: { code: number; reason: string }): void;
}

/** The `reason` of a dial that failed because nothing listens at the address. */
export const REFUSED = "refused";
/** The `reason` of a dial of kite.v1 that failed because a kite of the original's listens there. */
export const ORIGINAL = "original";

/** Close codes of kite, in WebSocket's range for applications. */
export const CLOSE = {
  /** The session has ended on purpose. */
  goodbye: 4000,
  /** The peer broke the rules of the protocol. */
  protocolError: 4001,
  /** Who the peer is could not be verified. */
  unauthenticated: 4002,
  /** The peer said nothing for too long. */
  silent: 4003,
  /** The same session went on over a newer transport. */
  replaced: 4004,
} as const;

/**
 * What a WebSocket accepts as its close code and reason: a code of its own range, and at most 123 bytes of UTF-8 (RFC 6455,
 * 5.5 and 7.4). Anything else makes `close` throw, and a reason may quote what a stranger sent.
 */
export function closeArguments(code: number, reason: string): [code: number, reason: string] {
  // Whole characters: the half of one is no UTF-8.
  const characters = [...reason.slice(0, MAX_REASON_BYTES)];
  while (encoder.encode(characters.join("")).length > MAX_REASON_BYTES) characters.pop();
  const sendable = code === 1000 || (code >= 3000 && code <= 4999);
  return [sendable ? code : CLOSE.goodbye, characters.join("")];
}

const MAX_REASON_BYTES = 123;
const encoder = new TextEncoder();

/** What a transport has closed with, as an error. */
export function connectionLost(code: number, reason: string): KiteError {
  return new KiteError("unavailable", `the connection was lost (${code}${reason === "" ? "" : `: ${reason}`})`);
}
