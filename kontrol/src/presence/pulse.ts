import { createHash, randomUUID, timingSafeEqual } from "node:crypto";

/** What a beat says of the process that sent it, in milliseconds. */
export interface Loop {
  /** For how long its event loop has been standing still as it beat; 0 when it turns. */
  readonly blockedMs: number;
  /** The longest time that it stood still since the beat before. */
  readonly lagMs: number;
}

/** The socket over which a kite beats. */
export interface BeatLink {
  end(why: "replaced" | "ended" | "silent"): void;
}

// Four to a beat: those of a process that comes back from a pause, and a few connections that were lost.
const BURST = 4;

/**
 * The beats of one registration: when the last one came and what it said, and the ticket that opens a socket for more. It
 * lives as long as the registration, so the ticket of an earlier one opens nothing.
 */
export class Pulse {
  /** By a clock that never jumps. */
  lastBeatMs: number;
  /** What the last beat said; undefined for one that came over the session, which says nothing. */
  loop: Loop | undefined;
  /** Whether the session, too, was asked for a sign of life, and gave none; see `SessionSigns`. */
  sign: "asked" | "silent" | undefined;
  askedAtMs = Number.NEGATIVE_INFINITY;
  /** The socket that beats now. */
  link: BeatLink | undefined;
  readonly #heartbeatMs: number;
  #ticketHash: Buffer | undefined;
  #room = BURST;
  #roomAtMs: number;

  constructor(heartbeatMs: number, nowMs: number) {
    this.#heartbeatMs = heartbeatMs;
    this.lastBeatMs = nowMs;
    this.#roomAtMs = nowMs;
  }

  /** A new secret with which this registration's process opens its socket; only the hash is kept. */
  makeTicket(): string {
    // Random, and node keeps randomness for many of these: to ask the system for each takes as long as all the rest of a ticket.
    const ticket = randomUUID();
    this.#ticketHash = hashOf(ticket);
    return ticket;
  }

  isOpenedBy(ticket: string): boolean {
    return this.#ticketHash !== undefined && timingSafeEqual(hashOf(ticket), this.#ticketHash);
  }

  /** Whether another message may come now; four for each beat are many more than a kite of good will sends. */
  hasRoom(nowMs: number): boolean {
    this.#room = Math.min(BURST, this.#room + ((nowMs - this.#roomAtMs) / this.#heartbeatMs) * BURST);
    this.#roomAtMs = nowMs;
    return this.#room >= 1;
  }

  /** Counts one message; false when there were too many. */
  take(nowMs: number): boolean {
    if (!this.hasRoom(nowMs)) return false;
    this.#room -= 1;
    return true;
  }

  /** How it is, as part of a sentence: "last beat 3 s ago; its event loop has been blocked for 4.8 s". */
  describe(nowMs: number): string {
    const said = `last beat ${seconds(nowMs - this.lastBeatMs)} ago${this.sign === "silent" ? "; its session answers nothing" : ""}`;
    if (this.loop === undefined) return said;
    const { blockedMs, lagMs } = this.loop;
    if (blockedMs > 0) return `${said}; its event loop has been blocked for ${seconds(blockedMs)}`;
    return lagMs >= WORTH_SAYING_MS ? `${said}; its event loop was blocked for ${seconds(lagMs)} before it` : said;
  }
}

// What collecting garbage takes now and then is nobody's concern.
const WORTH_SAYING_MS = 250;

/** For people: `0.4 s`, `4.8 s`, `31 s`. */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 9_950 ? 1 : 0)} s`;
}

function hashOf(ticket: string): Buffer {
  return createHash("sha256").update(ticket).digest();
}
